"""How many tokens the engine has counted for a request, also for one whose outputs nobody saw.

A request that is not streamed has one output, at its end; if its client leaves before that, there
is none. vLLM's own counters have its tokens all the same, and so must an account.
"""

from contextvars import ContextVar
from typing import Any

from longrope_plugin.compat.touch import Touch, replace

_WHY = "requests that are aborted are not accounted for"
_UNTIL = "vLLM hands out what an aborted request took"
_PROCESSOR = "vllm.v1.engine.output_processor"
_ADD = Touch(_PROCESSOR, "OutputProcessor.add_request:request_states", _WHY, _UNTIL)
TOUCHES = (
    _ADD,
    *(
        Touch(_PROCESSOR, f"RequestState.__init__:{attribute}", _WHY, _UNTIL)
        for attribute in ("is_prefilling", "prompt_len", "num_cached_tokens", "request_index")
    ),
    Touch("vllm.v1.engine.detokenizer", "IncrementalDetokenizer.num_output_tokens", _WHY, _UNTIL),
)


class EngineCounts:
    """vLLM's own counts of one call of the engine client, up to date at any time."""

    def __init__(self) -> None:
        self.states: list[Any] = []  # vLLM's RequestState of each sequence

    @property
    def has_computed_prompt(self) -> bool:
        """Whether the first token of any sequence, or the vector, has arrived."""
        return any(not state.is_prefilling for state in self.states)

    @property
    def prompt_tokens(self) -> int | None:
        """The tokens of the prompt; None if the engine has none."""
        return self.states[0].prompt_len if self.states else None

    @property
    def cached_tokens(self) -> int:
        """The tokens of the prompt that the prefix cache had: the sequences share one prompt."""
        return min((state.num_cached_tokens for state in self.states), default=0)

    def generated(self) -> dict[int, int]:
        """The generated tokens by index of the sequence."""
        return {
            state.request_index: state.detokenizer.num_output_tokens()
            for state in self.states
            if state.detokenizer is not None
        }


current_counts: ContextVar[EngineCounts | None] = ContextVar("longrope_counts", default=None)


def note_counts() -> None:
    """Makes vLLM's output processor note each request in `current_counts`."""

    def noting(original: Any) -> Any:
        def add_request(self: Any, request: Any, *args: Any, **kwargs: Any) -> None:
            is_known = request.request_id in self.request_states  # a part of a session's prompt
            original(self, request, *args, **kwargs)
            if not is_known and (counts := current_counts.get()) is not None:
                counts.states.append(self.request_states[request.request_id])

        return add_request

    replace(_ADD, noting)
