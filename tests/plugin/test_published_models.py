"""The models that people have: a row for each, served exactly or refused in a sentence.

A model here has random weights and few layers, and of the published config all that its rotation
depends on: head dimension, theta, partial rotation, factors, lengths. The rows are printed at the
end (`pytest -s`).
"""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from longrope_factors.factor_file import hf, schema, shipped
from longrope_factors.factor_file.errors import FactorFileError
from longrope_factors.factor_file.schema import FactorFile
from longrope_server.serve.command import compose
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    LlamaConfig,
)

from tests import published_models as published
from tests.plugin.engine import engine, generate, random_prompts, scheduler, tokens
from tests.plugin.image_processing import import_model
from tests.plugin.models import VOCABULARY, TinyModel, draw_wide, random_factor_file
from tests.plugin.reference import Reference

DOCUMENT = Path(__file__).parents[2] / "docs" / "architectures.md"
SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 128,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    **{"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2},
    "tie_word_embeddings": False,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
VISION = {"depth": 1, "hidden_size": 32, "num_heads": 2, "intermediate_size": 32}
VISION["out_hidden_size"] = SMALL["hidden_size"]
ROUNDING = 0.06  # of the largest logit, in bfloat16
QWENS = {
    "Qwen3-4B, Qwen3-8B": (
        published.QWEN3_8B,
        {"num_attention_heads": 4, "num_key_value_heads": 1},
    ),
    "Qwen3-32B": (published.QWEN3_32B, {"num_attention_heads": 8, "num_key_value_heads": 1}),
    "Qwen3-235B-A22B": (
        published.QWEN3_235B_A22B,
        {"num_attention_heads": 16, "num_key_value_heads": 1, **EXPERTS},
    ),
}
MUCH_ALIKE = ("Qwen3-32B", "Phi-4-mini")
# Of the shipped file's sets; the factors stay those of 32,768, 65,536 and 131,072 tokens.
SHORTER = (64, 128, 256)


@pytest.fixture(scope="module")
def rows() -> Iterator[dict[str, str]]:
    """The outcome of each model, printed as a table after the last one."""
    found: dict[str, str] = {}
    yield found
    width = max(map(len, found), default=0)
    print("\n" + "\n".join(f"{name:{width}}  {outcome}" for name, outcome in found.items()))


def tiny(directory: Path, config: dict[str, Any], **changes: Any) -> Path:
    """A model directory: random weights, and the published config but for its sizes."""
    small = {**config, **SMALL, **changes}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(_read(small), dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=1.0 if "embed" in name else parameter.shape[1] ** -0.5 * 1.5)
    model.save_pretrained(directory)
    (directory / "config.json").write_text(json.dumps(small))
    return directory


def _read(config: dict[str, Any]) -> Any:
    """The config as transformers reads it from a file, old spellings and all."""
    return AutoConfig.for_model(**json.loads(json.dumps(config)))


def served(directory: Path, *words: str) -> tuple[TinyModel, dict[str, Any]]:
    """What `longrope serve` hands to vLLM: the factor file, and the overrides."""
    line = compose([str(directory), *words]).words
    overrides = json.loads(line[line.index("--hf-overrides") + 1])
    named = hf.named_file(overrides)
    file = schema.load(named) if named else hf.two_list(hf.read_config(directory))
    return TinyModel(directory, file), overrides


def of_config(directory: Path, **changes: Any) -> torch.nn.Module:
    """Hugging Face's model of that directory, under a changed config."""
    config = _read({**hf.read_config(directory), **changes})
    model = AutoModelForCausalLM.from_pretrained(directory, config=config, dtype=torch.float32)
    return model.eval()


def static_yarn(directory: Path, file: FactorFile) -> Reference:
    """Hugging Face's model: the plain one for the first set, static YaRN's for the others."""
    models = {0: of_config(directory)}
    for index in range(1, len(file.sets)):
        rope = {**published.YARN, "factor": 2.0**index}
        models[index] = of_config(directory, rope_scaling=rope)
    return Reference(directory, file, native=True, models=models)


def shortened(path: Path, architecture: str) -> Path:
    """The shipped Qwen file with shorter sets, to be reached by short prompts."""
    file = schema.load(shipped.path("qwen3-yarn"))
    sets = []
    for factor_set, limit in zip(file.sets, SHORTER, strict=True):
        # What yarn makes of so short a window is something else.
        provenance = factor_set.provenance.model_copy(update={"method": "published"})
        changes = {"max_length": limit, "provenance": provenance}
        sets.append(factor_set.model_copy(update=changes))
    changes = {"architecture": architecture, "original_max_position_embeddings": SHORTER[0]}
    schema.save(schema.build(file.model.model_copy(update=changes), sets), path)
    return path


def expect_exact(reference: Reference, prompts: list[list[int]], outputs: list[list[int]]) -> None:
    for prompt, output in zip(prompts, outputs, strict=True):
        reference.expect(prompt, output)
    assert reference.excused <= reference.compared // 20


def row(name: str) -> Any:
    """A row by its name; one that is much like another is left to `-m slow`."""
    return pytest.param(name, marks=[pytest.mark.slow] if name in MUCH_ALIKE else [])


@pytest.mark.parametrize("name", [row(name) for name in QWENS])
def test_qwen_with_yarn(name: str, rows: dict[str, str], tmp_path: Path) -> None:
    """Each request as the plain model, or the one with static YaRN of its set's factor."""
    config, changes = QWENS[name]
    directory = tiny(tmp_path / "model", config, **changes)
    file = shortened(tmp_path / "shorter.json", config["architectures"][0])
    said = json.dumps({"original_max_position_embeddings": SHORTER[0]})
    model, overrides = served(directory, "--factors", str(file), "--hf-overrides", said)
    prompts = random_prompts([10, 60, 64, 65, 120, 128, 129, 200], seed=6)
    with engine(model, hf_overrides=overrides) as llm:
        outputs = tokens(generate(llm, prompts, max_tokens=12))
        promotions = scheduler(llm).promotions
    assert promotions == 4
    reference = static_yarn(directory, model.factor_file)
    expect_exact(reference, prompts, outputs)
    rows[name] = f"exact: as plain and as static YaRN in transformers, {reference.compared} tokens"


@pytest.mark.slow
def test_prompts_around_32768_tokens(rows: dict[str, str], tmp_path: Path) -> None:
    """The shipped file as it is: up to 32,768 the plain model's tokens, beyond static YaRN's."""
    small = {"hidden_size": 64, "num_attention_heads": 1, "num_key_value_heads": 1}
    directory = tiny(tmp_path, published.QWEN3_8B, **small, num_hidden_layers=1)
    model, overrides = served(directory, "--factors", "qwen3-yarn")
    assert model.limits == [32768, 65536, 131072]
    prompts = random_prompts([32768 - 4, 32769, 100], seed=7)
    long = {"max_num_batched_tokens": 4096, "max_model_len": 40000}
    with engine(model, hf_overrides=overrides, **long) as llm:
        outputs = tokens(generate(llm, prompts, max_tokens=8))
        assert scheduler(llm).promotions == 1
    reference = static_yarn(directory, model.factor_file)
    expect_exact(reference, prompts, outputs)
    # The other rotation would have been noticed.
    other = reference.logits([*prompts[1], *outputs[1]][:-1], 0, 8).argmax(-1).tolist()
    assert other != outputs[1]
    rows["Qwen3, 32,764 to 32,777 tokens"] = f"exact: {reference.compared} tokens"


# Two lists of a published config, served around the original length.
TWO_LISTS: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    # Config, sizes, and whether Hugging Face's own module is the reference.
    "Phi-3-mini": (
        published.PHI_3_MINI,
        {"hidden_size": 192, "num_attention_heads": 2, "num_key_value_heads": 2},
        True,
    ),
    "Phi-4-mini": (
        published.PHI_4_MINI,
        {"hidden_size": 384, "num_attention_heads": 3, "num_key_value_heads": 1},
        True,
    ),
    # transformers never takes PhiMoE's long list; the reference is the authors' rule.
    "Phi-3.5-MoE": (
        published.PHI_3_5_MOE,
        {
            **{"hidden_size": 256, "num_attention_heads": 2, "num_key_value_heads": 1},
            "num_local_experts": 4,
        },
        False,
    ),
}


