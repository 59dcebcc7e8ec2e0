"""Property tests of every route in `/openapi.json`: whatever is sent, no 5xx and no hang."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.plugin.models import give_words, tiny_model
from tests.serving import LONGROPE_SERVE, Server, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

LEAST_CASES = 1000  # of each phase
SECONDS = 300
# A valid body without max_tokens generates to the end of the served length: let that be near.
FLAGS = ("--max-model-len=128", "--enable-auto-tool-choice", "--tool-call-parser=hermes")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("fuzzed")
    model = give_words(tiny_model(folder / "model", vocab_size=49152))
    with running((*LONGROPE_SERVE, model.directory, *FLAGS), folder / "log") as server:
        yield server


# coverage: the boundaries of every field; fuzzing: what hypothesis makes up.
@pytest.mark.parametrize("phase", ["coverage", "fuzzing"])
def test_no_route_answers_with_a_5xx_or_hangs(server: Server, phase: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")),
            "run",
            f"{server.url}/openapi.json",
            "--checks=not_a_server_error",
            "--mode=all",
            f"--phases={phase}",
            f"--max-time={SECONDS}",
            "--request-timeout=60",
            "--continue-on-failure",
            "--seed=1",
            "--no-color",
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    print(done.stdout[-3000:])
    assert done.returncode == 0, done.stdout[-8000:]
    cases = re.search(r"(\d+) generated", done.stdout)
    assert cases is not None
    assert int(cases[1]) >= LEAST_CASES
