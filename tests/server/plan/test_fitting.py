"""What fits where."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from longrope_server.errors import UsageError
from longrope_server.plan import cost
from longrope_server.plan.fitting import in_flight, machines_of, what_would
from longrope_server.plan.gpus import GPUS, parse
from longrope_server.plan.layouts import Layout, allowed

from tests.server.plan import configs
from tests.server.plan.configs import fitting_of

TWO_MILLION = 2_097_152


def test_room_is_what_weights_activations_and_reserve_leave() -> None:
    fitting = fitting_of(configs.LLAMA2_7B)
    gpu = parse("h100", 1).gpu
    [room] = fitting.room(gpu, Layout(1, 1, 1))
    used = 2 * (6_738_415_616 - 4096) + cost.activation_bytes(fitting.weights.shape, 8192, 1)
    assert room == int(0.9 * gpu.memory_bytes) - used - 2**30
    assert fitting.blocks(gpu, Layout(1, 1, 1)) == room // (16 * 524288) - 1


@given(
    name=st.sampled_from(list(configs.ALL)),
    gpu=st.sampled_from([gpu.name for gpu in GPUS]),
    per_node=st.sampled_from([1, 2, 8]),
    nodes=st.integers(1, 2),
    tokens=st.integers(1, 2**22),
)
def test_the_best_layout_is_the_first_that_fits(
    name: str, gpu: str, per_node: int, nodes: int, tokens: int
) -> None:
    fitting, cluster = fitting_of(configs.ALL[name]), parse(f"{gpu}:{per_node}", nodes)
    best = fitting.best(cluster, tokens)
    for layout in allowed(fitting.weights.shape, cluster):
        fits = fitting.longest(cluster.gpu, layout) >= tokens
        if layout == best:
            assert fits
            break
        assert not fits
    assert (best is not None) == (fitting.longest_on(cluster) >= tokens)


def test_the_longest_request_just_fits() -> None:
    fitting, gpu = fitting_of(configs.MINICPM4_8B), parse("a10", 1).gpu
    for layout in (Layout(2, 1, 1), Layout(8, 2, 1), Layout(8, 2, 4)):
        longest, blocks = fitting.longest(gpu, layout), fitting.blocks(gpu, layout)
        assert fitting.request_blocks(gpu, layout, longest) <= blocks
        assert fitting.request_blocks(gpu, layout, longest + 1) > blocks


def test_context_parallelism_is_used_where_replicated_heads_take_the_room() -> None:
    fitting = fitting_of(configs.MINICPM4_8B)
    cluster = parse("L40S:8", 1)
    replicated = fitting.longest(cluster.gpu, Layout(8, 1, 1))
    assert fitting.longest(cluster.gpu, Layout(8, 1, 4)) == pytest.approx(4 * replicated, rel=1e-3)
    assert fitting.best(cluster, 3 * replicated) is not None


def test_pipeline_stages_share_the_cache() -> None:
    fitting, gpu = fitting_of(configs.LLAMA2_7B), parse("h100", 1).gpu
    assert in_flight(gpu, 2) == 3 * 8192
    # 11 layers on the first two of three stages, or 10 on the last: the fullest one decides.
    [first, *_] = fitting.room(gpu, Layout(1, 3, 1))
    assert fitting.blocks(gpu, Layout(1, 3, 1)) == first // (11 * 16 * 16384) - 1


def test_llama2_needs_sixteen_h100_for_two_million_tokens() -> None:
    fitting = fitting_of(configs.LLAMA2_7B)
    assert fitting.best(parse("H100:8", 1), TWO_MILLION) is None
    assert fitting.best(parse("H100:8", 2), TWO_MILLION) == Layout(8, 2, 1)
    assert machines_of(Layout(8, 2, 1), 8) == 2


def test_what_does_not_fit_says_what_would() -> None:
    sentence = what_would(fitting_of(configs.MISTRAL_7B), parse("a100-80", 1), 524288)
    assert sentence == (
        "524,288 tokens do not fit on 1 x A100-80: 2 x A100-80 (tensor 2, pipeline 1) or "
        "--kv-dtype fp8 (tensor 1, pipeline 1) or 1 x H200 (tensor 1, pipeline 1) would do."
    )
    nothing = what_would(fitting_of(configs.LLAMA2_7B), parse("T4", 1), 2**31 - 1)
    assert nothing.endswith("do not fit on 1 x T4: no number of them would do.")


def test_gpus_are_named_in_any_case() -> None:
    assert parse("mi300x:4", 2).gpus == 8
    with pytest.raises(UsageError, match=r"Unknown GPU 'H1000': known are T4, L4, A10"):
        parse("H1000:8", 1)
    for wrong in ("H100:", "H100:0", "H100:x", "H100:-1"):
        with pytest.raises(UsageError, match="how many a machine has"):
            parse(wrong, 1)