@pytest.mark.parametrize("name", [row(name) for name in TWO_LISTS])
def test_two_lists(name: str, rows: dict[str, str], tmp_path: Path) -> None:
    config, sizes, native = TWO_LISTS[name]
    directory = tiny(tmp_path, config, **sizes)
    line = compose([str(directory)])
    file = hf.two_list(hf.read_config(directory))
    model = TinyModel(directory, file)
    assert model.limits == [4096, 131072]
    assert "4,096, 131,072 tokens" in line.notes[0]
    prompts = random_prompts([10, 4094, 4097], seed=8)
    long = {"max_num_batched_tokens": 1024, "max_model_len": 5000}
    with engine(model, **long) as llm:
        outputs = tokens(generate(llm, prompts, max_tokens=5))
        assert scheduler(llm).promotions == 1
    reference = Reference(directory, file, native=native)
    expect_exact(reference, prompts, outputs)
    by = "transformers" if native else "the authors' rule; transformers never takes the long list"
    rows[name] = f"exact: {reference.compared} tokens as by {by}"


LATENT = {"q_lora_rank": 32, "kv_lora_rank": 32, "qk_nope_head_dim": 16, "v_head_dim": 32}


@pytest.mark.slow
def test_minicpm3(rows: dict[str, str], tmp_path: Path) -> None:
    """Both lists are alike and the config states no length beyond them, so there is one set.

    transformers (5.19) needs a `factor`, which the published config does not have.
    """
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4}
    rope = {**published.MINICPM3_4B["rope_scaling"], "factor": 1.0}
    config = {**published.MINICPM3_4B, "rope_scaling": rope}
    directory = tiny(tmp_path, config, **heads, **LATENT)
    saved = hf.read_config(directory)
    file = hf.two_list(saved)
    assert [factor_set.max_length for factor_set in file.sets] == [32768]
    reference = Reference(directory, file, native=True)
    saved["rope_scaling"] = published.MINICPM3_4B["rope_scaling"]
    (directory / "config.json").write_text(json.dumps(saved))
    assert hf.two_list(saved) == file
    prompts = random_prompts([10, 500, 1000], seed=9)
    with engine(TinyModel(directory, file), max_model_len=2048) as llm:
        outputs = tokens(generate(llm, prompts, max_tokens=10))
    expect_exact(reference, prompts, outputs)
    rows["MiniCPM3-4B"] = f"exact: {reference.compared} tokens as by transformers; one set, 32,768"


