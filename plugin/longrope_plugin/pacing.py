"""How much of a long prompt goes into one step, so that others need not wait for the whole of it.

vLLM gives a running prefill the whole of each step, unless `--long-prefill-token-threshold` is set
and there is another request: whoever arrives waits for its end, or for a whole step. A number of
tokens is no measure of that wait: at a context of a million tokens each new one attends to all of
them, and a step that took 0.1 s at the beginning takes ten. So the measure here is a step's time.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vllm.config import VllmConfig

LEAST = 64  # tokens; fewer would be mostly the step's own cost
KEPT = 0.5  # of the earlier estimate in the next one
STEP_SECONDS = 1.0  # by default
KEY = "longrope_step_seconds"  # in `--additional-config`


class Pacing:
    """The tokens that fit into `seconds` of prefill, from what the latest steps took."""

    @classmethod
    def from_vllm_config(cls, vllm_config: "VllmConfig", most: int) -> "Pacing | None":
        """The pacing that `--additional-config` asks for; None for 0 seconds.

        Raises ValueError, a sentence, for what is no number of seconds.
        """
        seconds = (vllm_config.additional_config or {}).get(KEY, STEP_SECONDS)
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
            raise ValueError(f"{KEY} is {seconds!r}; it must be seconds, or 0 for no pacing.")
        return cls(seconds, most) if seconds else None

    def __init__(self, seconds: float, most: int) -> None:
        self._seconds = seconds
        self._most = most  # tokens of vLLM's own step
        self._per_token: float | None = None  # seconds
        self._ended = 0.0  # the latest step

    @property
    def tokens(self) -> int:
        """For one step of a prefill; vLLM's own number until a step was timed."""
        if self._per_token is None:
            return self._most
        return min(self._most, max(LEAST, int(self._seconds / max(self._per_token, 1e-9))))

    def measured(self, tokens: int, began: float, ended: float) -> None:
        """A step of so many tokens took from `began` to `ended` (seconds of a monotonic clock).

        Steps that are too small to say what a prefill takes, decoding for the most part, are not
        counted. Of steps that overlap each counts from the end of the one before.
        """
        seconds, self._ended = ended - max(began, self._ended), ended
        if tokens < min(LEAST, self._most):
            return
        per_token = seconds / tokens
        if self._per_token is not None:
            per_token = KEPT * self._per_token + (1 - KEPT) * per_token
        self._per_token = per_token
