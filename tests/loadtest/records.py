"""Records as a run would leave them."""

from itertools import pairwise
from typing import Any

from longrope_loadtest.run.record import Record


def record(number: int = 0, *, at: float = 0, late: float = 0, **fields: Any) -> Record:
    """A complete request, due at `at`, sent `late`, with tokens at `token_times` after sending."""
    times = fields.pop("token_times", (0.1, 0.12, 0.14, 0.16))
    sent = at + late
    common: dict[str, Any] = {
        "class_name": "a",
        "intended": at,
        "planned_prompt_tokens": 16,
        "planned_output_tokens": len(times),
        "body_bytes": 100,
        "dispatched": sent,
        "first_token": sent + times[0],
        "last_token": sent + times[-1],
        "ended": sent + times[-1],
        "token_gaps": [after - before for before, after in pairwise(times)],
        "outcome": "complete",
        "prompt_tokens": 16,
        "output_tokens": len(times),
    }
    return Record(number, **(common | fields))
