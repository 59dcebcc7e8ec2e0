"""Limits how much of a long prompt goes into one step, so that other requests wait less.

vLLM gives a running prefill all of each step, unless `--long-prefill-token-threshold` is set and
another request is present. A request that arrives then waits until the prefill ends, or at least
for a whole step. A number of tokens does not measure that wait: with a context of a million tokens,
each new token attends to all of them, and a step that took 0.1 s at the beginning takes ten
seconds. So the measure here is a step's time.
"""

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vllm.config import VllmConfig

LEAST = 64  # tokens; with fewer, the fixed cost of a step would dominate
KEPT = 0.5  # weight of the earlier estimate in the next one
STEP_SECONDS = 1.0  # the default
KEY = "longrope_step_seconds"  # in `--additional-config`


class Pacing:
    """The number of tokens that fit into `seconds` of prefill, estimated from the latest steps."""

    @classmethod
    def from_vllm_config(cls, vllm_config: "VllmConfig", most: int) -> "Pacing | None":
        """The pacing that `--additional-config` asks for.

        None for 0 seconds, and where vLLM reads every prompt in one step, or every image: it makes
        sure of that by the tokens of its own steps. Raises ValueError, a sentence, for a value that
        is not a number of seconds.
        """
        seconds = (vllm_config.additional_config or {}).get(KEY, STEP_SECONDS)
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
            raise ValueError(f"{KEY} is {seconds!r}; it must be seconds, or 0 for no pacing.")
        scheduler_config = vllm_config.scheduler_config
        in_parts = scheduler_config.enable_chunked_prefill
        if scheduler_config.is_multimodal_model and scheduler_config.disable_chunked_mm_input:
            in_parts = False
        return cls(seconds, most) if seconds and in_parts else None

    def __init__(self, seconds: float, most: int) -> None:
        self._seconds = seconds
        self._most = most  # tokens in one of vLLM's own steps
        self._per_token: float | None = None  # seconds
        self._ended = 0.0  # when the latest step ended

    @property
    def tokens(self) -> int:
        """Tokens for one step of a prefill; vLLM's own number until a step has been timed."""
        if self._per_token is None:
            return self._most
        return min(self._most, max(LEAST, int(self._seconds / max(self._per_token, 1e-9))))

    @property
    def share(self) -> int:
        """Tokens of each prefill in a step for several requests; enough to be `measured`."""
        return max(self.tokens // 2, self._telling)

    @property
    def _telling(self) -> int:
        """Tokens of a prefill whose step tells how long prefills take; at most half of a step."""
        return max(min(LEAST, self._most // 2), 1)

    def measured(self, tokens: Collection[int], began: float, ended: float) -> None:
        """Notes that a step took from `began` to `ended` (monotonic seconds).

        tokens: of each request in the step. Where none has many, the step tells nothing of
        prefills, and is ignored: most steps only decode, those of a crowd many tokens together. A
        step that overlaps the one before it counts from the end of that one.
        """
        seconds, self._ended = ended - max(began, self._ended), ended
        if max(tokens, default=0) < self._telling:
            return
        per_token = seconds / sum(tokens)
        if self._per_token is not None:
            per_token = KEPT * self._per_token + (1 - KEPT) * per_token
        self._per_token = per_token
