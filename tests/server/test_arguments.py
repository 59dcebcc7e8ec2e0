from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from longrope_server.errors import UsageError
from longrope_server.serve.arguments import Arguments, conflict, merge, parse_length
from typer.testing import CliRunner


@pytest.mark.parametrize(
    ("words", "model", "rest"),
    [
        (["dir", "--port", "1"], "dir", ["--port", "1"]),
        (["--port", "1"], None, ["--port", "1"]),
        (["--port", "1", "--model", "dir", "-q", "x"], "dir", ["--port", "1", "-q", "x"]),
        (["--model=dir"], "dir", []),
        ([], None, []),
    ],
)
def test_model_is_the_first_word_or_a_flag(
    words: list[str], model: str | None, rest: list[str]
) -> None:
    arguments = Arguments(words)
    assert arguments.take_model() == model
    assert arguments.rest == rest


@pytest.mark.parametrize(
    "words",
    [
        ["--max-model-len", "8"],
        ["--max_model_len", "8"],
        ["--max-model-len=8"],
        ["--max_model_len=8"],
        ["--max-model-len", "4", "--max_model_len=8"],
    ],
)
def test_every_spelling_of_a_flag_is_found(words: list[str]) -> None:
    arguments = Arguments(["--a", *words, "--b"])
    assert arguments.peek("max-model-len") == "8"
    assert arguments.take("max-model-len") == "8"
    assert arguments.rest == ["--a", "--b"]


def test_flags_that_only_begin_alike_are_left() -> None:
    arguments = Arguments(["--max-model-length", "8"])
    assert arguments.take("max-model-len") is None
    assert arguments.rest == ["--max-model-length", "8"]


def test_a_flag_without_its_value_is_refused() -> None:
    with pytest.raises(UsageError, match="--factors is given without a value"):
        Arguments(["--port", "1", "--factors"]).take("factors")


@pytest.mark.parametrize(
    "words",
    [
        ["--hf-overrides", '{"a": {"b": 1, "c": "x"}}'],
        ['--hf_overrides={"a": {"b": 1}}', "--hf-overrides.a.c", "x"],
        ["--hf-overrides.a.b=1", "--port", "--hf_overrides.a.c", "x"],
    ],
)
def test_objects_are_merged_from_all_spellings(words: list[str]) -> None:
    arguments = Arguments(words)
    assert arguments.take_object("hf-overrides") == {"a": {"b": 1, "c": "x"}}
    assert arguments.rest in ([], ["--port"])


def test_keys_of_objects_keep_their_underscores() -> None:
    arguments = Arguments(["--hf-overrides.rope_theta", "5"])
    assert arguments.take_object("hf-overrides") == {"rope_theta": 5}


def test_numbers_within_objects_are_read_as_vllm_reads_them() -> None:
    words = ["--hf-overrides.a", "32k", "--hf-overrides.b=1K", "--hf-overrides.c", "k"]
    assert Arguments(words).take_object("hf-overrides") == {"a": 32_000, "b": 1024, "c": "k"}


@pytest.mark.parametrize("value", ["{", "[1]", "3"])
def test_a_value_that_is_no_object_is_refused(value: str) -> None:
    with pytest.raises(UsageError, match="--hf-overrides should be a JSON object"):
        Arguments(["--hf-overrides", value]).take_object("hf-overrides")


def test_a_configuration_file_stands_behind_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("model: dir\nmax_model_len: 8\nhf-overrides: {a: 1}\nport: 9\n")
    words = ["--config", str(file), "--max-model-len", "4", "--hf-overrides.b", "2"]
    arguments = Arguments(words)
    assert arguments.take_model() == "dir"
    assert arguments.take("max-model-len") == "4"
    assert arguments.take_object("hf-overrides") == {"a": 1, "b": 2}
    assert arguments.rest == ["--config", str(file)]


def test_a_configuration_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        Arguments(["--config", str(tmp_path / "c.yaml")]).take_model()
    (tmp_path / "c.yaml").write_text("- a\n")
    with pytest.raises(UsageError, match="one mapping"):
        Arguments(["--config", str(tmp_path / "c.yaml")]).take_model()


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("32768", 32768),
        ("32k", 32000),
        ("32K", 32768),
        ("1M", 1048576),
        ("1.5k", 1500),
        ("1.5K", None),
        ("auto", None),
        ("-1", None),
    ],
)
def test_lengths_are_read_as_vllm_reads_them(text: str, tokens: int | None) -> None:
    from vllm.utils.argparse_utils import human_readable_int

    assert parse_length(text) == tokens
    if tokens is not None:
        assert human_readable_int(text) == tokens


def test_merge_goes_into_objects_and_conflict_names_the_key() -> None:
    base, update = {"a": {"b": 1}, "c": 2}, {"a": {"d": 3}}
    assert merge(base, update) == {"a": {"b": 1, "d": 3}, "c": 2}
    assert base == {"a": {"b": 1}, "c": 2}
    assert conflict(base, update) is None
    assert conflict(base, {"a": {"b": 1}}) is None
    assert conflict(base, {"a": {"b": 2}}) == "a.b"


# Not `--` alone: it ends click's own options and is dropped.
WORD = st.text(st.characters(codec="utf-8"), max_size=8).filter(lambda word: word != "--")
FLAG = st.sampled_from(["-tp", "-O3", "--a-b=c d", "-h2", "--no-x", "--served-model-name", "-q"])


@settings(deadline=None)
@given(st.lists(WORD | FLAG))
def test_words_reach_serve_unchanged(words: list[str]) -> None:
    import longrope_server.serve.command
    from longrope_server.cli import app

    if words in (["--help"], ["-h"]) or any(word.startswith("--help=") for word in words):
        return
    reached: list[list[str]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(longrope_server.serve.command, "serve", reached.append)
        result = CliRunner().invoke(app, ["serve", *words])
    assert result.exit_code == 0, result.output
    assert reached == [words]
