"""Adapters that a factor file names: those that can be served, and why the others are refused."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from longrope_factors.cli import app
from longrope_factors.factor_file import model_directory, schema
from longrope_factors.factor_file.adapters import adapter_files
from longrope_factors.factor_file.schema import FactorFileError
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from tests.factors import adapters, finetuning

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
Spoil = Callable[[Path], Any]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return adapters.beside_a_model(tmp_path_factory.mktemp("adapters"))


@pytest.fixture
def place(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "place"))


def name_again(place: Path, **changes: Any) -> None:
    """Let the factor file say of the adapter what its folder holds, but for `changes`."""
    model = place / "model"
    found = adapters.named(place / "adapter", model, **changes)
    schema.save(adapters.factor_file(model, found), place / adapters.FACTORS)


def config(**changes: Any) -> Spoil:
    """The adapter's config with these fields; None leaves one out."""

    def spoil(place: Path) -> None:
        path = place / "adapter" / CONFIG
        content = {**json.loads(path.read_text()), **changes}
        path.write_text(json.dumps({key: value for key, value in content.items() if value != DROP}))

    return spoil


DROP = "left out"


def tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Spoil:
    """The adapter with its tensors changed; the factor file has the hash of what is there."""

    def spoil(place: Path) -> None:
        path = place / "adapter" / WEIGHTS
        content = load_file(path)
        change(content)
        save_file(content, path)
        name_again(place)

    return spoil


def written_by_peft(**changes: Any) -> Spoil:
    def spoil(place: Path) -> None:
        shutil.rmtree(place / "adapter")
        found = adapters.save(place / "model", place / "adapter", **changes)
        schema.save(adapters.factor_file(place / "model", found), place / adapters.FACTORS)

    return spoil


def another_model(**changes: Any) -> Spoil:
    """The model directory is another one's."""

    def spoil(place: Path) -> None:
        shutil.rmtree(place / "model")
        finetuning.tiny_model(place / "model", **changes)

    return spoil


def link(name: str) -> Spoil:
    """`name` in the factor file's folder is a link to where it lay outside."""

    def spoil(place: Path) -> None:
        outside = place.parent / "outside"
        shutil.move(place / name, outside)
        (place / name).symlink_to(outside)

    return spoil


def as_bin(place: Path) -> None:
    path = place / "adapter" / WEIGHTS
    torch.save(load_file(path), path.with_name("adapter_model.bin"))
    path.unlink()


def no_safetensors(content: bytes) -> Spoil:
    def spoil(place: Path) -> None:
        (place / "adapter" / WEIGHTS).write_bytes(content)
        name_again(place, rank=adapters.RANK)

    return spoil


def other_tensors_of_the_base(place: Path) -> None:
    """The model with one number changed."""
    model = AutoModelForCausalLM.from_pretrained(place / "model")
    with torch.no_grad():
        model.model.norm.weight[0] += 1
    model.save_pretrained(place / "model")


Q, DOWN = "model.layers.1.self_attn.q_proj", "model.layers.0.mlp.down_proj"
A, B = (f"base_model.model.{Q}.lora_{part}.weight" for part in "AB")
EMBEDDING = "base_model.model.model.embed_tokens"
ZEROS = torch.zeros(32)

