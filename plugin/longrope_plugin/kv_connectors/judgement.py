"""Which KV connectors serve a longrope model, and why the others do not."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from longrope_plugin.compat import names
from longrope_plugin.compat.touch import resolve
from longrope_plugin.selection import Selection

if TYPE_CHECKING:
    from vllm.config import VllmConfig

OFFLOADING = "OffloadingConnector"
LMCACHE = "LMCacheMPConnector"
NIXL = ("NixlConnector", "NixlPullConnector")  # two names of one connector
SERVED = (OFFLOADING, "SimpleCPUOffloadConnector", LMCACHE, *NIXL)

PRIVATE_SPEC, TIERED_SPEC = "CPUOffloadingSpec", "TieringOffloadingSpec"
TIERS = ("fs", "obj")  # those that name what they store by block key alone

_BY_TOKENS = (
    "finds keys and values by their tokens alone, and would take those of one factor set for "
    "another's"
)
_UNCHECKED = "does not say under which factor set a prefill was computed, so no decode can check it"
REFUSED = {
    "LMCacheConnectorV1": f"{_BY_TOKENS}: use {LMCACHE}",
    "HF3FSKVConnector": f"{_BY_TOKENS}: use {LMCACHE}",
    "ExampleConnector": f"{_BY_TOKENS}: use {OFFLOADING}",
    "SharedStorageConnector": f"{_BY_TOKENS}: use {OFFLOADING}",  # ExampleConnector's old name
    "NixlPushConnector": f"{_UNCHECKED}: use {NIXL[0]}",
    "MooncakeConnector": f"{_UNCHECKED}: use {NIXL[0]}",
    "MoRIIOConnector": f"{_UNCHECKED}: use {NIXL[0]}",
}


@dataclass(frozen=True)
class Connector:
    """One of an engine's connectors: MultiConnector has several.

    module: the dotted path of a connector that is not vLLM's own.
    """

    name: str
    module: str | None
    extra: dict[str, Any]


def connectors(vllm_config: "VllmConfig") -> tuple[Connector, ...]:
    """The engine's connectors. vLLM adds that of `--kv-offloading-size` after our configuration."""
    transfer = vllm_config.kv_transfer_config
    if transfer is None or transfer.kv_connector is None:
        return ()
    return tuple(
        _leaves(
            transfer.kv_connector,
            transfer.kv_connector_module_path,
            transfer.kv_connector_extra_config or {},
        )
    )


def _leaves(name: str, module: str | None, extra: dict[str, Any]) -> Iterator[Connector]:
    if name != "MultiConnector" or module is not None:
        yield Connector(name, module, extra)
        return
    for part in extra.get("connectors") or ():
        yield from _leaves(
            part.get("kv_connector"),
            part.get("kv_connector_module_path"),
            part.get("kv_connector_extra_config") or {},
        )


def check(vllm_config: "VllmConfig", selection: Selection) -> None:
    """Raises ValueError, a sentence, for a connector that could serve wrong keys and values.

    Raises RuntimeError, a sentence, if this release of vLLM lacks a name that we need for one.
    """
    for connector in connectors(vllm_config):
        reason = _reason(connector, selection)
        if reason is not None:
            raise ValueError(f"The KV connector {connector.name} {reason}.")
        for touch in names.CONNECTOR_TOUCHES.get(connector.name, ()):
            resolve(touch)


def has_shared_store(vllm_config: "VllmConfig") -> bool:
    """Whether other engines may read what this one stores, and the other way round."""
    return any(
        connector.name == LMCACHE or connector.extra.get("spec_name") == TIERED_SPEC
        for connector in connectors(vllm_config)
    )


def hands_over(vllm_config: "VllmConfig") -> bool:
    """Whether prefill and decode are different engines."""
    return any(connector.name in NIXL for connector in connectors(vllm_config))


def _reason(connector: Connector, selection: Selection) -> str | None:
    name, module, extra = connector.name, connector.module, connector.extra
    if name in REFUSED:
        return REFUSED[name]
    is_vllms = module is None or (name == LMCACHE and module.startswith("lmcache."))
    if name not in SERVED or not is_vllms:
        return (
            f"{f'of {module} ' if module else ''}is not known to keep the factor sets apart: use "
            f"one of {', '.join(SERVED)}"
        )
    if name == OFFLOADING:
        return _reason_of_offloading(extra)
    if name in NIXL and selection.policy != "length":
        return (
            "needs the policy 'length', and longrope_selection is 'reserve': a prefill engine is "
            "asked for one token, so it cannot reserve room for the answer"
        )
    if name in NIXL and extra.get("bidirectional_kv_xfer"):
        return (
            "has bidirectional_kv_xfer set, which would hand an answer's keys and values to a "
            "prefill that may be of the next factor set: leave it unset"
        )
    return None


def _reason_of_offloading(extra: dict[str, Any]) -> str | None:
    spec = extra.get("spec_name", PRIVATE_SPEC)
    if spec not in (PRIVATE_SPEC, TIERED_SPEC):
        return (
            f"has spec_name {spec}, which is not known to keep the factor sets apart: use "
            f"{PRIVATE_SPEC} or {TIERED_SPEC}"
        )
    for tier in extra.get("secondary_tiers") or ():
        if tier.get("type") not in TIERS or tier.get("module_path"):
            return (
                f"has a secondary tier of type {tier.get('type')}, which is not known to keep the "
                f"factor sets apart: use one of type {' or '.join(TIERS)}"
            )
    return None
