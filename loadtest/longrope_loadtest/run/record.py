"""The record of one request."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

Outcome = Literal["complete", "cancelled", "failed", "interrupted"]
NO_CONNECTION = "no connection"  # the error where the server cannot be reached
CLIENT_LIMIT = "client limit"  # the error where our own system refuses a connection


@dataclass(slots=True)
class Record:
    """One request. Times are seconds from the start of the run, on the client's monotonic clock.

    `intended` is when the request was due: at the time from the arrival process in an open loop, or
    at the end of the user's think time in a closed one. `dispatched` is when sending began.
    """

    number: int
    class_name: str
    intended: float
    planned_prompt_tokens: int
    planned_output_tokens: int
    body_bytes: int
    warm_up: bool = False  # not counted
    dispatched: float = 0
    sent: float | None = None  # the last byte of the body left us
    first_byte: float | None = None  # the answer's headers
    first_token: float | None = None  # None without streaming
    last_token: float | None = None
    ended: float = 0
    token_gaps: list[float] = field(default_factory=list)  # between events that carry tokens
    outcome: Outcome = "failed"
    error: str | None = None  # its kind: "http 503", "stalled", ...
    message: str | None = None  # the server's or the system's words
    status: int | None = None
    retries: int = 0
    prompt_tokens: int | None = None  # the server's counts; None if it gives none
    output_tokens: int | None = None
    cached_tokens: int | None = None
    factor_set: str | None = None  # the one that the request started with
    promoted_to: str | None = None
    passkey: str | None = None
    correct: bool | None = None  # for passkeys
    answer: str | None = None  # its beginning, for passkeys
    conversation: int | None = None  # the number of its first turn's request
    turn: int | None = None  # from 1
    turns: int | None = None  # that the conversation was planned to have

    def ttft(self, since: Literal["dispatched", "intended"] = "dispatched") -> float | None:
        """Time to first token, in seconds."""
        if self.first_token is None:
            return None
        return self.first_token - getattr(self, since)

    def e2e(self, since: Literal["dispatched", "intended"] = "dispatched") -> float | None:
        """Time to the last token, in seconds."""
        if self.last_token is None:
            return None
        return self.last_token - getattr(self, since)

    def tpot(self) -> float | None:
        """Seconds per output token after the first; None for fewer than two tokens."""
        if self.first_token is None or self.last_token is None or (self.output_tokens or 0) < 2:
            return None
        assert self.output_tokens is not None
        return (self.last_token - self.first_token) / (self.output_tokens - 1)

    def as_json(self) -> dict[str, Any]:
        """All fields, with times rounded to microseconds."""
        return {name: _rounded(value) for name, value in asdict(self).items()}


FIELDS = tuple(column.name for column in fields(Record))


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return value