REFUSED: dict[str, tuple[Spoil, str]] = {
    "no folder": (lambda place: shutil.rmtree(place / "adapter"), "is not a folder"),
    "a file as folder": (
        lambda place: (
            shutil.rmtree(place / "adapter"),
            (place / "adapter").write_text(""),
        ),
        "is not a folder",
    ),
    "no weights": (lambda place: (place / "adapter" / WEIGHTS).unlink(), f"{WEIGHTS}: is missing."),
    "weights as .bin": (as_bin, "adapter_model.bin is not read, save it as safetensors"),
    "no config": (lambda place: (place / "adapter" / CONFIG).unlink(), f"{CONFIG}: is missing."),
    "folder a link that leaves": (link("adapter"), "outside; it should lie in the factor file's"),
    "weights a link that leaves": (link(f"adapter/{WEIGHTS}"), "it should lie in the factor"),
    "config a link that leaves": (link(f"adapter/{CONFIG}"), "it should lie in the factor file's"),
    "a link to itself": (
        lambda place: (
            shutil.rmtree(place / "adapter"),
            (place / "adapter").symlink_to("adapter"),
        ),
        "is not a folder",
    ),
    "empty weights": (no_safetensors(b""), "is not a safetensors file"),
    "weights of text": (no_safetensors(b"version https://git-lfs"), "is not a safetensors file"),
    "half a header": (no_safetensors(b"\x40\0\0\0\0\0\0\0{"), "is not a safetensors file"),
    "other hash": (
        lambda place: name_again(place, sha256="0" * 64),
        "but the factor file says 0000000000",
    ),
    "weights changed later": (
        lambda place: save_file(
            {name: tensor + 1 for name, tensor in load_file(place / "adapter" / WEIGHTS).items()},
            place / "adapter" / WEIGHTS,
        ),
        "has the hash",
    ),
    "other rank": (lambda place: name_again(place, rank=8), "has r 4, but the factor file says"),
    "config no JSON": (
        lambda place: (place / "adapter" / CONFIG).write_text("r: 4"),
        "is not valid JSON",
    ),
    "config a list": (lambda place: (place / "adapter" / CONFIG).write_text("[4]"), "peft_type"),
    "another kind of adapter": (config(peft_type="LOHA"), 'has peft_type "LOHA"'),
    "no rank": (config(r=None), "has r null"),
    "rank of 0": (config(r=0), "has r 0; it should be a rank from 1 to 512"),
    "rank of 1,024": (config(r=1024), "has r 1024; it should be a rank from 1 to 512"),
    "rank in words": (config(r="4"), 'has r "4"'),
    "no alpha": (config(lora_alpha=None), "has lora_alpha null"),
    "no targets": (config(target_modules=DROP), "has no target_modules"),
    "DoRA": (written_by_peft(use_dora=True), "has use_dora true, but vLLM does not serve DoRA"),
    "norms": (written_by_peft(modules_to_save=["input_layernorm"]), "has modules_to_save"),
    "norms by stealth": (
        tensors(lambda weights: weights.update({"base_model.model.model.norm.weight": ZEROS})),
        "has the tensor base_model.model.model.norm.weight",
    ),
    "embeddings": (
        tensors(
            lambda weights: weights.update({f"{EMBEDDING}.lora_embedding_A": torch.zeros(4, 128)})
        ),
        f"has the tensor {EMBEDDING}.lora_embedding_A, but vLLM serves only",
    ),
    "output head": (
        tensors(
            lambda weights: weights.update(
                {
                    "base_model.model.lm_head.lora_A.weight": torch.zeros(4, 32),
                    "base_model.model.lm_head.lora_B.weight": torch.zeros(128, 4),
                }
            )
        ),
        "has the tensor base_model.model.lm_head.lora_A.weight",
    ),
    "biases": (config(bias="lora_only"), 'has bias "lora_only"'),
    "biases of its own": (config(lora_bias=True), "has lora_bias true"),
    "parameters": (config(target_parameters=["mlp.experts"]), "has target_parameters"),
    "trained tokens": (config(trainable_token_indices=[0]), "has trainable_token_indices [0]"),
    "replicated layers": (config(layer_replication=[[0, 2]]), "has layer_replication"),
    "ranks by pattern": (config(rank_pattern={"q_proj": 2}), "has rank_pattern"),
    "PiSSA": (config(init_lora_weights="pissa_niter_4"), "changes the base model's weights"),
    "another lora_alpha": (
        config(lora_alpha=16),
        "has lora_alpha / r as 4, but the factor file says scale 2.",
    ),
    "rsLoRA's scale": (config(use_rslora=True), "has lora_alpha / r as 4, but"),
    "no tensors": (tensors(dict.clear), "has no tensors"),
    "A alone": (tensors(lambda weights: weights.pop(B)), f"has no lora_B for {Q}"),
    "B alone": (tensors(lambda weights: weights.pop(A)), f"has no lora_A for {Q}"),
    "whole numbers": (
        tensors(lambda weights: weights.update({A: weights[A].to(torch.int8)})),
        "as I8",
    ),
    "a vector": (tensors(lambda weights: weights.update({A: torch.zeros(32)})), "as F32 [32]"),
    "tensors of another rank": (
        tensors(lambda weights: weights.update({A: torch.zeros(2, 32)})),
        f"has lora_A [2, 32] and lora_B [32, 4] for {Q}; at rank 4 they should be [4, 32]",
    ),
}
REFUSED_FOR_THE_MODEL: dict[str, tuple[Spoil, str]] = {
    "other base": (other_tensors_of_the_base, "was trained on weights with the hash"),
    "named another base": (
        lambda place: name_again(place, base_sha256="0" * 64),
        "was trained on weights with the hash 0000000000",
    ),
    "transposed": (
        tensors(
            lambda weights: weights.update(
                {
                    f"base_model.model.{DOWN}.lora_A.weight": torch.zeros(4, 32),
                    f"base_model.model.{DOWN}.lora_B.weight": torch.zeros(64, 4),
                }
            )
        ),
        f"is for [64, 32] weights of {DOWN}, but those",
    ),
    "a wider model": (another_model(intermediate_size=128), "weights of model.layers.0.mlp."),
    "fewer layers": (another_model(num_hidden_layers=1), "is for model.layers.1."),
    "a module that is not there": (
        tensors(
            lambda weights: weights.update(
                {
                    A.replace("q_proj", "qkv_proj"): torch.zeros(4, 32),
                    B.replace("q_proj", "qkv_proj"): torch.zeros(64, 4),
                }
            )
        ),
        "is for model.layers.1.self_attn.qkv_proj, which",
    ),
    "a norm": (
        tensors(
            lambda weights: weights.update(
                {
                    A.replace("self_attn.q_proj", "input_layernorm"): torch.zeros(4, 32),
                    B.replace("self_attn.q_proj", "input_layernorm"): torch.zeros(32, 4),
                }
            )
        ),
        "is for [32, 32] weights of model.layers.1.input_layernorm, but those",
    ),
}

