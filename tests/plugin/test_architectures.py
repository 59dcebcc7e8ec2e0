"""Which architectures are served exactly, and how: docs/architectures.md, row by row.

A tiny random model of each architecture, in the form of its real configuration, is served with
three sets. Its greedy tokens equal Hugging Face's around every limit, or start-up is refused in a
sentence.
"""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, LlamaConfig

from tests.plugin.conftest import ON_GPU, ON_V2
from tests.plugin.engine import engine, generate, random_prompts, tokens
from tests.plugin.models import TinyModel, tiny_model
from tests.plugin.reference import Layout, Reference

OWN = "vLLM's own"
TRANSFORMERS = "transformers"
DOCUMENT = Path(__file__).parents[2] / "docs" / "architectures.md"

EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
QWEN_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
FULL_ATTENTION = {"layer_types": ["full_attention"] * 2}
LATENT = {
    "q_lora_rank": 32,
    "kv_lora_rank": 32,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 32,
    "v_head_dim": 32,
    "num_key_value_heads": 4,
}
SCALED_ATTENTION = {"llama_4_scaling": {"original_max_position_embeddings": 16, "beta": 0.1}}


@dataclass(frozen=True)
class Architecture:
    """A row: a model's name and configuration, and which implementation serves it.

    rotated: the partial_rotary_factor. layout: of a position's angles in Hugging Face's module.
    slow: much like another row, and left to `-m slow`.
    """

    name: str
    model_type: str
    fields: dict[str, Any] = field(default_factory=dict)
    served: str = OWN
    rotated: float = 1.0
    layout: Layout = "halves"
    slow: bool = False


SERVED = [
    Architecture("Llama", "llama"),
    Architecture("Mistral", "mistral", {"sliding_window": None}),
    Architecture("Mixtral", "mixtral", {**EXPERTS, "sliding_window": None}, slow=True),
    Architecture("Qwen2", "qwen2", slow=True),
    Architecture("Qwen3", "qwen3"),
    Architecture("Qwen3-MoE", "qwen3_moe", QWEN_EXPERTS),
    Architecture("Phi-3", "phi3"),
    Architecture("Phi-4-mini", "phi3", rotated=0.75),
    Architecture("MiniCPM3", "minicpm3", LATENT),
    Architecture("SmolLM3", "smollm3", served=TRANSFORMERS),
    Architecture("OLMo", "olmo", served=TRANSFORMERS),
    Architecture("OLMo 2", "olmo2", served=TRANSFORMERS, slow=True),
    Architecture("OLMoE", "olmoe", {"num_experts": 4, "num_experts_per_tok": 2}, slow=True),
    Architecture(
        "GPT-NeoX", "gpt_neox", {"num_key_value_heads": 4}, served=TRANSFORMERS, rotated=0.25
    ),
    Architecture("Gemma", "gemma", {"tie_word_embeddings": True}),
    Architecture("Cohere", "cohere", {"tie_word_embeddings": True}, layout="interleaved"),
    Architecture("GLM", "glm", served=TRANSFORMERS, rotated=0.5),
    Architecture("GLM-4", "glm4", rotated=0.5, slow=True),
    Architecture("Granite", "granite", slow=True),
]


@pytest.mark.parametrize(
    "architecture",
    [
        pytest.param(row, id=row.name, marks=[pytest.mark.slow] if row.slow else [])
        for row in SERVED
    ],
)
def test_served_exactly(architecture: Architecture, tmp_path: Path) -> None:
    model = tiny_model(
        tmp_path,
        architecture.model_type,
        partial_rotary_factor=architecture.rotated,
        **architecture.fields,
    )
    reference = Reference(model.directory, model.factor_file, layout=architecture.layout)
    assert_exact(model, reference, served=architecture.served)


@pytest.mark.parametrize("name", ["llama", "cohere"])
def test_served_through_transformers_as_well(name: str, tmp_path: Path) -> None:
    """`--model-impl transformers`, of models that vLLM has an implementation of."""
    architecture = next(row for row in SERVED if row.model_type == name)
    model = tiny_model(tmp_path, name, **architecture.fields)
    reference = Reference(model.directory, model.factor_file, layout=architecture.layout)
    assert_exact(model, reference, served=TRANSFORMERS, model_impl="transformers")


