"""What a fine-tune leaves: a model directory that servers load, or an adapter."""

from pathlib import Path
from typing import Any

from longrope_factors import hf, interchange, loading, schema
from longrope_factors.finetuning import job as jobs
from longrope_factors.finetuning import trainable
from longrope_factors.finetuning.job import Job

FACTORS = "factors.json"
ADAPTER = "adapter"


def write(job: Job, trained: dict[str, Any]) -> list[str]:
    """Write the weights, tokenizer, config and factor file into the output folder.

    `trained` are the trained tensors by their names in the model. A LoRA run leaves its adapter in
    ADAPTER, with --merge beside the merged model, else in the output folder itself. The base model
    is loaded again, on the CPU, so that neither sharding nor the device's memory matters. Gives
    what the config cannot say of the factor file, in sentences.
    """
    import torch

    settings, folder = job.settings, job.settings.output
    model = loading.load(settings.model, "cpu", settings.dtype).model
    tuned = trainable.prepare(model, settings.lora, settings.embeddings)
    unexpected = model.load_state_dict(trained, strict=False).unexpected_keys
    assert not unexpected, unexpected
    if settings.lora is not None:
        # The directory that it was loaded from is no one else's; the name says which model it is.
        tuned.peft_config["default"].base_model_name_or_path = job.identity.name
        # modules_to_save has the embeddings where they were trained; "auto" would ask a hub.
        place = folder / ADAPTER if settings.merge else folder
        tuned.save_pretrained(place, save_embedding_layers=False)
        (place / "README.md").unlink()  # an empty form, with the directory's path in it
    factor_file = jobs.result_factors(job)
    schema.save(factor_file, folder / FACTORS)
    lost: list[str] = []
    if settings.merge:
        if settings.lora is not None:
            model = tuned.merge_and_unload()
        model.to(getattr(torch, settings.dtype)).save_pretrained(folder)
        lost = _write_config(job, factor_file, folder / "config.json")
    job.tokenizer.save_pretrained(folder)
    return lost


def _write_config(job: Job, factor_file: schema.FactorFile, path: Path) -> list[str]:
    config, lost = interchange.hf_config(hf.read_config(job.settings.model), factor_file)
    config.pop("torch_dtype", None)
    config |= {"dtype": job.settings.dtype, "longrope_factors": FACTORS}
    interchange.write_config(config, path)
    return lost
