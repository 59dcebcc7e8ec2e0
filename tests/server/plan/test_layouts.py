"""Layouts obey what vLLM refuses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from longrope_server.plan.gpus import GPUS, Cluster
from longrope_server.plan.layouts import allowed, context_sizes, stages, tensor_sizes

from tests.server.plan import configs
from tests.server.plan.configs import shape


@given(
    kv_heads=st.integers(1, 12),
    queries=st.integers(1, 12),
    layers=st.integers(1, 12),
    per_node=st.integers(1, 16),
    nodes=st.integers(1, 4),
    window=st.sampled_from([None, 128]),
)
def test_every_layout_obeys_the_rules(
    kv_heads: int, queries: int, layers: int, per_node: int, nodes: int, window: int | None
) -> None:
    model = shape(
        configs.SMOLLM2,
        num_key_value_heads=kv_heads,
        num_attention_heads=kv_heads * queries,
        head_dim=64,
        num_hidden_layers=layers,
        sliding_window=window,
    )
    found = allowed(model, Cluster(GPUS[0], per_node, nodes))
    assert (found[0].tp, found[0].pp, found[0].dcp) == (1, 1, 1)
    assert found == sorted(found, key=lambda layout: (layout.gpus, layout.pp, layout.dcp))
    for layout in found:
        # ModelConfig.verify_with_parallel_config, QKVParallelLinear, LlamaAttention.
        assert model.heads % layout.tp == 0
        assert model.kv_heads % layout.tp == 0 or layout.tp % model.kv_heads == 0
        assert layout.tp <= per_node
        assert layout.pp <= layers
        assert layout.gpus <= per_node * nodes
        assert layout.gpus <= per_node or per_node % layout.tp == 0
        if layout.dcp > 1:
            assert window is None
            assert layout.tp > model.kv_heads
            assert layout.dcp <= layout.tp // model.kv_heads
            assert queries % layout.dcp == 0
            assert layout.tp % layout.dcp == 0
            # Neighbours of one context group hold the same KV head.
            assert layout.tp // model.kv_heads % layout.dcp == 0


@given(layers=st.integers(1, 64), pp=st.integers(1, 64))
def test_stages_hold_each_layer_once(layers: int, pp: int) -> None:
    split = stages(layers, pp)
    assert [layer for stage in split for layer in stage] == list(range(layers))
    sizes = [len(stage) for stage in split]
    assert max(sizes) - min(sizes) <= 1
    assert sizes[-1] == layers // pp


@pytest.mark.parametrize(
    ("name", "tp"),
    [
        ("LLaMA2-7B", [1, 2, 4, 8, 16, 32]),
        ("SmolLM2-135M", [1, 3]),  # 9 divides the heads, but not the padded vocabulary
        ("MiniCPM4-8B", [1, 2, 4, 8, 16, 32]),
        ("Qwen2-7B", [1, 2, 4]),  # 28 heads; 7 does not divide 4 KV heads
    ],
)
def test_tensor_sizes(name: str, tp: list[int]) -> None:
    assert list(tensor_sizes(shape(configs.ALL[name]), 32)) == tp


def test_context_sizes() -> None:
    assert list(context_sizes(shape(configs.LLAMA2_7B), 32)) == [1]  # as many KV heads as heads
    assert list(context_sizes(shape(configs.MISTRAL_7B), 8)) == [1]
    assert list(context_sizes(shape(configs.MISTRAL_7B), 16)) == [1, 2]
    assert list(context_sizes(shape(configs.MINICPM4_8B), 8)) == [1, 2, 4]
