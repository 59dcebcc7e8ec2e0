"""Synthetic results: what a run leaves, without a run."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from longrope_loadtest.profiles.profile import Profile
from longrope_loadtest.results.figures import summary
from longrope_loadtest.results.results import FORMAT, Result
from longrope_loadtest.run.lag import ClientLoad
from longrope_loadtest.run.record import Record
from longrope_loadtest.run.scrape import Scrape

BEGAN = 1_790_000_000.0  # Unix time of every example


def profile_of(*names: str, **changes: Any) -> Profile:
    """A profile with the given classes."""
    return Profile.model_validate(
        {
            "description": "An example",
            "arrivals": {"kind": "poisson", "rate": 10, "duration": 60},
            "classes": {
                name: {"prompt": {"kind": "words", "tokens": 100}, "output_tokens": 20}
                for name in names
            },
            **changes,
        }
    )


def answered(
    number: int,
    class_name: str = "chat",
    *,
    intended: float | None = None,
    ttft: float = 0.2,
    gaps: Sequence[float] = (0.02, 0.03, 0.02),
    lag: float = 0.001,
    prompt_tokens: int = 100,
    stream: bool = True,
    **changes: Any,
) -> Record:
    """A complete request, one token an event; not streamed, its answer takes as long."""
    due = number / 10 if intended is None else intended
    record = Record(
        number, class_name, due, prompt_tokens, len(gaps) + 1, body_bytes=500, dispatched=due + lag
    )
    record.first_byte = record.dispatched + ttft / 2
    record.last_token = record.dispatched + ttft + sum(gaps)
    if stream:
        record.first_token = record.dispatched + ttft
        record.token_gaps = list(gaps)
    record.ended = record.last_token
    record.outcome, record.status = "complete", 200
    record.prompt_tokens, record.output_tokens = prompt_tokens, len(gaps) + 1
    for name, value in changes.items():
        setattr(record, name, value)
    return record


def failed(number: int, class_name: str = "chat", **changes: Any) -> Record:
    """A request that the server refused."""
    record = Record(number, class_name, number / 10, 100, 20, body_bytes=500)
    record.dispatched, record.ended = record.intended + 0.001, record.intended + 0.01
    record.error, record.message, record.status = "http 503", "The server is full.", 503
    for name, value in changes.items():
        setattr(record, name, value)
    return record


def crowd(
    number: int, class_name: str = "chat", seed: int = 0, slower: float = 1, tokens: int = 8
) -> list[Record]:
    """Requests with lognormal latencies; `slower` multiplies every one."""
    rng = random.Random(seed)
    return [
        answered(
            index,
            class_name,
            ttft=slower * rng.lognormvariate(-1.5, 0.5),
            gaps=[slower * rng.lognormvariate(-4, 0.3) for _ in range(tokens - 1)],
        )
        for index in range(number)
    ]


def scrapes_of(seconds: int, **metrics: Callable[[int], float]) -> list[Scrape]:
    """A look a second; in the names, __ stands for a colon."""
    return [
        Scrape(
            BEGAN + second,
            {name.replace("__", ":"): of(second) for name, of in metrics.items()},
        )
        for second in range(seconds)
    ]


def result_of(
    directory: Path,
    records: list[Record],
    profile: Profile | None = None,
    scrapes: Sequence[Scrape] = (),
    **about: Any,
) -> Result:
    """The result of such a run."""
    if profile is None:
        profile = profile_of(*(dict.fromkeys(r.class_name for r in records) or ["chat"]))
    return Result(
        directory,
        {
            "format": FORMAT,
            "longrope": "0.1.0",
            "began_at": "2026-09-21T14:13:20+00:00",
            "began_at_unix": BEGAN,
            "url": "http://127.0.0.1:8000",
            "model": "example",
            "seed": 0,
            "requests_sha256": "ab" * 32,
            "planned_requests": len(records),
            "interrupted": False,
            "profile": profile.model_dump(mode="json", exclude_unset=True),
            "client": load_of().as_json(),
            "figures": summary(records, profile),
            **about,
        },
        profile,
        records,
        list(scrapes),
    )


def load_of(*verdicts: str) -> ClientLoad:
    """The load of a client that had nothing to do."""
    return ClientLoad(0.0005, 0.002, 0.004, 0.001, 0.12, 10.0, 9.98, 0, verdicts)
