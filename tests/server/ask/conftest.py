import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from longrope_server import cli

from tests.server.ask.stand_in import StandIn, serving


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str


Ask = Callable[..., Done]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    for name in ("LONGROPE_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with serving() as stand_in:
        yield stand_in


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "document.md"
    path.write_text("# France\n\nIts capital is Paris, a city on the Seine.\n")
    return path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Ask:
    """Runs `longrope ask` with these words, in this process."""

    def run(*words: str | Path) -> Done:
        monkeypatch.setattr(sys, "argv", ["longrope", "ask", *map(str, words)])
        with pytest.raises(SystemExit) as exit:
            cli.main()
        out, err = capfd.readouterr()
        return Done(int(exit.value.code or 0), out, err)

    return run


@pytest.fixture
def ask(run: Ask, server: StandIn, document: Path) -> Ask:
    """Asks `server` a question about `document`, with more words after it."""

    def ask(*words: str, question: str = "What is the capital?") -> Done:
        return run(document, question, "--url", server.url, *words)

    return ask


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were waited for a busy server; no time passes."""
    seconds: list[float] = []
    monkeypatch.setattr("longrope_server.ask.server.time.sleep", seconds.append)
    return seconds