def test_two_lists_through_transformers(tmp_path: Path) -> None:
    """No factor file: the reference is Hugging Face's own longrope, not our formula."""
    model = tiny_model(tmp_path, "phi3", limits=(64, 256), two_lists=True)
    reference = Reference(model.directory, model.factor_file, native=True)
    assert_exact(model, reference, served=TRANSFORMERS, model_impl="transformers")


def test_minicpm4(tmp_path: Path) -> None:
    """Its configuration is remote code. With scales of 1 its computation is Llama's."""

    class MiniCPMConfig(LlamaConfig):
        model_type = "minicpm"

    AutoConfig.register("minicpm", MiniCPMConfig)
    model = tiny_model(tmp_path, architecture="MiniCPMForCausalLM")
    reference = Reference(model.directory, model.factor_file)
    config = MiniCPMConfig.from_pretrained(model.directory)
    config.update({"scale_emb": 1, "scale_depth": math.sqrt(2), "dim_model_base": 128})
    config.save_pretrained(model.directory)
    assert_exact(model, reference, served=OWN)


def test_mscales_of_phi_moe(tmp_path: Path) -> None:
    """Two lists and two scales, unequal; transformers' own module never takes the long list."""
    model = tiny_model(
        tmp_path,
        "phimoe",
        limits=(64, 256),
        two_lists=True,
        architecture="PhiMoEForCausalLM",
        sliding_window=None,
        attention_bias=True,
        lm_head_bias=True,
        **EXPERTS,
    )
    short, long = (factor_set.attention_factor for factor_set in model.factor_file.sets)
    assert short != long
    assert_exact(model, Reference(model.directory, model.factor_file), served=OWN)


@pytest.mark.parametrize(
    ("model_type", "fields", "sentence"),
    [
        ("mistral", SCALED_ATTENTION, r"reads positions in model\.layers\.0\.self_attn"),
        ("gpt2", {"max_position_embeddings": 256}, r"reads positions in transformer\.wpe"),
        (
            "opt",
            {"max_position_embeddings": 256, "word_embed_proj_dim": 128},
            r"reads positions in model\.decoder\.embed_positions",
        ),
        (
            "qwen2",
            {"dual_chunk_attention_config": {"chunk_size": 64, "local_size": 8}},
            "dual_chunk_attention_config, by which a token's position depends on the chunk",
        ),
        ("gemma3_text", {}, "layers rotate differently"),
        ("olmo3", {}, "layers rotate differently"),
    ],
)
def test_refused(model_type: str, fields: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    model = tiny_model(tmp_path, model_type, **fields)
    with pytest.raises(ValueError, match=sentence), engine(model):
        pass


@pytest.mark.skipif(ON_V2 and not ON_GPU, reason="compiling for V2 needs a GPU")
def test_transformers_compiled(tmp_path: Path) -> None:
    """The last one: vLLM changes transformers' classes for it."""
    model = tiny_model(tmp_path, "arcee")
    reference = Reference(model.directory, model.factor_file)
    compiled = {"enforce_eager": False, "compilation_config": {}}
    assert_exact(model, reference, served=TRANSFORMERS, **compiled)


def assert_exact(model: TinyModel, reference: Reference, served: str, **arguments: Any) -> None:
    with engine(model, **arguments) as llm:
        core = llm.llm_engine.engine_core.engine_core
        loaded = core.model_executor.driver_worker.model_runner.get_model()
        prompts = random_prompts([10, 60, 64, 65, 100, 140], seed=6)
        outputs = tokens(generate(llm, prompts, max_tokens=12))
    assert type(loaded).__name__.startswith("Transformers") == (served == TRANSFORMERS)
    assert len({token for output in outputs for token in output}) > 20, "tells nothing apart"
    for prompt, output in zip(prompts, outputs, strict=True):
        reference.expect(prompt, output)
    assert reference.excused <= reference.compared // 20


def test_document_has_every_row() -> None:
    rows = re.findall(r"^\| ([^|]+?) \| ([^|]+?) \|", DOCUMENT.read_text(), re.MULTILINE)
    assert {(row.name, row.served) for row in SERVED} <= set(rows)
