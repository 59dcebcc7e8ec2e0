"""Which KV connectors a longrope model starts with, and what is said of the others."""

from types import SimpleNamespace
from typing import Any

import pytest
from longrope_plugin.compat.names import CONNECTOR_TOUCHES
from longrope_plugin.kv_connectors import judgement
from longrope_plugin.kv_connectors.handover import KEY, mismatch

from tests.plugin.models import TinyModel
from tests.plugin.test_configuration import configure


def transfer(name: str, **fields: Any) -> dict[str, Any]:
    return {"kv_connector": name, "kv_role": "kv_both", **fields}


def extra(name: str, **fields: Any) -> dict[str, Any]:
    return transfer(name, kv_connector_extra_config=fields)


def judged(selection: Any, connector: dict[str, Any]) -> Any:
    """What start-up makes of a connector, before vLLM looks for its package."""
    from vllm.config import KVTransferConfig

    config: Any = SimpleNamespace(kv_transfer_config=KVTransferConfig(**connector))
    judgement.check(config, selection)
    return config


LENGTH, RESERVE = SimpleNamespace(policy="length"), SimpleNamespace(policy="reserve")
OFFLOADING = extra("OffloadingConnector", cpu_bytes_to_use=2**20)


@pytest.mark.parametrize("policy", [LENGTH, RESERVE], ids=lambda p: p.policy)
@pytest.mark.parametrize(
    ("connector", "is_shared"),
    [
        (OFFLOADING, False),
        (extra("OffloadingConnector", spec_name="TieringOffloadingSpec"), True),
        (
            extra(
                "OffloadingConnector",
                spec_name="TieringOffloadingSpec",
                secondary_tiers=[{"type": "fs", "root_dir": "/kv"}, {"type": "obj"}],
            ),
            True,
        ),
        (transfer("SimpleCPUOffloadConnector"), False),
        (transfer("LMCacheMPConnector"), True),
        (
            transfer(
                "LMCacheMPConnector",
                kv_connector_module_path="lmcache.integration.vllm.lmcache_mp_connector",
            ),
            True,
        ),
        (extra("MultiConnector", connectors=[OFFLOADING, transfer("LMCacheMPConnector")]), True),
    ],
)
def test_served_under_both_policies(policy: Any, connector: Any, is_shared: bool) -> None:
    assert judgement.has_shared_store(judged(policy, connector)) == is_shared


@pytest.mark.parametrize("name", ["NixlConnector", "NixlPullConnector"])
def test_nixl_is_served_under_length_alone(name: str) -> None:
    config = judged(LENGTH, transfer(name))
    assert judgement.hands_over(config)
    assert not judgement.has_shared_store(config)
    with pytest.raises(ValueError, match=f"{name} needs the policy 'length'"):
        judged(RESERVE, transfer(name))
    with pytest.raises(ValueError, match="has bidirectional_kv_xfer set"):
        judged(LENGTH, extra(name, bidirectional_kv_xfer=True))


BY_TOKENS = "by their tokens alone"
UNCHECKED = "no decode can check it: use NixlConnector"
UNKNOWN = "is not known to keep the factor sets apart: use one of OffloadingConnector, Simple"


@pytest.mark.parametrize(
    ("connector", "sentence"),
    [
        (transfer("LMCacheConnectorV1"), f"LMCacheConnectorV1 .*{BY_TOKENS}.*LMCacheMPConnector"),
        (transfer("HF3FSKVConnector"), f"HF3FSKVConnector .*{BY_TOKENS}.*LMCacheMPConnector"),
        (transfer("ExampleConnector"), f"ExampleConnector .*{BY_TOKENS}.*OffloadingConnector"),
        (transfer("NixlPushConnector"), f"NixlPushConnector .*{UNCHECKED}"),
        (transfer("MooncakeConnector"), f"MooncakeConnector .*{UNCHECKED}"),
        (transfer("MoRIIOConnector"), f"MoRIIOConnector .*{UNCHECKED}"),
        (transfer("MooncakeStoreConnector"), f"MooncakeStoreConnector {UNKNOWN}"),
        (transfer("FlexKVConnectorV1"), f"FlexKVConnectorV1 {UNKNOWN}"),
        (
            transfer("OffloadingConnector", kv_connector_module_path="my.own"),
            f"OffloadingConnector of my.own {UNKNOWN}",
        ),
        (
            extra("OffloadingConnector", spec_name="Own", spec_module_path="my.own"),
            "spec_name Own, which is not known",
        ),
        (
            extra(
                "OffloadingConnector",
                spec_name="TieringOffloadingSpec",
                secondary_tiers=[{"type": "fs"}, {"type": "p2p"}],
            ),
            "a secondary tier of type p2p, which is not known .*use one of type fs or obj",
        ),
        (
            extra("MultiConnector", connectors=[OFFLOADING, transfer("ExampleConnector")]),
            f"The KV connector ExampleConnector .*{BY_TOKENS}",
        ),
    ],
    ids=lambda value: value["kv_connector"] if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("policy", [LENGTH, RESERVE], ids=lambda p: p.policy)
def test_refused_in_a_sentence(policy: Any, connector: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        judged(policy, connector)


def test_every_connector_that_vllm_has_is_judged() -> None:
    """A new one is refused until somebody has read it."""
    from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory

    for name in set(KVConnectorFactory._registry) - {*judgement.SERVED, "MultiConnector"}:
        with pytest.raises(ValueError, match=f"The KV connector {name} "):
            judged(LENGTH, transfer(name))


@pytest.mark.parametrize("policy", ["length", "reserve"])
@pytest.mark.parametrize(
    "arguments",
    [
        {"kv_transfer_config": OFFLOADING},
        {"kv_transfer_config": transfer("SimpleCPUOffloadConnector")},
        {"kv_offloading_size": 1.0},
    ],
    ids=["offloading", "simple", "kv-offloading-size"],
)
def test_an_engine_is_configured_with_offload(
    model: TinyModel, arguments: dict[str, Any], policy: str
) -> None:
    config = configure(model, additional_config={"longrope_selection": policy}, **arguments)
    (connector,) = judgement.connectors(config)
    assert connector.name in judgement.SERVED


def test_an_engine_is_refused_with_another(model: TinyModel) -> None:
    with pytest.raises(Exception, match=BY_TOKENS):
        configure(model, kv_transfer_config=transfer("ExampleConnector"))


def test_every_touch_of_a_connector_says_why_and_until_when() -> None:
    assert set(CONNECTOR_TOUCHES) <= set(judgement.SERVED)
    for touches in CONNECTOR_TOUCHES.values():
        assert all(touch.why and touch.until for touch in touches)


@pytest.mark.parametrize(
    ("params", "is_refused"),
    [
        (None, False),
        ({}, False),
        ({"do_remote_decode": True}, False),  # a prefill, which reads nothing
        ({"do_remote_prefill": True, KEY: "aaaa"}, False),
        ({"do_remote_prefill": True, KEY: "bbbb"}, True),
        ({"do_remote_prefill": True}, True),  # from an engine without longrope
        ({"do_remote_decode": True, "remote_block_ids": [[1]], KEY: "bbbb"}, True),
        ({"do_remote_decode": True, "remote_block_ids": [[1]], KEY: "aaaa"}, False),
    ],
)
def test_blocks_of_another_set_are_refused(params: Any, is_refused: bool) -> None:
    sentence = mismatch(params, "aaaa")
    assert (sentence is not None) == is_refused
    if sentence is not None:
        theirs = "without naming a factor set" if KEY not in params else "under factor set bbbb"
        assert f"computed this request {theirs}, and" in sentence
