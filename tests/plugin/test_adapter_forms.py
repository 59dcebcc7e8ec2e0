"""Adapters that a factor file may name are those that vLLM's own loader takes."""

from pathlib import Path
from typing import Any

import pytest
from longrope_factors.factor_file import schema
from longrope_factors.factor_file.adapters import adapter_files, adapter_weights

from tests.factors import adapters
from tests.factors.test_adapter import (
    REFUSED,
    WRITTEN_BY_PEFT,
    place,  # noqa: F401
    saved,  # noqa: F401
    written_by_peft,
)

LINEAR = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


@pytest.mark.parametrize("changes", WRITTEN_BY_PEFT, ids=str)
def test_vllm_loads_what_is_taken(changes: dict[str, Any], place: Path) -> None:  # noqa: F811
    from vllm.config.lora import LoRAConfig
    from vllm.lora.lora_model import LoRAModel
    from vllm.lora.peft_helper import PEFTHelper

    written_by_peft(**changes)(place)
    path, folder = place / adapters.FACTORS, place / "adapter"
    adapter_files.check(schema.load(path), path, place / "model")
    config = PEFTHelper.from_local_dir(str(folder), None)
    config.validate_legal(LoRAConfig(max_lora_rank=512))
    loaded = LoRAModel.from_local_checkpoint(str(folder), LINEAR, config, device="cpu")
    assert {
        name: (lora.lora_b.shape[0], lora.lora_a.shape[1]) for name, lora in loaded.loras.items()
    } == adapter_weights.shapes(folder / adapter_files.WEIGHTS, config.r)


@pytest.mark.parametrize(
    ("name", "reason", "since"),
    [
        ("rank of 0", "must be a positive integer", 28),
        ("rank of 1,024", "greater than max_lora_rank", 24),
        ("DoRA", "DoRA", 24),
        ("norms", "modules_to_save", 24),
        ("biases", "bias is not supported", 24),
        ("biases of its own", "lora_bias", 32),
        ("PiSSA", "init_lora_weights", 32),
    ],
)
def test_vllm_refuses_it_too(
    name: str,
    reason: str,
    since: int,
    place: Path,  # noqa: F811
) -> None:
    """`since`: the minor version of vLLM; older ones serve such an adapter wrongly, in silence."""
    import vllm
    from vllm.config.lora import LoRAConfig
    from vllm.lora.peft_helper import PEFTHelper

    if vllm.__version_tuple__[:2] < (0, since):
        pytest.skip(f"before 0.{since} only we refuse it")
    spoil, _ = REFUSED[name]
    spoil(place)
    with pytest.raises(ValueError, match=reason):
        PEFTHelper.from_local_dir(str(place / "adapter"), None).validate_legal(
            LoRAConfig(max_lora_rank=512)
        )
