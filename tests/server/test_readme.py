"""README's example as it stands there, for the test's server."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server.clients.document import ADDRESS
from tests.serving import Server

README = Path(__file__).parents[2] / "README.md"
QUESTION = "What is the code of the locker in the hall?"
WHOLE = "50_000"  # characters of the manual: 12,000 tokens
LESS = "35_500"  # still beyond 8,192 tokens, in half the time
PHRASINGS = (
    "Which code does the locker in the hall have?",
    "What is the locker's code?",
    "Tell me the code of the locker in the hall.",
    "I need to open the locker in the hall. What is its code?",
)


def example(characters: str = WHOLE) -> str:
    """The example, with this many characters of the manual."""
    (found,) = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    for part in (ADDRESS, QUESTION, WHOLE):
        assert part in found
    return str(found).replace(WHOLE, characters)


def document(characters: str = WHOLE) -> str:
    """The example's document, with this many characters of the manual."""
    names: dict[str, str] = {}
    exec(example(characters).partition("\nfor ")[0], names)
    return names["document"]


def printed(code: str, server: Server) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", code.replace(ADDRESS, server.url)],
        capture_output=True,
        check=True,
        text=True,
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize("characters", [LESS, pytest.param(WHOLE, marks=pytest.mark.slow)])
def test_the_example_finds_what_stands_in_the_document(
    embedded_server: Server, characters: str
) -> None:
    short, *more, long = printed(example(characters), embedded_server)
    assert short.startswith("8192 ")
    assert len(" ".join([short, *more])) > len("8192 red")
    assert long == "32768 48213"


@pytest.mark.slow
@pytest.mark.parametrize("question", PHRASINGS)
def test_it_is_found_however_it_is_asked(embedded_server: Server, question: str) -> None:
    *_, long = printed(example().replace(QUESTION, question), embedded_server)
    assert long.startswith("32768 ")
    assert "48213" in long
