"""How much may be under way at once: in all, and in each length class."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

Count = Annotated[int, Field(ge=1)]

# The defaults. Twice as many requests as vLLM's batch holds keep it full. The others wait here,
# before they are tokenised, and a free place goes to the next one that fits.
IN_FLIGHT_PER_SEQUENCE = 2
QUEUED = 1024


class Limit(BaseModel):
    """Limits of one length class, or of all requests; None is no limit.

    in_flight: requests that were let in. queued: requests that wait to be let in. tokens: the sum
    of the prompts that were let in. A request that is alone in its class is let in at any length.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    in_flight: Count | None = None
    queued: Annotated[int, Field(ge=0)] | None = None
    tokens: Count | None = None


class Limits(Limit):
    """The value of `--limits`.

    classes: by the longest prompt of the class, in tokens. queue_seconds: the longest that a
    request waits.
    """

    classes: dict[Count, Limit] = {}
    queue_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 600.0

    @field_validator("classes")
    @classmethod
    def _ascending(cls, classes: dict[int, Limit]) -> dict[int, Limit]:
        return dict(sorted(classes.items()))

    def completed(
        self, boundaries: Sequence[int], max_num_seqs: int, kv_tokens: int | None
    ) -> "Limits":
        """The same limits, with defaults for those that the operator has not set.

        boundaries: the longest sequences of the factor sets, ascending, the served length last.
        kv_tokens: the tokens that the KV caches of all engines hold; None if not known. By default
        every class but the first may fill half of them, so that short requests always find room.
        """
        longest = boundaries[-1]
        if self.classes:
            given = {min(bound, longest): limit for bound, limit in self.classes.items()}
            classes = {**given, longest: given.get(longest, Limit())}
        else:
            half = None if kv_tokens is None else max(kv_tokens // 2, 1)
            classes = {bound: Limit(tokens=half) for bound in boundaries}
            classes[boundaries[0]] = Limit()
        defaults = {"in_flight": IN_FLIGHT_PER_SEQUENCE * max_num_seqs, "queued": QUEUED}
        unset = {name: value for name, value in defaults.items() if getattr(self, name) is None}
        return self.model_copy(update={"classes": classes, **unset})

    def class_of(self, tokens: int) -> int:
        """The class of a prompt: the smallest bound that covers it, or the largest if none does."""
        return next((bound for bound in self.classes if tokens <= bound), max(self.classes))
