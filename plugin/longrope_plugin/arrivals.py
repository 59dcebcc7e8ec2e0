"""Refuses requests that could only be served wrongly, in the engine's front end."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from longrope_plugin import adapters
from longrope_plugin.kv_connectors import handover, judgement
from longrope_plugin.selection import Selection

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.engine import EngineCoreRequest


@dataclass(frozen=True)
class Served:
    """What a front end has to know of its engine."""

    selection: Selection
    hands_over: bool

    @classmethod
    def from_vllm_config(cls, vllm_config: "VllmConfig") -> "Served | None":
        """Reads the factor file; None for a model without longrope."""
        selection = Selection.from_vllm_config(vllm_config)
        if selection is None:
            return None
        return cls(selection, judgement.hands_over(vllm_config))


def check(served: Served | None, request: "EngineCoreRequest") -> None:
    """Raises ValueError, a sentence.

    It does so if the caller names an adapter and a set that the request may reach has one, and if
    the request's prefill was computed elsewhere under another set.
    """
    if served is None:
        return
    prompt, sampling = request.prompt_token_ids, request.sampling_params
    prompt_tokens = len(request.prompt_embeds if prompt is None else prompt)
    max_tokens = sampling.max_tokens if sampling is not None else 0
    if request.lora_request is not None:
        adapters.refuse_callers_adapter(
            served.selection, prompt_tokens, max_tokens, request.resumable
        )
    if served.hands_over and sampling is not None and not request.resumable:
        params = (sampling.extra_args or {}).get("kv_transfer_params")
        index = served.selection.start(prompt_tokens, max_tokens)
        sentence = handover.mismatch(params, served.selection.fingerprint(index))
        if sentence is not None:
            raise ValueError(sentence)
