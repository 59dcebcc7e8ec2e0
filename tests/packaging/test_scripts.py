"""The commands behind the Makefile. scripts/setup runs with a Python that only plays one."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COPIED = (
    *("scripts/setup", "scripts/find-python", "scripts/install-requirements"),
    *("requirements/dev.txt", "pyproject.toml"),
)
# Makes .venv with copies of itself, as venv does with links, and installs nothing. The files
# no-ensurepip and no-index beside it say what it cannot do.
PYTHON = """#!/usr/bin/env bash
here={here}
case $* in
  "-c import sys"*"version_info"*) echo 3.11 ;;
  --version) echo "Python 3.11.0" ;;
  "-m venv --clear .venv")
    rm -rf .venv && mkdir -p .venv/bin
    cp "$0" .venv/bin/python3.11 && ln -s python3.11 .venv/bin/python
    if [[ -e $here/no-ensurepip ]]; then echo "ensurepip is not available"; exit 1; fi
    printf '#!%s/.venv/bin/python\\n' "$PWD" >.venv/bin/pip && chmod +x .venv/bin/pip
    ;;
  "-m pip install"*uv==*)
    [[ -e .venv/bin/pip && ! -e $here/no-index ]] || exit 1
    cp "$0" .venv/bin/uv
    ;;
  *"--requirements -") cat >/dev/null ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What scripts/setup needs of the repository, where 3.11 is the only Python supported."""
    checkout = tmp_path / "checkout"
    for name in COPIED:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, checkout / name)
    (checkout / "requirements" / "pythons").write_text("3.11\n")
    python = tmp_path / "bin" / "python3.11"
    python.parent.mkdir()
    python.write_text(PYTHON.format(here=python.parent))
    python.chmod(0o755)
    return checkout


def set_up(checkout: Path) -> subprocess.CompletedProcess[str]:
    path = f"{checkout.parent / 'bin'}:{os.environ['PATH']}"
    return subprocess.run(
        [checkout / "scripts" / "setup"],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("script", sorted((ROOT / "scripts").iterdir()), ids=lambda file: file.name)
def test_a_script_can_be_called_from_any_folder(script: Path) -> None:
    """Its own relative name is of no use after it has changed the folder."""
    before, changes, after = script.read_text().partition('cd "$(dirname "$0")/.."')
    if changes:
        assert "$0" not in after
    else:
        assert '$(dirname "$0")' in before or script.name == "find-python"


def test_the_virtual_environment_is_made_once(checkout: Path) -> None:
    first = set_up(checkout)
    assert first.returncode == 0, first.stderr
    assert "Making .venv with Python 3.11.0." in first.stdout
    again = set_up(checkout)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


def test_another_system_than_linux_is_refused(checkout: Path) -> None:
    uname = checkout.parent / "bin" / "uname"
    uname.write_text("#!/bin/sh\necho Darwin\n")
    uname.chmod(0o755)
    refused = set_up(checkout)
    assert refused.returncode == 1
    assert "this is Darwin" in refused.stderr
    assert not (checkout / ".venv").exists()


def test_half_a_virtual_environment_is_made_anew(checkout: Path) -> None:
    lacking = checkout.parent / "bin" / "no-ensurepip"
    lacking.touch()
    failed = set_up(checkout)
    assert failed.returncode == 1
    assert "apt install python3.11-venv" in failed.stderr
    assert (checkout / ".venv" / "bin" / "python3.11").exists()

    lacking.unlink()
    mended = set_up(checkout)
    assert mended.returncode == 0, mended.stderr


def test_without_a_package_index_no_other_python_is_asked_for(checkout: Path) -> None:
    (checkout.parent / "bin" / "no-index").touch()
    failed = set_up(checkout)
    assert failed.returncode == 1
    assert "a connection to the package index" in failed.stderr
    assert "install Python" not in failed.stderr


def test_a_virtual_environment_of_another_folder_is_made_anew(checkout: Path) -> None:
    assert set_up(checkout).returncode == 0
    moved = set_up(checkout.rename(checkout.with_name("moved")))
    assert moved.returncode == 0, moved.stderr
    assert "Making .venv" in moved.stdout
