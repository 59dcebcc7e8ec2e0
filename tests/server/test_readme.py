"""README's example as it stands there, for the test's server."""

import re
import subprocess
import sys
from pathlib import Path

from tests.server.clients.document import ADDRESS
from tests.serving import Server

README = Path(__file__).parents[2] / "README.md"


def test_the_example_shows_how_far_it_is(embedded_server: Server) -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    assert ADDRESS in example
    printed = subprocess.run(
        [sys.executable, "-c", example.replace(ADDRESS, embedded_server.url)],
        capture_output=True,
        check=True,
    ).stdout.decode()  # as bytes, whose \r stays
    short, long = re.fullmatch(
        r"factor set 8192\n(.+)\nfactor set 16384\n(.+)\n", printed, re.DOTALL
    ).groups()  # type: ignore[union-attr]
    assert "prefill" not in short
    counts = [(int(now), int(all_)) for now, all_ in re.findall(r"\r: prefill (\d+)/(\d+) ", long)]
    assert counts == sorted(counts)
    assert len({total for _, total in counts}) == 1
    assert 11_000 < counts[0][1] < 13_000
    assert re.sub(r"\r: prefill \d+/\d+ ", "", long).strip()
