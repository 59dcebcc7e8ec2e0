"""Operations, traffic and memory of a prompt and a token, by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from longrope_server.plan import cost, units
from longrope_server.plan.gpus import GIB, parse
from longrope_server.plan.layouts import Layout

from tests.server.plan import configs
from tests.server.plan.configs import cache_of, shape, weights_of


def test_linear_operations_are_two_for_each_weight() -> None:
    weights = weights_of(configs.LLAMA2_7B)
    layers = 32 * (4 * 4096**2 + 3 * 4096 * 11008)
    assert cost.linear_flops(weights, 1000) == 2 * 1000 * layers + 2 * 32000 * 4096


def test_attention_operations_are_the_causal_half() -> None:
    assert cost.attention_flops(shape(configs.LLAMA2_7B), 3) == 4 * 32 * 4096 * (1 + 2 + 3)


@given(tokens=st.integers(1, 100), window=st.integers(1, 100))
def test_a_window_bounds_what_a_token_sees(tokens: int, window: int) -> None:
    model = shape(configs.MISTRAL_7B, sliding_window=window)
    seen = sum(min(position, window) for position in range(1, tokens + 1))
    assert cost.attention_flops(model, tokens) == 4 * 32 * 4096 * seen


def test_prefill_is_spread_over_the_gpus() -> None:
    gpu = parse("H100", 1).gpu
    seconds = cost.prefill_seconds(989 * 10**12, gpu, Layout(4, 2, 1), utilisation=0.5)
    assert seconds == pytest.approx(1 / 8 / 0.5)


def test_memory_given_by_hand_has_no_times() -> None:
    gpu = parse("47.5GiB", 1).gpu
    assert cost.prefill_seconds(1, gpu, Layout(1, 1, 1), utilisation=0.5) is None
    assert cost.decode_milliseconds(1, gpu) is None
    assert cost.decode_milliseconds(3_350_000_000, parse("H100", 1).gpu) == pytest.approx(1)


def test_a_token_reads_weights_and_cache_once() -> None:
    weights, cache = weights_of(configs.MISTRAL_7B), cache_of(configs.MISTRAL_7B)
    read = 2 * (7_241_732_096 - 32000 * 4096 - 4096)  # without embeddings and the last norm
    keys = 131072 * 1_000_000
    assert cost.decode_bytes(weights, cache, 1_000_000, Layout(1, 1, 1)) == read + keys
    # Stages come one after the other; tensor ranks share the reading, norms apart.
    assert cost.decode_bytes(weights, cache, 1_000_000, Layout(1, 4, 1)) == read + keys
    halved = cost.decode_bytes(weights, cache, 1_000_000, Layout(2, 1, 1))
    assert halved == pytest.approx((read + keys) / 2, rel=1e-4)


def test_replicated_heads_are_read_by_all_and_shared_by_context_parallelism() -> None:
    cache = cache_of(configs.MINICPM4_8B)
    assert cache.read_bytes(1024, tp=8, dcp=1) == 32 * 1024 * 2 * 128 * 2
    assert cache.read_bytes(1024, tp=8, dcp=4) == 32 * 256 * 2 * 128 * 2


@pytest.mark.parametrize(
    ("tokens", "sequences"), [(4096, 256), (2**17, 256), (2**20, 128), (2**21, 64), (2**31 - 1, 1)]
)
def test_sequences_fit_in_the_host(tokens: int, sequences: int) -> None:
    assert cost.sequences(tokens) == sequences
    assert cost.host_bytes(tokens) == 5 * tokens * sequences


def test_activations() -> None:
    mlp = 2 * 8192 * (2 * 4096 + 3 * 14336 // 2)
    assert cost.activation_bytes(shape(configs.MISTRAL_7B), 8192, 2) == mlp + 16 * 256 * 32000


def test_a_step_of_llama_3_8b_is_what_vllm_measured_of_one() -> None:
    """8,192 tokens and 256 sequences on a GPU of 80 GB, from the log in vLLM's pull request 10511:

    "model weights take 14.96GiB", "PyTorch activation peak memory 1.26GiB".
    """
    llama3 = weights_of(
        configs.LLAMA2_7B, intermediate_size=14336, num_key_value_heads=8, vocab_size=128256
    )
    assert llama3.total_bytes / GIB == pytest.approx(14.96, abs=0.01)
    assert cost.activation_bytes(llama3.shape, 8192, tp=1) / GIB == pytest.approx(1.26, abs=0.02)


def test_a_gpu_of_several_has_more_reserved() -> None:
    one, several = cost.reserved_bytes(Layout(1, 1, 1)), cost.reserved_bytes(Layout(1, 2, 1))
    assert (one, several) == (GIB, 2 * GIB)
    assert (cost.outside_bytes(1), cost.outside_bytes(2)) == (GIB // 2, GIB)


def test_numbers_for_people() -> None:
    assert units.size(512) == "512 B"
    assert units.size(512 * 1024) == "512 KiB"
    assert units.size(2**40) == "1.00 TiB"
    assert units.operations(28_300 * 10**12) == "28.3 PFLOP"
    assert [units.duration(seconds) for seconds in (0.0124, 1.5, 996, 11400)] == [
        *("12.4 ms", "1.50 s", "16.6 min", "3.17 h")
    ]
