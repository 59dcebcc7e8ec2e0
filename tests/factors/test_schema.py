"""What a good factor file does: selection, fingerprints, round trips and the published schema."""

import json
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from longrope_factors.factor_file import schema
from longrope_factors.factor_file.adapters import adapter_files
from longrope_factors.factor_file.schema import (
    Adapter,
    FactorFile,
    FactorFileError,
    FactorSet,
    Provenance,
)
from pydantic import ValidationError

from tests.factors.examples import ADAPTER, IDENTITY, document, provenance, write

PUBLISHED = Path(schema.__file__).with_name("factor_file.schema.json")
LIBRARY = Path(schema.__file__).parents[1] / "library"

factors = st.floats(min_value=1e-3, max_value=1e6)


# Of document()'s sets, printed by the release that knew format 1 only.
FINGERPRINTS = ["04adf7ec09d0db92", "e679b77ef534091a", "6a6be606e8a260dd"]


def document_fingerprint(index: int) -> str:
    return FactorSet.model_validate(document()["sets"][index]).fingerprint


@st.composite
def factor_files(draw: st.DrawFn) -> FactorFile:
    pairs = draw(st.integers(1, 8))
    lengths = draw(st.lists(st.integers(1, 2**21), min_size=1, max_size=6, unique=True))
    sets = [
        FactorSet(
            max_length=length,
            factors=tuple(draw(st.lists(factors, min_size=pairs, max_size=pairs))),
            start_tokens=draw(st.integers(0, 256)),
            attention_factor=draw(st.floats(min_value=1e-3, max_value=1e3)),
            adapter=draw(st.none() | st.just(Adapter.model_validate(ADAPTER))),
            provenance=Provenance(
                method=draw(st.sampled_from(["longrope", "published"])),
                source=draw(st.text(min_size=1)),
                date="2026-11-23",
                tool_version="0.1.0",
                seed=draw(st.none() | st.integers()),
                search=draw(st.none() | st.dictionaries(st.text(), st.integers() | st.text())),
            ),
        )
        for length in sorted(lengths)
    ]
    return schema.build(IDENTITY.model_copy(update={"rotary_dim": 2 * pairs}), sets)


@pytest.mark.long
@settings(deadline=None)  # it writes to a disk that others may keep busy
@given(factor_files())
def test_saved_files_load_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, factor_file: FactorFile
) -> None:
    path = tmp_path_factory.getbasetemp() / "round-trip.json"
    schema.save(factor_file, path)
    again = schema.load(path)
    assert again == factor_file
    assert [factor_set.fingerprint for factor_set in again.sets] == [
        factor_set.fingerprint for factor_set in factor_file.sets
    ]
    text = path.read_text(encoding="utf-8")
    schema.save(again, path)
    assert path.read_text(encoding="utf-8") == text


@settings(deadline=None)
@given(factor_files(), st.data())
def test_selection_is_the_smallest_set_that_covers(
    factor_file: FactorFile, data: st.DataObject
) -> None:
    length = data.draw(st.integers(1, factor_file.max_length))
    lengths = [factor_set.max_length for factor_set in factor_file.sets]
    assert factor_file.select(length) == next(
        index for index, limit in enumerate(lengths) if length <= limit
    )
    for index, limit in enumerate(lengths):
        assert factor_file.select(limit) == index
        if index + 1 < len(lengths):
            assert factor_file.select(limit + 1) == index + 1


@pytest.mark.parametrize(("length", "word"), [(0, "least"), (-5, "least"), (32769, "longer")])
def test_selection_refuses_what_no_set_covers(length: int, word: str) -> None:
    factor_file = FactorFile.model_validate(document())
    with pytest.raises(ValueError, match=word):
        factor_file.select(length)


def test_fingerprint_follows_the_rotation_only() -> None:
    def made(**changes: object) -> str:
        content = {**document()["sets"][1], **changes}
        return FactorSet.model_validate(content).fingerprint

    plain = made()
    assert plain == made(max_length=99, provenance=provenance("yarn"))
    assert plain == made(factors=[2] * 32)
    others = {
        made(factors=[2.0] * 31 + [2.0000000000000004]),
        made(start_tokens=1),
        made(attention_factor=1.0000000000000002),
    }
    assert len(others | {plain}) == 4


