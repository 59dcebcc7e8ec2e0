"""Asks the engines how far prompts are computed."""

import asyncio
from collections.abc import Sequence
from typing import Any

from longrope_plugin.compat.hooks import PREFILL_PROGRESS
from longrope_plugin.compat.touch import Touch

_UNTIL = "vLLM's front end knows how far a prefill is"
_CLIENT = "vllm.v1.engine.core_client"
TOUCHES = tuple(
    Touch(module, name, "no prefill progress", _UNTIL)
    for module, name in (
        (_CLIENT, "AsyncMPClient._call_utility_async"),
        (_CLIENT, "MPClient.__init__:core_engines"),
        ("vllm.v1.engine.output_processor", "OutputProcessor.__init__:external_req_ids"),
    )
)


async def prefill_progress(engine_client: Any, request_ids: Sequence[str]) -> dict[str, int]:
    """Computed prompt tokens by request id, the one that `engine_client.generate` was given.

    If a prompt has several sequences, the one that is furthest counts.
    """
    known = engine_client.output_processor.external_req_ids
    outer_ids = {inner: outer for outer in request_ids for inner in known.get(outer, ())}
    client = engine_client.engine_core
    answers = await asyncio.gather(
        *(
            client._call_utility_async(PREFILL_PROGRESS, list(outer_ids), engine=engine)
            for engine in client.core_engines
        )
    )
    computed: dict[str, int] = {}
    for inner, tokens in (item for answer in answers for item in answer.items()):
        outer = outer_ids[inner]
        computed[outer] = max(computed.get(outer, 0), tokens)
    return computed