WRITTEN_BY_PEFT: list[dict[str, Any]] = [
    {},
    {"use_rslora": True},
    {"init_lora_weights": "gaussian"},
    {"target_modules": ["q_proj"]},
    {"r": 512, "lora_alpha": 0.5},
    {"r": 1, "target_modules": ["o_proj"], "layers_to_transform": [1]},
]


def refusal(place: Path, model: Path | None = None) -> str:
    """Why the adapter is refused, checked to be one sentence that names the file and the set."""
    path = place / adapters.FACTORS
    with pytest.raises(FactorFileError) as caught:
        adapter_files.check(schema.load(path), path, model)
    message = str(caught.value)
    assert message.startswith(f"{path}: sets[1] (max_length 64): adapter: {place / 'adapter'}")
    assert message.endswith(".")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", REFUSED)
def test_an_adapter_that_cannot_be_served(name: str, place: Path) -> None:
    spoil, reason = REFUSED[name]
    spoil(place)
    assert reason in refusal(place)


@pytest.mark.parametrize("name", REFUSED_FOR_THE_MODEL)
def test_an_adapter_of_another_model(name: str, place: Path) -> None:
    spoil, reason = REFUSED_FOR_THE_MODEL[name]
    spoil(place)
    path = place / adapters.FACTORS
    adapter_files.check(schema.load(path), path)
    assert reason in refusal(place, place / "model")


@pytest.mark.parametrize("changes", WRITTEN_BY_PEFT, ids=str)
def test_an_adapter_of_peft_is_taken(changes: dict[str, Any], place: Path) -> None:
    written_by_peft(**changes)(place)
    path = place / adapters.FACTORS
    adapter_files.check(schema.load(path), path, place / "model")


def test_the_folder_is_beside_the_factor_file(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.parent)
    path = Path("place", adapters.FACTORS)
    factor_file = schema.load(path)
    found = factor_file.sets[1].adapter
    assert found is not None
    assert adapter_files.folder(found, path) == place / "adapter"
    adapter_files.check(factor_file, path, Path("place", "model"))


def test_links_within_the_folder_are_followed(place: Path) -> None:
    (place / "adapter").rename(place / "there")
    (place / "adapter").symlink_to("there")
    path = place / adapters.FACTORS
    adapter_files.check(schema.load(path), path, place / "model")


def test_a_snapshot_of_the_hubs_cache_is_read(place: Path, tmp_path: Path) -> None:
    """huggingface_hub keeps the files of a snapshot as links into the blobs beside it."""
    snapshot, blobs = tmp_path / "snapshots" / "0123", tmp_path / "blobs"
    blobs.mkdir()
    shutil.move(place, snapshot)
    for number, path in enumerate(sorted(snapshot.rglob("*.*"))):
        shutil.move(path, blobs / str(number))
        path.symlink_to(os.path.relpath(blobs / str(number), path.parent))
    path = snapshot / adapters.FACTORS
    adapter_files.check(schema.load(path), path, snapshot / "model")


