"""Every factor file that is not right is refused in one sentence that names file and field."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from longrope_factors.factor_file import schema
from longrope_factors.factor_file.files import strict_json
from longrope_factors.factor_file.schema import FactorFileError

from tests.factors.examples import ADAPTER, IDENTITY, document, provenance, write

Spoil = Callable[[dict[str, Any]], Any]


def put(*place: str | int, value: Any) -> Spoil:
    def spoil(content: dict[str, Any]) -> None:
        inner: Any = content
        for step in place[:-1]:
            inner = inner[step]
        inner[place[-1]] = value

    return spoil


def drop(*place: str | int) -> Spoil:
    def spoil(content: dict[str, Any]) -> None:
        inner: Any = content
        for step in place[:-1]:
            inner = inner[step]
        del inner[place[-1]]

    return spoil


def adapter(*place: str, value: Any) -> Spoil:
    """A file of format 2 whose second set has an adapter with `value` in it, or as it."""

    def spoil(content: dict[str, Any]) -> None:
        content["format"] = "longrope-factors/2"
        put("sets", 1, "adapter", value=ADAPTER | {place[0]: value} if place else value)(content)

    return spoil


SECOND = "sets[1] (max_length 16384): "
MALFORMED: dict[str, tuple[Spoil, str]] = {
    "unknown version": (put("format", value="longrope-factors/3"), "format"),
    "format of another type": (put("format", value=1), "format"),
    "no format": (drop("format"), "format"),
    "no model": (drop("model"), "model"),
    "model of another type": (put("model", value="llama"), "model"),
    "no name": (drop("model", "name"), "model.name"),
    "empty name": (put("model", "name", value=""), "model.name"),
    "architecture a number": (put("model", "architecture", value=3), "model.architecture"),
    "odd rotary_dim": (put("model", "rotary_dim", value=63), "model.rotary_dim"),
    "rotary_dim zero": (put("model", "rotary_dim", value=0), "model.rotary_dim"),
    "rotary_dim 1e400": (put("model", "rotary_dim", value=10**400), "model.rotary_dim"),
    "theta negative": (put("model", "rope_theta", value=-1.0), "model.rope_theta"),
    "theta a string": (put("model", "rope_theta", value="10000"), "model.rope_theta"),
    "original length a float": (
        put("model", "original_max_position_embeddings", value=8192.0),
        "model.original_max_position_embeddings",
    ),
    "unknown model field": (put("model", "head_dim", value=64), "model.head_dim"),
    "no sets": (drop("sets"), "sets"),
    "empty sets": (put("sets", value=[]), "sets"),
    "sets an object": (put("sets", value={}), "sets"),
    "a set that is a number": (put("sets", 1, value=7), "sets[1]"),
    "no max_length": (drop("sets", 1, "max_length"), "sets[1]: max_length"),
    "max_length zero": (put("sets", 0, "max_length", value=0), "sets[0] (max_length 0): max"),
    "max_length a boolean": (put("sets", 0, "max_length", value=True), "max_length"),
    "unsorted": (put("sets", 1, "max_length", value=65536), "sets[2] (max_length 32768): max_l"),
    "duplicate": (put("sets", 1, "max_length", value=8192), "sets[1] (max_length 8192): max_l"),
    "no factors": (drop("sets", 1, "factors"), SECOND + "factors"),
    "31 factors": (put("sets", 1, "factors", value=[1.0] * 31), SECOND + "factors"),
    "33 factors": (put("sets", 1, "factors", value=[1.0] * 33), SECOND + "factors"),
    "empty factors": (put("sets", 1, "factors", value=[]), SECOND + "factors"),
    "factors a string": (put("sets", 1, "factors", value="1.0"), SECOND + "factors"),
    "factor NaN": (put("sets", 1, "factors", 3, value=float("nan")), SECOND + "factors[3]"),
    "factor Infinity": (put("sets", 1, "factors", 3, value=float("inf")), SECOND + "factors[3]"),
    "factor zero": (put("sets", 1, "factors", 3, value=0), SECOND + "factors[3]"),
    "factor negative": (put("sets", 1, "factors", 3, value=-2.0), SECOND + "factors[3]"),
    "factor a string": (put("sets", 1, "factors", 3, value="1"), SECOND + "factors[3]"),
    "factor null": (put("sets", 1, "factors", 3, value=None), SECOND + "factors[3]"),
    "factor true": (put("sets", 1, "factors", 3, value=True), SECOND + "factors[3]"),
    "factor 10^400": (put("sets", 1, "factors", 3, value=10**400), SECOND + "factors[3]"),
    "no start_tokens": (drop("sets", 1, "start_tokens"), SECOND + "start_tokens"),
    "start_tokens negative": (put("sets", 1, "start_tokens", value=-1), SECOND + "start_tokens"),
    "start_tokens a float": (put("sets", 1, "start_tokens", value=1.5), SECOND + "start_tokens"),
    "no attention_factor": (drop("sets", 1, "attention_factor"), SECOND + "attention_factor"),
    "attention zero": (put("sets", 1, "attention_factor", value=0.0), SECOND + "attention_factor"),
    "attention infinite": (
        put("sets", 1, "attention_factor", value=float("inf")),
        SECOND + "attention_factor",
    ),
    "unknown set field": (put("sets", 1, "mscale", value=1.0), SECOND + "mscale"),
    "field with a line break": (put("sets", 1, "a\nb", value=1.0), SECOND + '"a\\nb"'),
    "no provenance": (drop("sets", 1, "provenance"), SECOND + "provenance"),
    "unknown method": (put("sets", 1, "provenance", "method", value="x"), "provenance.method"),
    "no source": (drop("sets", 1, "provenance", "source"), SECOND + "provenance.source"),
    "no date": (drop("sets", 1, "provenance", "date"), SECOND + "provenance.date"),
    "date of no day": (put("sets", 1, "provenance", "date", value="2026-02-30"), "provenance.date"),
    "date in words": (put("sets", 1, "provenance", "date", value="today"), "provenance.date"),
    "no tool_version": (drop("sets", 1, "provenance", "tool_version"), "provenance.tool_version"),
    "seed a string": (put("sets", 1, "provenance", "seed", value="1"), "provenance.seed"),
    "search a list": (put("sets", 1, "provenance", "search", value=[]), "provenance.search"),
    "NaN in search": (
        put("sets", 1, "provenance", "search", value={"step": [0.1, float("nan")]}),
        SECOND + "provenance.search.step[1]",
    ),
    "corpus without hash": (
        put("sets", 1, "provenance", "corpus", value=[{"name": "emma"}]),
        SECOND + "provenance.corpus[0].sha256",
    ),
    "hash too short": (
        put("sets", 1, "provenance", "corpus", value=[{"name": "emma", "sha256": "ab"}]),
        SECOND + "provenance.corpus[0].sha256",
    ),
    "evaluations negative": (
        put("sets", 1, "provenance", "evaluations", value=-1),
        SECOND + "provenance.evaluations",
    ),
    "perplexity zero": (
        put("sets", 1, "provenance", "perplexity_after", value=0),
        SECOND + "provenance.perplexity_after",
    ),
    "an adapter in format 1": (put("sets", 1, "adapter", value=ADAPTER), SECOND + "adapter needs"),
    "adapter a path": (adapter(value="adapter"), SECOND + "adapter is"),
    "adapter without rank": (adapter(value={"folder": "a"}), SECOND + "adapter.sha256 is missing"),
    "adapter of an unknown field": (adapter("alpha", value=2), SECOND + "adapter.alpha"),
    "adapter's hash too short": (adapter("sha256", value="ab"), SECOND + "adapter.sha256"),
    "adapter's base a name": (
        adapter("base_sha256", value="llama"),
        SECOND + "adapter.base_sha256",
    ),
    "adapter of rank 0": (adapter("rank", value=0), SECOND + "adapter.rank"),
    "adapter of scale two": (adapter("scale", value="2"), SECOND + "adapter.scale"),
    "adapter of rank 513": (adapter("rank", value=513), SECOND + "adapter.rank"),
    "adapter of rank 8.0": (adapter("rank", value=8.0), SECOND + "adapter.rank"),
    "adapter nowhere": (adapter("folder", value=""), SECOND + "adapter.folder"),
    "adapter by an absolute path": (adapter("folder", value="/a"), SECOND + "adapter.folder"),
    "adapter above the file": (adapter("folder", value="../a"), SECOND + "adapter.folder"),
    "adapter above by a detour": (adapter("folder", value="a/../../b"), SECOND + "adapter.folder"),
    "adapter by a Windows path": (adapter("folder", value="..\\a"), SECOND + "adapter.folder"),
    "adapter's folder with a NUL": (adapter("folder", value="a\0b"), SECOND + "adapter.folder"),
}


def refusal(path: Path) -> str:
    """The message with which `path` is refused, checked to be one sentence naming the file."""
    with pytest.raises(FactorFileError) as caught:
        schema.load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    assert message.endswith(".")
    assert len(message) < len(str(path)) + 250
    return message


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_field(name: str, tmp_path: Path) -> None:
    spoil, field = MALFORMED[name]
    content = document()
    spoil(content)
    path = write(tmp_path / "spoilt.json", content)
    assert field in refusal(path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("sets: []", "not valid JSON"),
        ("[]", "should be a JSON object"),
        ("null", "should be a JSON object"),
        ('{"format": "longrope-factors/1", "format": "longrope-factors/1"}', '"format" appears'),
        ('{"sets": ' + "9" * 5000 + "}", "not valid JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"format": "longrope-factors/1", "model": ' + "[" * 500 + "]" * 500 + "}", "model"),
        ("\ufeff{", "not valid JSON"),
    ],
)
def test_not_a_factor_file_at_all(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(text, encoding="utf-8")
    assert reason in refusal(path)


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity", "-Infinity"])
def test_numbers_that_only_python_reads(number: str, tmp_path: Path) -> None:
    content = json.dumps(document()).replace(
        '"attention_factor": 1.0', f'"attention_factor": {number}'
    )
    assert "sets[0] (max_length 8192): attention_factor" in refusal(
        write(tmp_path / "x.json", content)
    )


def test_duplicate_key_deep_inside(tmp_path: Path) -> None:
    content = json.dumps(document()).replace(
        '"start_tokens": 0', '"start_tokens": 0, "start_tokens": 4', 1
    )
    assert '"start_tokens" appears twice' in refusal(write(tmp_path / "x.json", content))


def test_a_byte_order_mark_is_taken_off(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(document()).encode())
    assert schema.load(path).max_length == 32768


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_another_encoding_is_named_by_its_mark(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(json.dumps(document()).encode(encoding))
    assert f"is {encoding.upper()} text by its byte order mark (BOM)" in refusal(path)


def test_missing_file(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "missing.json")


def test_directory(tmp_path: Path) -> None:
    assert "not a regular file" in refusal(tmp_path)


def test_device() -> None:
    assert "not a regular file" in refusal(Path("/dev/zero"))


def test_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in refusal(tmp_path / "pipe")


def test_name_with_a_null_byte() -> None:
    with pytest.raises(FactorFileError, match="cannot be read"):
        schema.load("a\0b")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable(tmp_path: Path) -> None:
    path = write(tmp_path / "x.json", document())
    path.chmod(0)
    assert "Permission denied" in refusal(path)


def test_unreadable_by_a_failing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = write(tmp_path / "x.json", document())
    monkeypatch.setattr(Path, "open", denied)
    assert "Permission denied" in refusal(path)


def test_invalid_utf8(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b'{"format": "\xff"}')
    assert "not UTF-8 text (byte 12)" in refusal(path)


def test_a_terabyte_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    path.touch()
    os.truncate(path, 1024**4)  # a hole, which takes no room
    assert "larger than 16 MiB" in refusal(path)


def test_brackets_up_to_the_limit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "brackets.json"
    path.write_bytes(b"[" * strict_json.SIZE_LIMIT)
    assert "nested too deeply" in refusal(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("architecture", "MistralForCausalLM"),
        ("rotary_dim", 128),
        ("rope_theta", 10000.0),
        ("original_max_position_embeddings", 4096),
    ],
)
def test_another_model(field: str, value: Any, tmp_path: Path) -> None:
    content = document()
    content["sets"][2]["provenance"]["method"] = "longrope"  # searched: not of formulas alone
    path = write(tmp_path / "x.json", content)
    other = IDENTITY.model_copy(update={field: value})
    with pytest.raises(FactorFileError) as caught:
        schema.check_model(schema.load(path), other, path)
    message = str(caught.value)
    assert message.startswith(f"{path}: model.{field} ")
    assert json.dumps(value) in message
    assert json.dumps(getattr(IDENTITY, field)) in message
    assert "\n" not in message


def test_formulas_alone_fit_every_architecture(tmp_path: Path) -> None:
    path = write(tmp_path / "x.json", document())
    other = IDENTITY.model_copy(update={"architecture": "MistralForCausalLM"})
    schema.check_model(schema.load(path), other, path)
    content = {**document(), "format": "longrope-factors/2"}
    content["sets"][2]["adapter"] = ADAPTER
    adapted = write(tmp_path / "adapted.json", content)
    with pytest.raises(FactorFileError, match=r"model\.architecture"):
        schema.check_model(schema.load(adapted), other, adapted)


def test_a_models_name_is_for_people(tmp_path: Path) -> None:
    path = write(tmp_path / "x.json", document())
    schema.check_model(schema.load(path), IDENTITY.model_copy(update={"name": "other"}), path)


def test_the_example_itself_is_well_formed(tmp_path: Path) -> None:
    content = document()
    content["sets"][1]["provenance"] = {
        **provenance("longrope"),
        "search": {"population": 64, "start_tokens": [0, 1, 2]},
        "seed": 7,
        "corpus": [{"name": "emma", "sha256": "0" * 64}],
        "evaluations": 1344,
        "perplexity_before": 39.4,
        "perplexity_after": 17.9,
    }
    assert schema.load(write(tmp_path / "x.json", content)).max_length == 32768
