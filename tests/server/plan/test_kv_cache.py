"""Bytes of keys and values."""

import importlib.util
from pathlib import Path

import pytest
from longrope_server.errors import UsageError

from tests.server.plan import configs
from tests.server.plan.configs import cache_of, shape

TWO_MILLION = 2_097_152
GIB = 2**30
FULL, SLIDING = ["full_attention"], ["sliding_attention"]


@pytest.mark.parametrize(
    ("name", "a_token"),
    [
        ("LLaMA2-7B", 524_288),  # 512 KiB
        ("Mistral-7B", 131_072),  # 128 KiB
        ("Phi-3-mini-128k", 393_216),  # 384 KiB
        ("SmolLM2-135M", 23_040),  # 22.5 KiB
    ],
)
def test_bytes_of_a_token_by_hand(name: str, a_token: int) -> None:
    assert cache_of(configs.ALL[name]).bytes_per_token == a_token
    assert cache_of(configs.ALL[name], "fp8").bytes_per_token == a_token // 2


@pytest.mark.parametrize(
    ("name", "dtype", "a_token", "gib"),
    [
        ("LLaMA2-7B", "auto", 2 * 32 * 32 * 128 * 2, 1024),
        ("Mistral-7B", "auto", 2 * 32 * 8 * 128 * 2, 256),
        ("Mistral-7B", "fp8", 2 * 32 * 8 * 128, 128),
        ("SmolLM2-135M", "bf16", 2 * 30 * 3 * 64 * 2, 45),
        ("MiniCPM4-8B", "auto", 2 * 32 * 2 * 128 * 2, 64),
    ],
)
def test_two_million_tokens(name: str, dtype: str, a_token: int, gib: int) -> None:
    cache = cache_of(configs.ALL[name], dtype)
    assert cache.bytes_per_token == a_token
    assert cache.request_bytes(TWO_MILLION, in_flight=0) == gib * GIB


def test_phi_3_sees_its_whole_window() -> None:
    """Its sliding window is twice its length, so only the one block more is left of it."""
    cache = cache_of(configs.PHI_3_MINI_128K)
    assert cache.bytes_per_token == 2 * 32 * 32 * 96 * 2
    assert cache.request_bytes(131072, in_flight=4096) == (131072 + 16) * cache.bytes_per_token


def test_a_window_bounds_the_cache() -> None:
    cache = cache_of(configs.MISTRAL_7B, sliding_window=4096)
    bounded = (4096 - 1 + 2048 + 1) // 16 + 1
    assert cache.blocks(TWO_MILLION, in_flight=2048) == bounded
    assert cache.blocks(100, in_flight=2048) == 7 + 1
    assert cache.longest(bounded, in_flight=2048) == 2**31 - 1
    assert cache.longest(bounded - 1, in_flight=2048) == (bounded - 2) * 16


def test_a_mistral_without_the_field_has_the_window_that_transformers_gives_it() -> None:
    config = {name: value for name, value in configs.MISTRAL_7B.items() if "sliding" not in name}
    assert set(shape(config).windows) == {4096}


@pytest.mark.parametrize(
    ("changes", "windowed"),
    [
        ({}, 0),
        ({"use_sliding_window": True}, 0),
        ({"use_sliding_window": True, "max_window_layers": 0}, 28),
        ({"use_sliding_window": True, "layer_types": ["sliding_attention"] * 28}, 28),
        ({"use_sliding_window": True, "layer_types": FULL * 21 + SLIDING * 7}, 7),
        ({"max_window_layers": 21}, 0),  # without use_sliding_window nothing has one
    ],
)
def test_the_windows_of_qwen(changes: dict[str, object], windowed: int) -> None:
    windows = shape(configs.QWEN2_7B, **changes).windows
    assert [window for window in windows if window is not None] == [131072] * windowed
    assert windows[: 28 - windowed] == (None,) * (28 - windowed)


def test_a_qwen_that_vllm_refuses_is_refused() -> None:
    """Qwen2Model asserts it; the other way to say the same, above, it takes."""
    with pytest.raises(UsageError, match=r"some layers only and max_window_layers 21.*is 28"):
        shape(configs.QWEN2_7B, use_sliding_window=True, max_window_layers=21)
    source = Path(importlib.util.find_spec("vllm").origin).parent / "model_executor/models/qwen2.py"
    assert "config.max_window_layers == config.num_hidden_layers" in source.read_text()


def test_context_parallelism_divides_the_tokens() -> None:
    cache = cache_of(configs.MINICPM4_8B)
    assert cache.blocks(TWO_MILLION, 0, dcp=4) == TWO_MILLION // 4 // 16
    assert cache.layer_token_bytes(tp=8) == cache.layer_token_bytes() // 2  # one head of two


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--kv-dtype is 'int3'.*auto, bf16"):
        cache_of(configs.LLAMA2_7B, "int3")
