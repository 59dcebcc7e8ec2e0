"""The mock server as a process of its own, and loads against it."""

import contextlib
import gc
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from longrope_loadtest.profiles import plan
from longrope_loadtest.profiles.profile import Profile
from longrope_loadtest.run import bodies
from longrope_loadtest.run.driving import Run, Target, Watcher
from longrope_loadtest.run.record import Record

from tests.loadtest.mock_server import MODEL, Truth

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class MockServer:
    """A running mock server."""

    url: str

    def truths(self) -> list[Truth]:
        """What it did since the last call, in the order in which requests arrived."""
        return [Truth(**truth) for truth in httpx.get(f"{self.url}/mock/truth").json()]


@contextlib.contextmanager
def serving(*arguments: str) -> Iterator[MockServer]:
    """Starts a mock server on a free port of 127.0.0.1."""
    command = [sys.executable, "-m", "tests.loadtest.mock_server", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            httpx.get(f"{url}/mock/truth")  # listening is not yet serving
            yield MockServer(url)
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()


def profile(arrivals: dict[str, Any], mock: dict[str, Any] | None = None, **fields: Any) -> Profile:
    """A profile of one class, `a`; `fields` that a profile has not are the class's."""
    own = {name: fields.pop(name) for name in list(fields) if name in Profile.model_fields}
    each = {
        "prompt": {"tokens": 16},
        "output_tokens": 8,
        "extra": {"mock": mock or {}},
        **fields,
    }
    each["prompt"] = {"kind": "words", **each["prompt"]}
    return Profile.model_validate({"arrivals": arrivals, "classes": {"a": each}, **own})


def driven(
    what: Profile,
    url: str,
    seed: int = 0,
    watchers: tuple[Watcher, ...] = (),
    started: Callable[[Run], None] = lambda run: None,
) -> Run:
    """Runs a profile without writing anything; `started` is called just before."""
    planned = plan.make(what, seed)
    with bodies.made(planned, what, MODEL, seed, lambda done: None) as made:
        run = Run(planned, what, made, Target(url, MODEL, None), list(watchers))
        started(run)
        gc.freeze()  # a run collects garbage before it begins: not in all that tests import
        run.drive()
        return run


def matched(run: Run, truths: list[Truth]) -> list[tuple[Record, Truth]]:
    """Each record with what the server knows of that request."""
    by_body = {truth.body: truth for truth in truths}
    return [(r, by_body[zlib.crc32(run.bodies.of(r.number))]) for r in run.records]
