"""What fits where."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from longrope_server.errors import UsageError
from longrope_server.plan import attention, cost
from longrope_server.plan.cautions import cautions
from longrope_server.plan.fitting import in_flight, machines_of, what_would
from longrope_server.plan.gpus import GPUS, parse
from longrope_server.plan.kv_cache import element_bytes
from longrope_server.plan.layouts import Layout

from tests.server.plan import configs
from tests.server.plan.configs import fitting_of

TWO_MILLION = 2_097_152


def test_room_is_what_weights_activations_and_reserve_leave() -> None:
    fitting = fitting_of(configs.LLAMA2_7B)
    gpu = parse("h100", 1).gpu
    [room] = fitting.room(gpu, Layout(1, 1, 1))
    used = 2 * (6_738_415_616 - 4096) + cost.activation_bytes(fitting.weights.shape, 8192, 1)
    assert room == math.ceil(0.9 * gpu.memory_bytes) - used - 2**30  # request_memory's rounding
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
    for layout in fitting.layouts(cluster):
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
        assert fitting.spare(gpu, layout, longest) >= 0 > fitting.spare(gpu, layout, longest + 1)


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


def test_what_is_spare_is_the_fullest_stages() -> None:
    fitting, gpu = fitting_of(configs.LLAMA2_7B), parse("h100", 1).gpu
    rooms = fitting.room(gpu, Layout(1, 3, 1))
    block = 16 * 16384  # of a layer
    taken = [(1024 + 1) * layers * block for layers in (11, 11, 10)]
    left = min(room - used for room, used in zip(rooms, taken, strict=True))
    assert fitting.spare(gpu, Layout(1, 3, 1), 1024 * 16) == left


def test_llama2_needs_sixteen_h100_for_two_million_tokens() -> None:
    fitting = fitting_of(configs.LLAMA2_7B)
    assert fitting.best(parse("H100:8", 1), TWO_MILLION) is None
    assert fitting.best(parse("H100:8", 2), TWO_MILLION) == Layout(8, 2, 1)
    assert machines_of(Layout(8, 2, 1), 8) == 2
    # Eight H200 do not hold it, and five do in fp8.
    assert fitting.best(parse("H200:8", 1), TWO_MILLION) is None
    assert fitting.with_fp8().best(parse("H200:8", 1), TWO_MILLION) == Layout(1, 5, 1)


def test_what_does_not_fit_says_what_would() -> None:
    sentence = what_would(fitting_of(configs.MISTRAL_7B), parse("h100", 1), 524288)
    assert sentence == (
        "524,288 tokens do not fit on 1 x H100: 2 x H100 (tensor 2, pipeline 1) or "
        "--kv-dtype fp8 (tensor 1, pipeline 1) or 1 x H200 (tensor 1, pipeline 1) would do."
    )
    # An A100 has no fp8 cache without kernels of others.
    sentence = what_would(fitting_of(configs.MISTRAL_7B), parse("a100-80", 1), 524288)
    assert sentence == (
        "524,288 tokens do not fit on 1 x A100-80: 2 x A100-80 (tensor 2, pipeline 1) or "
        "1 x H200 (tensor 1, pipeline 1) would do."
    )
    nothing = what_would(fitting_of(configs.LLAMA2_7B), parse("T4", 1), 2**31 - 1)
    assert nothing.endswith("do not fit on 1 x T4: no number of them would do.")


@pytest.mark.parametrize(
    ("gpu", "dtype", "context"),
    [
        ("L40S", "auto", True),
        ("L40S", "fp8", False),  # Triton's kernels take fp8, and return no sums
        ("H100", "fp8", True),
        ("T4", "auto", False),
        ("MI300X", "auto", False),
        ("48GiB", "fp8", True),  # not known, so believed
    ],
)
def test_context_parallelism_needs_kernels_that_have_it(
    gpu: str, dtype: str, context: bool
) -> None:
    layouts = fitting_of(configs.MINICPM4_8B, dtype).layouts(parse(f"{gpu}:8", 1))
    assert any(layout.dcp > 1 for layout in layouts) == context


def test_no_group_of_quantized_weights_is_torn_apart() -> None:
    """vLLM refuses 11,008 rows in groups of 128 on four ranks: "too large tensor parallel size"."""
    awq = {"quant_method": "awq", "bits": 4, "group_size": 128}
    quantized = fitting_of(configs.LLAMA2_7B, quantization_config=awq)
    cluster = parse("H100:8", 1)
    assert {layout.tp for layout in quantized.layouts(cluster)} == {1, 2}
    plain = fitting_of(configs.LLAMA2_7B).layouts(cluster)
    assert {layout.tp for layout in plain} == {1, 2, 4, 8}


def test_gpus_are_named_in_any_case() -> None:
    assert parse("mi300x:4", 2).gpus == 8
    for wrong in ("H100:", "H100:0", "H100:x", "H100:-1", "H100:1e3", "H100:" + "9" * 30):
        with pytest.raises(UsageError, match=r"how many a machine has, as in H100:8"):
            parse(wrong, 1)


def test_other_gpus_are_named_by_their_memory() -> None:
    cluster = parse("47.5gib:4", 2)
    assert (cluster.gpus, cluster.gpu.memory_bytes) == (8, int(47.5 * 2**30))
    for wrong in (
        "H1000:8",
        "0GiB",
        "\uff14\uff17GiB",
        "4_7GiB",
        "GiB",
        "-1GiB",
        "48GB",
        "1e3GiB",
        "9999999999GiB",
        "",
        ":8",
    ):
        with pytest.raises(UsageError, match=r"Unknown GPU .*known are T4.*such as 47.5GiB"):
            parse(wrong, 1)


def test_many_gpus_of_a_machine_take_no_longer() -> None:
    layouts = fitting_of(configs.LLAMA2_7B).layouts(parse("T4:999999999", 9))
    assert {layout.tp for layout in layouts} == {1, 2, 4, 8, 16, 32}


def test_what_vllm_may_refuse_is_said() -> None:
    def said(gpu: str, dtype: str = "auto", share: float = 0.9) -> list[str]:
        return list(cautions(fitting_of(configs.LLAMA2_7B, dtype, share), dtype, parse(gpu, 1)))

    for gpu in (kind.name for kind in GPUS):
        assert said(f"{gpu}:8") == []
    assert said("H100", "fp8") == said("MI300X", "fp8") == said("48GiB", "fp8") == []
    [fp8] = said("A100-80", "fp8")
    assert fp8.startswith("On A100-80 (compute capability 8.0) vLLM's own kernels do not take")
    [full] = said("H100", share=1)
    assert "some 512 MiB of each GPU: on H100 it should be 0.99 at most." in full
    [full] = said("T4:8", share=0.95)
    assert "some 1.00 GiB of each GPU: on T4 it should be 0.93 at most." in full
    for none, takes in (("0.1GiB", "512 MiB"), ("1GiB:2", "1.00 GiB")):
        assert said(none) == [
            f"vLLM will not start on {none.partition(':')[0]}: CUDA and communication take some "
            f"{takes} of each GPU."
        ]


@pytest.mark.parametrize("dtype", ["fp8", "fp8_e5m2", "bf16", "bfloat16"])
def test_a_cache_that_no_kernel_takes_is_refused(dtype: str) -> None:
    size = element_bytes(dtype)
    with pytest.raises(UsageError, match=rf"--kv-dtype is '{dtype}'.*T4.*auto or float16"):
        attention.check(parse("T4", 1).gpu, dtype, size)
    for gpu in ("A10", "H100", "MI300X", "48GiB"):
        attention.check(parse(gpu, 1).gpu, dtype, size)
    attention.check(parse("T4", 1).gpu, "float16", 2)