def test_fingerprint_covers_the_adapters_weights_and_not_their_place() -> None:
    def made(**changes: object) -> str:
        content = {**document()["sets"][1], "adapter": {**ADAPTER, **changes}}
        return FactorSet.model_validate(content).fingerprint

    tuned = made()
    assert tuned == made(folder="elsewhere/adapter", base_sha256="c" * 64)
    others = {
        made(sha256="c" * 64),
        made(rank=4),
        made(scale=1.0),
        document_fingerprint(1),
        document_fingerprint(2),
    }
    assert len(others | {tuned}) == 6


def test_fingerprints_of_sets_without_an_adapter_are_those_of_the_releases_before() -> None:
    assert [document_fingerprint(index) for index in range(3)] == FINGERPRINTS


def test_the_format_is_the_first_that_can_say_the_file(tmp_path: Path) -> None:
    plain = FactorFile.model_validate(document())
    assert schema.dumps(plain).startswith('{\n  "format": "longrope-factors/1"')
    adapter = Adapter.model_validate(ADAPTER)
    for tuned in ((0,), (1, 2), (2,)):
        sets = [
            factor_set.model_copy(update={"adapter": adapter}) if index in tuned else factor_set
            for index, factor_set in enumerate(plain.sets)
        ]
        made = schema.build(IDENTITY, sets)
        path = tmp_path / "tuned.json"
        schema.save(made, path)
        assert json.loads(path.read_text())["format"] == made.format == "longrope-factors/2"
        assert schema.load(path) == made
        assert schema.dumps(made.model_copy(update={"sets": plain.sets})) == schema.dumps(plain)


def test_format_2_without_adapters_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "x.json", document() | {"format": "longrope-factors/2"})
    found = schema.load(path)
    assert found.sets == FactorFile.model_validate(document()).sets
    assert schema.dumps(found) == schema.dumps(FactorFile.model_validate(document()))


def test_records_are_frozen() -> None:
    factor_file = FactorFile.model_validate(document())
    with pytest.raises(ValidationError):
        factor_file.sets[0].max_length = 5  # type: ignore[misc]


def test_unknown_provenance_is_left_out_of_the_file() -> None:
    text = schema.dumps(FactorFile.model_validate(document()))
    assert "perplexity_before" not in text
    assert "null" not in text


def test_factors_stand_many_to_a_line() -> None:
    lines = schema.dumps(FactorFile.model_validate(document())).splitlines()
    assert len(lines) < 60
    assert max(map(len, lines)) <= 100


def test_save_replaces_in_one_step(tmp_path: Path) -> None:
    path = write(tmp_path / "x.json", "old")
    schema.save(FactorFile.model_validate(document()), path)
    assert schema.load(path).max_length == 32768
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.json"]
    assert stat.S_IMODE(path.stat().st_mode) & 0o400


@pytest.mark.parametrize("place", ["missing/x.json", "folder"])
def test_save_where_it_cannot(place: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    path = tmp_path / place
    with pytest.raises(FactorFileError, match="cannot be written") as caught:
        schema.save(FactorFile.model_validate(document()), path)
    assert str(caught.value).startswith(f"{path}: ")
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def test_build_says_which_set_does_not_fit() -> None:
    sets = FactorFile.model_validate(document()).sets
    with pytest.raises(
        FactorFileError, match=r"^example: sets\[1\] \(max_length 8192\): max_length"
    ):
        schema.build(IDENTITY, (sets[0], sets[0]))


def test_published_json_schema_is_up_to_date() -> None:
    # `longrope factors schema` prints what this file should hold.
    assert json.loads(PUBLISHED.read_text(encoding="utf-8")) == schema.json_schema()


@pytest.mark.parametrize("path", sorted(LIBRARY.glob("*.json")), ids=lambda path: path.name)
def test_shipped_files_load(path: Path) -> None:
    factor_file = schema.load(path)
    assert path.read_text(encoding="utf-8") == schema.dumps(factor_file)
    first = factor_file.sets[0]
    assert first.max_length == factor_file.model.original_max_position_embeddings
    if first.provenance.method == "original":
        assert set(first.factors) == {1.0}
    adapter_files.check(factor_file, path)


def test_a_copy_with_another_rotation_has_another_fingerprint() -> None:
    factor_set = FactorFile.model_validate(document()).sets[1]
    before = factor_set.fingerprint
    assert factor_set.model_copy(update={"start_tokens": 4}).fingerprint != before
    assert factor_set.model_copy(update={"max_length": 4}).fingerprint == before
