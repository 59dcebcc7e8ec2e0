"""Prefill on one engine, decode on another: both must use the same factor set.

The engines tell each other through `kv_transfer_params`, which every router passes on: the prefill
engine states the fingerprint of the request's set beside the addresses of its blocks.
"""

from typing import Any

KEY = "longrope_factor_set"


def state(params: dict[str, Any] | None, fingerprint: str) -> None:
    """States the set of a finished request in the parameters that the next engine gets."""
    if params is not None:
        params[KEY] = fingerprint


def mismatch(params: dict[str, Any] | None, fingerprint: str) -> str | None:
    """Why a request must not read the blocks that its parameters name; None if it may, or none.

    fingerprint: that of the set that the request is pinned to here. Returns a sentence.
    """
    params = params or {}
    reads = params.get("do_remote_prefill") or params.get("remote_block_ids")
    if not reads or params.get(KEY) == fingerprint:
        return None
    stated = params.get(KEY)
    theirs = "without naming a factor set" if stated is None else f"under factor set {stated}"
    return (
        f"The prefill engine computed this request {theirs}, and the decode engine would serve it "
        f"under {fingerprint}: serve both with longrope, the same factor file and the same "
        "max_model_len, and let the router pass kv_transfer_params on unchanged."
    )