@pytest.mark.slow
def test_minicpm4(rows: dict[str, str], tmp_path: Path) -> None:
    """Its configuration is remote code. With scales of 1 its computation is Llama's."""

    class MiniCPMConfig(LlamaConfig):
        model_type = "minicpm"

    AutoConfig.register("minicpm", MiniCPMConfig, exist_ok=True)
    llama = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    heads = {"hidden_size": 512, "num_attention_heads": 4, "num_key_value_heads": 1}
    directory = tiny(tmp_path, {**published.MINICPM4_8B, **llama}, **heads)
    file = hf.two_list(hf.read_config(directory))
    reference = Reference(directory, file, native=True)
    scales = {"scale_emb": 1, "scale_depth": math.sqrt(2), "dim_model_base": 512}
    config = {**hf.read_config(directory), **scales}
    config |= {name: published.MINICPM4_8B[name] for name in llama}
    (directory / "config.json").write_text(json.dumps(config))
    model = TinyModel(directory, hf.two_list(config))
    prompts = random_prompts([10, 500, 1000], seed=9)
    with engine(model, max_model_len=2048) as llm:
        outputs = tokens(generate(llm, prompts, max_tokens=10))
    expect_exact(reference, prompts, outputs)
    rows["MiniCPM4-8B"] = f"exact: {reference.compared} tokens as by transformers; one set, 32,768"


def test_qwen3_5(rows: dict[str, str], tmp_path: Path) -> None:
    """Linear attention, which does not rotate, before three layers that rotate a quarter.

    vLLM's linear attention takes bfloat16 alone on a CPU, so a token may be off by its rounding.
    """
    import_model("qwen3_5")
    published_text = published.QWEN3_5_9B["text_config"]
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    linear = {"linear_num_key_heads": 1, "linear_num_value_heads": 2}
    layers = {"num_hidden_layers": 4, "layer_types": published_text["layer_types"][2:4]}
    layers["layer_types"] += ["full_attention"] * 2
    text = {**published_text, **SMALL, **heads, **linear, **layers}
    config = {**published.QWEN3_5_9B, "text_config": text, "vision_config": VISION}
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(_read(config), dtype=torch.bfloat16)
    draw_wide(model)
    with torch.no_grad():  # peaked attention, in which a rotation of a quarter is seen
        for name, parameter in model.named_parameters():
            if name.endswith(("q_norm.weight", "k_norm.weight")):
                parameter.fill_(1.0)
    model.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    file = random_factor_file(
        64, [64, 128, 256], architecture=config["architectures"][0], theta=1e7
    )
    path = tmp_path / "shorter.json"
    schema.save(file, path)
    said = json.dumps({"text_config": {"original_max_position_embeddings": 64}})
    _, overrides = served(tmp_path, "--factors", str(path), "--hf-overrides", said)
    prompts = random_prompts([10, 60, 64, 65, 120, 128, 129, 200], seed=6)
    text_alone = {"limit_mm_per_prompt": {"image": 0, "video": 0}, "dtype": "bfloat16"}
    with engine(TinyModel(tmp_path, file), hf_overrides=overrides, **text_alone) as llm:
        outputs = tokens(generate(llm, prompts, max_tokens=12))
        assert scheduler(llm).promotions == 4
    reference = Reference(tmp_path, file, rounding=ROUNDING)
    for prompt, output in zip(prompts, outputs, strict=True):
        reference.expect(prompt, output)
    # Beyond the first set's window, rounding does not explain the tokens under the first set.
    longer = zip(prompts[3:], outputs[3:], strict=True)
    wrong = sum(reference.refused(prompt, output, 0) for prompt, output in longer)
    print(f"{reference.excused} excused, {wrong} wrong under the first set")
    assert wrong >= 10
    rows["Qwen3.5-9B"] = (
        f"exact: all but {reference.excused} of {reference.compared} tokens as by transformers in "
        "float32"
    )


def test_refused(rows: dict[str, str], tmp_path: Path) -> None:
    name, config = "Qwen2.5-7B-1M", published.QWEN2_5_7B_1M
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(FactorFileError) as caught:
        compose([str(tmp_path), "--factors", "qwen3-yarn"])
    rows[name] = f"refused: {caught.value}"
    assert f'| {name} | refused: "{caught.value}" |' in DOCUMENT.read_text()


def test_the_document_has_every_row(rows: dict[str, str]) -> None:
    names = re.findall(r"^\| ([^|]+?) \| (?:exact|refused)", DOCUMENT.read_text(), re.MULTILINE)
    assert rows.keys() <= set(names)
