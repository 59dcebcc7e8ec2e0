"""docs/planning.md shows what the command prints."""

import re
import shlex
from pathlib import Path

import pytest

from tests.server.plan.test_plan_command import Run

DOCUMENT = Path(__file__).parents[3] / "docs" / "planning.md"
CONFIG = re.compile(r"^```json (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLE = re.compile(r"^```sh\n(.*?)\n```\n\n```text\n(.*?)\n```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("command", "printed"), EXAMPLE.findall(DOCUMENT.read_text()))
def test_examples_are_what_is_printed(
    command: str,
    printed: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, config in CONFIG.findall(DOCUMENT.read_text()):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(config)
    monkeypatch.chdir(tmp_path)
    run = Run(capsys, *shlex.split(command)[2:])
    assert [line.rstrip() for line in run.out.splitlines()] == printed.splitlines()


def test_there_are_examples() -> None:
    assert len(EXAMPLE.findall(DOCUMENT.read_text())) == 2
