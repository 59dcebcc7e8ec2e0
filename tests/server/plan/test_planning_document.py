"""docs/planning.md shows what the command prints."""

import inspect
import re
import shlex
from pathlib import Path

import pytest
from longrope_server.plan import command, cost
from longrope_server.plan.gpus import parse
from longrope_server.plan.layouts import Layout
from longrope_server.plan.units import size

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


def test_defaults_are_the_commands() -> None:
    row = re.compile(r"^\| `--([\w-]+)[^`]*` \|\s*`?([^|`]*?)`?\s*\|", re.MULTILINE)
    documented = dict(row.findall(DOCUMENT.read_text()))
    assert documented.pop("json") == ""
    assert documented.pop("factors") == "the config's own"
    parameters = inspect.signature(command.plan).parameters
    for flag, default in documented.items():
        given = parameters[flag.replace("-", "_")].default
        assert default == ("" if given is None else f"{given}")
    assert len(documented) == 5


def test_numbers_in_the_text() -> None:
    text = " ".join(DOCUMENT.read_text().split())
    t4 = parse("T4", nodes=1).gpu
    assert f"it is 10%: {size(t4.memory_bytes // 10)} of a T4" in text
    outside = [size(cost.outside_bytes(gpus)) for gpus in (1, 2)]
    assert outside == ["512 MiB", "1.00 GiB"]
    assert "is less than 512 MiB (1 GiB with several GPUs)" in text
    assert size(cost.reserved_bytes(Layout(1, 1, 1))) == "1.00 GiB"
    assert size(cost.reserved_bytes(Layout(2, 1, 1))) == "2.00 GiB"
    assert "1 GiB for them and the next" in text
    assert "1 GiB more, for" in text


def test_there_are_examples() -> None:
    assert len(EXAMPLE.findall(DOCUMENT.read_text())) == 3
