"""What is on record about one HTTP request: never its content, nor its key itself."""

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from starlette.datastructures import Headers
from starlette.types import Scope

from longrope_server.front_end.admission.admission import PLACE, Admitted
from longrope_server.front_end.authentication import key_of, path_of
from longrope_server.front_end.factor_set.answer import ANSWER, Answer
from longrope_server.front_end.openai_error import REFUSED

LONGEST_TEXT = 200  # of what a client chooses: a path, a request id


@dataclass
class Exchange:
    """One HTTP request under way.

    status: that of the answer, None before it begins. serves: the answer began, and not as a
    refusal. written: how many of its engine requests are in the ledger, as far as is known.
    is_noted: it is in the log.
    """

    scope: Scope
    began: float  # time.time
    began_monotonic: float
    status: int | None = None
    serves: bool = False
    complete: bool = False
    written: int = 0
    is_noted: bool = False

    def began_to_answer(self, status: int | None) -> None:
        """Notes the head of an answer, or that a WebSocket was accepted."""
        self.status = status
        self.serves = REFUSED not in self.scope

    def ended(self) -> None:
        """Notes the end of an answer, which is not whole if the request was refused meanwhile."""
        self.complete = not (self.serves and REFUSED in self.scope)

    def record(self) -> dict[str, Any]:
        """What is known about it now; None for what does not apply."""
        scope = self.scope
        answer: Answer | None = scope.get(ANSWER)
        place: Admitted | None = scope.get(PLACE)
        key = key_of(scope)
        factor_set = answer.factor_set() if answer else None
        amounts = answer.amounts if answer else None
        return {
            "time": datetime.fromtimestamp(self.began, UTC).isoformat(timespec="milliseconds"),
            "request_id": _request_id(scope, answer),
            "key": key.name if key else None,
            "method": scope.get("method", "WEBSOCKET"),
            "path": path_of(scope)[:LONGEST_TEXT],
            "status": self.status,
            "complete": self.complete,
            "refused": scope.get(REFUSED),
            "factor_set": factor_set["started"] if factor_set else None,
            "finished_factor_set": factor_set["finished"] if factor_set else None,
            "promoted": factor_set["promoted"] if factor_set else None,
            "engine_requests": amounts.requests if amounts else 0,
            "prompt_tokens": amounts.prompt_tokens if amounts else 0,
            "cached_tokens": amounts.cached_tokens if amounts else 0,
            "generated_tokens": amounts.generated_tokens if amounts else 0,
            "admission_seconds": _rounded(place.waited if place else None),
            "queue_seconds": _rounded(answer.queue_seconds if answer else None),
            "first_token_seconds": _rounded(answer.first_token_seconds if answer else None),
            "seconds": _rounded(time.monotonic() - self.began_monotonic),
        }


def line_of(record: dict[str, Any]) -> str:
    """The line of the request log."""
    return json.dumps(record, separators=(",", ":"))


def _request_id(scope: Scope, answer: Answer | None) -> str | None:
    """vLLM's id of the first request to the engine, else the one that the client sent."""
    if answer is not None and answer.ids:
        return answer.ids[0][:LONGEST_TEXT]
    return Headers(scope=scope).get("x-request-id", "")[:LONGEST_TEXT] or None


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
