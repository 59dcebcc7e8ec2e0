"""Property tests of every route in `/openapi.json`: whatever is sent, no 5xx and no hang."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.plugin.models import give_words, tiny_model
from tests.serving import LONGROPE_SERVE, running

LEAST_CASES = 2000
SECONDS = 600  # half of it for the boundaries of every field, the rest for what hypothesis makes up
# A valid body without max_tokens generates to the end of the served length: let that be near.
FLAGS = ("--max-model-len=128", "--enable-auto-tool-choice", "--tool-call-parser=hermes")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_no_route_answers_with_a_5xx_or_hangs(tmp_path: Path) -> None:
    model = give_words(tiny_model(tmp_path / "model", vocab_size=49152))
    with running((*LONGROPE_SERVE, model.directory, *FLAGS), tmp_path / "log") as server:
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("schemathesis")),
                "run",
                f"{server.url}/openapi.json",
                "--checks=not_a_server_error",
                "--mode=all",
                "--phases=coverage,fuzzing",
                f"--max-time={SECONDS}",
                "--request-timeout=60",
                "--continue-on-failure",
                "--seed=1",
                "--no-color",
            ],
            capture_output=True,
            text=True,
            timeout=1700,
            cwd=tmp_path,
        )
    print(done.stdout[-3000:])
    assert done.returncode == 0, done.stdout[-8000:]
    cases = re.search(r"(\d+) generated", done.stdout)
    assert cases is not None
    assert int(cases[1]) >= LEAST_CASES
