"""The result of a fine-tune: an adapter and the factor file that names it, or a model directory."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from longrope_factors.factor_file import hf, schema, weight_files
from longrope_factors.factor_file.adapters import adapter_files
from longrope_factors.factor_file.schema import Adapter
from longrope_factors.finetuning import jobs, trainable
from longrope_factors.finetuning.jobs import Job
from longrope_factors.finetuning.journal import Step
from longrope_factors.formats import two_lists
from longrope_factors.models import loading

FACTORS = "factors.json"
ADAPTER = "adapter"


def write(job: Job, trained: dict[str, Any], kept: Step | None) -> list[str]:
    """Write the factor file to the output folder, with the adapter, a whole model, or both.

    `trained` has the trained tensors by their names in the model; they are those of the step `kept`
    if a check chose it. A LoRA run leaves its adapter in ADAPTER; unless it is merged, the factor
    file names it. The base model is loaded again on the CPU, so that sharding and the device's
    memory do not matter. Returns what the config of a whole model loses of the factor file, in
    sentences.
    """
    import torch

    settings, folder = job.settings, job.settings.output
    model = loading.load(settings.model, "cpu", job.dtype).model
    tuned = trainable.prepare(model, settings)
    unexpected = model.load_state_dict(trained, strict=False).unexpected_keys
    assert not unexpected, unexpected
    if settings.lora is not None:
        if settings.writes_adapter:
            _as_stored(tuned, hf.read_config(settings.model))
        config = tuned.peft_config["default"]
        # The model's name instead of the directory on this machine that it was loaded from.
        config.base_model_name_or_path = job.identity.name
        # peft has a set, whose order differs from process to process.
        config.target_modules = sorted(config.target_modules)
        # Trained embeddings are in modules_to_save; the default, "auto", would query the hub.
        tuned.save_pretrained(folder / ADAPTER, save_embedding_layers=False)
        # peft's README is an empty template that contains the model directory's path.
        (folder / ADAPTER / "README.md").unlink()
    _copy_lower_adapters(job)
    factor_file = jobs.result_factors(job, _adapter(job) if settings.writes_adapter else None, kept)
    schema.save(factor_file, folder / FACTORS)
    if settings.writes_adapter:
        return []
    if settings.merge:
        model = tuned.merge_and_unload()
    _save_whole(model.to(getattr(torch, job.dtype)), settings.model, folder)
    job.tokenizer.save_pretrained(folder)
    return _write_config(job, factor_file, folder / "config.json")


def _save_whole(model: Any, own: Path, folder: Path) -> None:
    """Write the weights, with the generation defaults of the directory `own` as they are there.

    transformers reads defaults that contradict each other, as several published models' do, but
    refuses to write them.
    """
    defaults = own / "generation_config.json"
    if defaults.is_file():
        model.generation_config = type(model.generation_config)()
    model.save_pretrained(folder)
    if defaults.is_file():
        shutil.copyfile(defaults, folder / defaults.name)


def _as_stored(tuned: Any, config: Mapping[str, Any]) -> None:
    """Convert the trained weights to the dtype of the model's own, in which a server computes."""
    import torch

    stored = config.get("dtype") or config.get("torch_dtype") or "float32"
    for parameter in tuned.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(getattr(torch, stored))


def _copy_lower_adapters(job: Job) -> None:
    """Copy the adapters of the sets below the trained one, as `jobs.result_factors` names them."""
    settings = job.settings
    for factor_set in job.factor_file.sets[: job.factor_file.select(settings.length)]:
        if factor_set.adapter is not None:
            source = adapter_files.folder(factor_set.adapter, settings.factors)
            target = settings.output / jobs.lower_adapter(factor_set)
            target.mkdir(exist_ok=True)
            for name in (adapter_files.CONFIG, adapter_files.WEIGHTS):
                shutil.copyfile(source / name, target / name)


def _adapter(job: Job) -> Adapter:
    assert job.settings.lora is not None
    return Adapter(
        folder=ADAPTER,
        sha256=weight_files.sha256([job.settings.output / ADAPTER / adapter_files.WEIGHTS]),
        rank=job.settings.lora,
        scale=trainable.SCALE,
        base_sha256=job.record["weights_sha256"],
    )


def _write_config(job: Job, factor_file: schema.FactorFile, path: Path) -> list[str]:
    config, lost = two_lists.hf_config(hf.read_config(job.settings.model), factor_file)
    config.pop("torch_dtype", None)
    config |= {"dtype": job.dtype, "longrope_factors": FACTORS}
    two_lists.write_config(config, path)
    return lost