def test_a_checkpoint_may_have_another_prefix_and_several_files(place: Path) -> None:
    model = place / "model"
    content = load_file(model / "model.safetensors")
    names = sorted(content)
    halves = names[: len(names) // 2], names[len(names) // 2 :]
    (model / "model.safetensors").unlink()
    weight_map = {}
    for number, half in enumerate(halves, start=1):
        file = f"model-0000{number}-of-00002.safetensors"
        renamed = {name.removeprefix("model."): content[name] for name in half}
        save_file(renamed, model / file)
        weight_map |= dict.fromkeys(renamed, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    name_again(place)
    path = place / adapters.FACTORS
    adapter_files.check(schema.load(path), path, model)


def test_shapes_of_quantized_weights_are_not_compared(place: Path) -> None:
    model = place / "model"
    content = load_file(model / "model.safetensors")
    for name in list(content):
        if "proj" in name:
            stem = name.removesuffix("weight")
            content[f"{stem}qweight"] = torch.zeros(3, 5, dtype=torch.int32)
            content[f"{stem}scales"] = torch.zeros(1, 5, dtype=torch.float16)
            del content[name]
    save_file(content, model / "model.safetensors")
    name_again(place)
    path = place / adapters.FACTORS
    adapter_files.check(schema.load(path), path, model)


def test_validate_and_show(place: Path) -> None:
    path, model = place / adapters.FACTORS, place / "model"
    runner = CliRunner()
    found = runner.invoke(app, ["validate", str(path), "--model", str(model)])
    assert found.exit_code == 0, found.output
    assert found.stdout == (
        f"{path}: 2 sets for model: 32 original, 64 ntk with an adapter of rank 4.\n"
    )
    shown = runner.invoke(app, ["show", str(path)]).stdout
    assert "64: adapter of rank 4 in adapter, sha256 " in shown
    described = json.loads(runner.invoke(app, ["show", str(path), "--json"]).stdout)
    assert [factor_set["adapter"] for factor_set in described["sets"]] == [
        None,
        {
            "folder": "adapter",
            "sha256": adapters.named(place / "adapter", model).sha256,
            "rank": 4,
            "scale": 2.0,
            "base_sha256": model_directory.weights_sha256(model),
        },
    ]


@pytest.mark.parametrize("command", ["validate", "overrides"])
@pytest.mark.parametrize("name", ["norms", "other hash", "no weights", "other base"])
def test_commands_refuse_it(command: str, name: str, place: Path) -> None:
    spoil, reason = (REFUSED | REFUSED_FOR_THE_MODEL)[name]
    spoil(place)
    path, model = place / adapters.FACTORS, place / "model"
    found = CliRunner().invoke(app, [command, str(path), "--model", str(model)])
    assert found.exit_code == 2
    assert found.stdout == ""
    assert found.stderr.startswith(f"longrope: {path}: sets[1] (max_length 64): adapter: ")
    assert reason in found.stderr


@pytest.mark.parametrize(
    ("to", "sentence"),
    [
        ("hf", "A Hugging Face config names no adapter: the set of 64 is for weights with the one"),
        ("gguf", "A GGUF file names no adapter: the set of 64 is for weights with the one in"),
        ("csv", "without provenance and its adapter in adapter."),
    ],
)
def test_export_says_that_the_adapter_is_lost(to: str, sentence: str, place: Path) -> None:
    model = ["--model", str(place / "model")] if to == "hf" else []
    arguments = ["export", str(place / adapters.FACTORS), "--to", to, *model]
    found = CliRunner().invoke(app, [*arguments, "-o", str(place / "exported")])
    assert found.exit_code == 0, found.output
    assert sum(sentence in line for line in found.stderr.splitlines()) == 1


def test_a_search_keeps_adapters_only_beside_the_new_file(place: Path) -> None:
    text = finetuning.text(place / "text.txt", 100)
    arguments = [
        *("search", "--model", str(place / "model"), "--length", "64", "--corpus", str(text)),
        *("--keep", str(place / adapters.FACTORS)),
    ]
    output = place / "elsewhere" / "found.json"
    found = CliRunner().invoke(app, [*arguments, "-o", str(output)])
    assert found.exit_code == 2
    assert f"{output}: sets[1] (max_length 64): adapter: {output.parent / 'adapter'}: is no" in (
        found.stderr
    )
