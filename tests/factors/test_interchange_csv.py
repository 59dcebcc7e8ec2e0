"""The authors' CSVs: written as their code reads them, read back to the last digit."""

import json
import math
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from longrope_factors.factor_file import schema
from longrope_factors.factor_file.errors import FactorFileError
from longrope_factors.factor_file.schema import FactorFile
from longrope_factors.formats import authors_csv

from tests.factors.examples import document, model_directory, write
from tests.factors.test_interchange import config_of, factor_files, refused, rotations, run


@settings(deadline=None, max_examples=30)  # each example runs two commands
@given(factor_files())
def test_a_file_comes_back_with_the_options_that_export_names(factor_file: FactorFile) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        schema.save(factor_file, folder / "any.json")
        exported = run("export", folder / "any.json", "--to", "csv", "-o", folder)
        model = model_directory(folder / "model", config_of(factor_file.model))
        # 'any-4096.csv holds factors only: of any at --length ... , without provenance.'
        options = [
            word
            for line in exported.stderr.splitlines()
            for word in line.split(" at ", 1)[1].split(",")[0].split()
        ]
        result = run(
            "import", *exported.stdout.split(), "--from", "csv", "--model", model, *options,
            "-o", folder / "again.json",
        )  # fmt: skip
        assert result.exit_code == 0, result.stderr
        assert rotations(schema.load(folder / "again.json")) == rotations(factor_file)


def test_the_authors_code_reads_it(tmp_path: Path) -> None:
    content = document()
    content["sets"][1]["factors"] = [1 + pair / 7 for pair in range(32)]
    file = write(tmp_path / "x.json", content)
    assert run("export", file, "--to", "csv", "-o", tmp_path, "--length", 8193).exit_code == 0
    assert not (tmp_path / "x-8192.csv").exists()
    with (tmp_path / "x-16384.csv").open() as opened:
        read = np.loadtxt(opened, delimiter=",", skiprows=0)
    assert read.tolist() == content["sets"][1]["factors"]


def test_the_authors_attention_factor(tmp_path: Path) -> None:
    csv = write(tmp_path / "x.csv", "\n".join(["1.5"] * 32))
    command = (
        "import", csv, "--from", "csv", "--model", model_directory(tmp_path / "model"),
        "--length", 32768, "--start-tokens", 4, "-o", tmp_path / "x.json",
    )  # fmt: skip
    assert run(*command, "--attention-factor", "authors").exit_code == 0
    (factor_set,) = schema.load(tmp_path / "x.json").sets
    assert factor_set.attention_factor == math.sqrt(1 + math.log(4) / math.log(8192))
    assert factor_set.start_tokens == 4
    assert factor_set.provenance.method == "published"
    assert factor_set.provenance.source.startswith("x.csv (sha256 ")
    for wrong in ("0", "nan", "inf", "su", "1_5", "\uff11", "Infinity"):
        assert "--attention-factor" in refused(*command, "--attention-factor", wrong)


def test_what_a_csv_does_not_say_is_asked_for(tmp_path: Path) -> None:
    csv = write(tmp_path / "x.csv", "\n".join(["1.5"] * 32))
    model = model_directory(tmp_path / "model")
    command = ["import", csv, "--from", "csv", "-o", tmp_path / "x.json"]
    assert "--model DIR" in refused(*command)
    for option, value in (
        ("--model", model),
        ("--length", 16384),
        ("--start-tokens", 0),
        ("--attention-factor", 1.0),
    ):
        command += [option, value]
        if option != "--attention-factor":
            assert "given 0 times; it should be 1 times" in refused(*command)
    assert run(*command).exit_code == 0


@pytest.mark.parametrize(
    "text", ["1.5\n" * 32, ",".join(["1.5"] * 32), (",".join(["1.5"] * 32) + "\n") * 12]
)
def test_one_column_one_row_or_a_row_for_each_layer(text: str, tmp_path: Path) -> None:
    assert authors_csv.read(write(tmp_path / "x.csv", text), 64) == (1.5,) * 32


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "numbers in a set"),
        ("1\n" * 31, "31 numbers"),
        ("1,2\n1\n", "1 or 2 numbers"),
        ("1\nx\n", "line 2 is 'x'"),
        ("1\n-1\n", "line 2 is '-1'"),
        ("1\nnan\n", "line 2 is 'nan'"),
        ("1\n1_5\n", "line 2 is '1_5'"),
        ("1\n\uff11\uff15\n", "line 2 is '\uff11\uff15'"),
        ("1\n\u0661\n", "line 2 is '\u0661'"),
        ("1\nInfinity\n", "line 2 is 'Infinity'"),
        ("1\n1e400\n", "line 2 is '1e400'"),
        ("1\n0x10\n", "line 2 is '0x10'"),
        ("1\n1.5.2\n", "line 2 is '1.5.2'"),
        ("1\n1 5\n", "line 2 is '1 5'"),
        ("1\n1e\n", "line 2 is '1e'"),
        ("1,\xa02\n", "line 1 is '1,"),
        ("1\n\u20282\n", "line 2 is '2'"),
        ("1\n2\0\n", "byte 3 is 0"),
        (",".join(["1"] * 32) + "\n" + ",".join(["2"] * 32), "different factors for each layer"),
    ],
)
def test_unusable_csvs(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(FactorFileError, match=words) as caught:
        authors_csv.read(write(tmp_path / "x.csv", text), 64)
    assert str(caught.value).startswith(str(tmp_path / "x.csv"))


@pytest.mark.parametrize(
    ("number", "value"),
    [
        (" 15", 15),
        ("+5", 5),
        ("15.", 15),
        (".5", 0.5),
        ("1e1", 10),
        ("1.5E+1\t", 15),
        ("1e-1", 0.1),
    ],
)
def test_numbers_as_programs_write_them(number: str, value: float, tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", f"{number}\n" * 32)
    assert authors_csv.read(path, 64) == (value,) * 32


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_a_byte_order_mark_and_any_line_end(line_end: str, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b"\xef\xbb\xbf" + line_end.join(["1.5"] * 32).encode())
    assert authors_csv.read(path, 64) == (1.5,) * 32


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_another_encoding_is_refused_by_its_mark(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(("1.5\n" * 32).encode(encoding))
    with pytest.raises(FactorFileError, match=rf"is {encoding.upper()} text by .*\(BOM\)"):
        authors_csv.read(path, 64)


def test_a_missing_csv(tmp_path: Path) -> None:
    with pytest.raises(FactorFileError, match="No such file"):
        authors_csv.read(tmp_path / "none.csv", 64)


PUBLISHED = Path(__file__).parents[1] / "published"


def test_the_published_form_of_a_row_for_each_layer(tmp_path: Path) -> None:
    factors = json.loads((PUBLISHED / "ft_la2_128k.json").read_text())["rescale_factors"]
    np.savetxt(tmp_path / "ft.csv", np.tile(factors, (32, 1)), delimiter=",")
    assert list(authors_csv.read(tmp_path / "ft.csv", 128)) == factors
