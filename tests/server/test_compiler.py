"""A machine without a C++ compiler serves as well, eagerly, and says so."""

from pathlib import Path

import pytest
from longrope_server.serve import compiler


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path)


def compiler_at(place: Path) -> None:
    place.write_text("#!/bin/sh\n")
    place.chmod(0o755)


def test_without_a_compiler_nothing_is_compiled(path: str) -> None:
    words, note = compiler.chosen(["model"], {"PATH": path})
    assert words == ["--enforce-eager"]
    assert note is not None
    assert "no C++ compiler g++ on PATH" in note


def test_with_a_compiler_nothing_is_said(path: str) -> None:
    compiler_at(Path(path) / "g++")
    assert compiler.chosen(["model"], {"PATH": path}) == ([], None)


def test_the_compiler_that_is_named_counts(path: str) -> None:
    compiler_at(Path(path) / "g++")
    _, note = compiler.chosen(["model"], {"PATH": path, "CXX": "clang++-99"})
    assert note is not None
    assert "clang++-99" in note
    compiler_at(Path(path) / "clang++-99")
    assert compiler.chosen(["model"], {"PATH": path, "CXX": "clang++-99"}) == ([], None)


def test_eager_execution_that_was_chosen_is_not_chosen_again(path: str) -> None:
    assert compiler.chosen(["model", "--enforce-eager"], {"PATH": path}) == ([], None)
