"""Evaluations are appended and resumed."""

import hashlib
import json
import resource
import struct
from pathlib import Path

import numpy as np
import pytest
from longrope_factors.cli import app
from longrope_factors.evaluating import evaluation, results, tables
from longrope_factors.evaluating.evaluation import Evaluation
from longrope_factors.factor_file import hf, methods, schema
from longrope_factors.factor_file.files import json_lines
from longrope_factors.factor_file.schema import Method
from typer.testing import CliRunner, Result

from tests.factors import tiny
from tests.factors.examples import IDENTITY, model_directory
from tests.factors.killing import killed_evaluation


def measured(method: Method, length: int, perplexity: float, corpus: str = "a") -> Evaluation:
    return Evaluation(
        model="example",
        weights_sha256="0" * 64,
        dtype="bfloat16",
        device="cpu",
        corpus=corpus,
        corpus_sha256=corpus * 64,
        length=length,
        window=length,
        stride=length,
        method=method,
        fingerprint=methods.factor_set(method, IDENTITY, length).fingerprint,
        perplexity=perplexity,
        perplexity_last_1024=perplexity,
        curve=(1.0, 2.0),
        seconds=1.0,
        peak_memory_bytes=2**30,
        date="2026-11-23",
        tool_version="0.1.0",
    )


def test_results_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    assert results.read(path, Evaluation) == []
    kept = measured("pi", 16384, 20.0)
    broken = measured("pi", 16384, float("inf"))
    results.append(path, kept)
    results.append(path, broken)
    assert results.read(path, Evaluation) == [kept, broken]


def test_a_byte_order_mark_is_none_of_the_first_line(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    kept = measured("pi", 16384, 20.0)
    results.append(path, kept)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    results.append(path, kept)
    assert results.read(path, Evaluation) == [kept, kept]


def test_a_line_that_a_killed_run_left_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    kept = measured("pi", 16384, 20.0)
    results.append(path, kept)
    with path.open("a") as file:
        file.write(kept.model_dump_json()[:50])
    torn = path.read_bytes()
    assert results.read(path, Evaluation) == [kept]
    assert path.read_bytes() == torn, "another run may still be writing it"
    json_lines.begin(path)
    results.append(path, kept)
    assert results.read(path, Evaluation) == [kept, kept]


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    kept = measured("pi", 16384, 20.0)
    results.append(path, kept)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 50, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            results.append(path, kept)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert results.read(path, Evaluation) == [kept]


@pytest.mark.parametrize("line", ['{"perplexity": 3}', "{}", "[]", "", "\0", "NaN"])
def test_other_lines_are_refused(line: str, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    results.append(path, measured("pi", 16384, 20.0))
    with path.open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(ValueError, match=r"results.jsonl: line 2 .* Evaluation"):
        results.read(path, Evaluation)


@pytest.mark.parametrize(("length", "buckets"), [(2, 1), (5, 2), (97, 48), (128, 64), (1000, 64)])
def test_curve(length: int, buckets: int) -> None:
    losses = np.arange(1.0, length)  # the loss of token t is t
    curve = evaluation.curve(losses.tolist())
    assert len(curve) == buckets
    for bucket, mean in enumerate(curve):
        start, end = bucket * length // buckets, (bucket + 1) * length // buckets
        assert mean == pytest.approx(np.mean([token for token in range(start, end) if token]))


@pytest.mark.parametrize(
    ("length", "window", "stride", "expected"),
    [
        (1000, None, None, (1000, 1000)),
        (1000, 1000, None, (1000, 1000)),
        (1000, 5000, 100, (1000, 1000)),
        (1000, 500, None, (500, 256)),
        (1000, 100, None, (100, 99)),
        (1000, 500, 499, (500, 499)),
    ],
)
def test_view(
    length: int, window: int | None, stride: int | None, expected: tuple[int, int]
) -> None:
    assert evaluation.view(length, window, stride) == expected


def test_methods_are_compared_over_texts(capsys: pytest.CaptureFixture[str]) -> None:
    found = [
        measured("yarn", 16384, 20.0, "a"),
        measured("ntk", 16384, 22.0, "a"),
        measured("yarn", 16384, 30.0, "b"),
        measured("ntk", 16384, 33.6, "b"),
    ]
    tables.print_perplexity(found)
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "27.18" in line]
    # Mean and standard error of ln 1.1 = 0.0953 and ln 1.12 = 0.1133.
    assert "10.43%" in row
    assert "0.90%" in row
    tables.print_perplexity(found[:2])
    assert "geometric" not in capsys.readouterr().out


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with an original length of 64 tokens, and a tokenizer of letters."""
    return tiny.save(tmp_path_factory.mktemp("evaluation") / "tiny", tiny.letters())


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "letters.txt"
    path.write_text("abcdefgh" * 20)
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def test_evaluate_and_resume(model: Path, corpus: Path, tmp_path: Path) -> None:
    output, plot = tmp_path / "results.jsonl", tmp_path / "results.png"
    common = ["perplexity", "--model", model, "--corpus", corpus, "-o", output]
    first = run(*common, "--length", "64", "--length", "128", "--method", "original")
    assert first.exit_code == 0, first.output
    assert len(results.read(output, Evaluation)) == 2
    before = output.read_text()

    arguments = [*common, "--length", "64", "--length", "128", "--method", "original"]
    second = run(*arguments, "--method", "yarn", "--plot", plot)
    assert second.exit_code == 0, second.output
    assert output.read_text().startswith(before)
    found = results.read(output, Evaluation)
    assert [(measurement.method, measurement.length) for measurement in found] == [
        ("original", 64),
        ("original", 128),
        ("yarn", 128),
        ("yarn", 64),  # up to the original length it is the original rotation, measured already
    ]
    assert all(0 < measurement.peak_memory_bytes < 2**35 for measurement in found)
    for measurement in found:
        # 64 stretches of as many tokens but the first, which lacks the text's first token.
        tokens = measurement.length // len(measurement.curve)
        losses = tokens * np.asarray(measurement.curve)
        losses[0] -= measurement.curve[0]
        assert np.exp(losses.sum() / (measurement.length - 1)) == pytest.approx(
            measurement.perplexity
        )
    for word in ("letters", "128", "yarn", "last 1,024"):
        assert word in second.stdout
    assert plot.read_bytes().startswith(b"\x89PNG")

    file = tmp_path / "tiny.json"
    making = ["make", "--model", model, "--method", "yarn", "--length", 64, "--length", 128]
    CliRunner().invoke(app, [*map(str, making), "-o", str(file)], catch_exceptions=False)
    again = run(*common, "--length", "128", "--factors", file, "--json")
    assert again.exit_code == 0, again.output
    written = results.read(output, Evaluation)
    assert len({measurement.key for measurement in written}) == 3, "the set was measured already"
    assert [measurement.method for measurement in written[4:]] == ["tiny.json"]
    assert [measurement["method"] for measurement in json.loads(again.stdout)] == ["tiny.json"]


def test_texts_of_one_name_are_told_apart(model: Path, tmp_path: Path) -> None:
    books, names = [], []
    for folder, text in (("a", "abcdefgh" * 20), ("b", "hgfedcba" * 20)):
        books.append(tmp_path / folder / "book.txt")
        books[-1].parent.mkdir()
        books[-1].write_text(text)
        names.append(f"book ({hashlib.sha256(text.encode()).hexdigest()[:8]})")
    output, plot = tmp_path / "results.jsonl", tmp_path / "results.png"
    given = ["--length", "64", "--method", "pi", "-o", output, "--plot", plot]
    done = run("perplexity", "--model", model, "--corpus", books[0], "--corpus", books[1], *given)
    assert done.exit_code == 0, done.output
    assert all(name in done.stdout for name in names)
    assert struct.unpack(">2I", plot.read_bytes()[16:24]) == (1320, 816)  # two rows of 408 pixels
    page = tmp_path / "report.html"
    assert run("report", output, "-o", page).exit_code == 0
    assert all(f"{name}, 64" in page.read_text() for name in names)


def test_a_command_that_is_gone_says_what_takes_its_place(tmp_path: Path) -> None:
    gone = run("choose", "--results", tmp_path / "results.jsonl", "--length", "64", "-o", "x.json")
    assert gone.exit_code == 2
    assert "evaluate choose is no command any more" in gone.stderr
    assert "longrope factors make --method METHOD" in gone.stderr
    assert "choose" not in run("--help").stdout


def test_sliding_window_beside_files(model: Path, corpus: Path, tmp_path: Path) -> None:
    output, files = tmp_path / "results.jsonl", []
    for name, method in (("a", "pi"), ("b", "ntk")):
        (tmp_path / name).mkdir()
        files.append(tmp_path / name / "factors.json")
        made = CliRunner().invoke(
            app,
            [
                *("make", "--model", str(model), "--method", method),
                *("--length", "64", "--length", "128", "-o", str(files[-1])),
            ],
        )
        assert made.exit_code == 0, made.output
    common = ["perplexity", "--model", model, "--corpus", corpus, "-o", output, "--json"]
    both = ["--factors", files[0], "--factors", files[1], "--length", "160"]
    result = run(*common, *both, "--window", "100", "--stride", "10")
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    assert [measurement["method"] for measurement in shown] == [str(file) for file in files]
    assert [(measurement["window"], measurement["stride"]) for measurement in shown] == [
        (100, 10)
    ] * 2
    expected = [schema.load(file).sets[1].fingerprint for file in files]
    assert [measurement["fingerprint"] for measurement in shown] == expected, (
        "the set for the window's length"
    )
    assert shown[0]["perplexity"] != shown[1]["perplexity"]

    refused = run(*common, *both)
    assert refused.exit_code == 2
    assert f"{files[0]}: A sequence of 160 tokens is longer than 128" in refused.stderr


def test_a_models_own_sets(model: Path, corpus: Path, tmp_path: Path) -> None:
    identity = hf.model_identity(hf.read_config(model), "tiny")
    sets = [methods.factor_set("original", identity, 64), methods.factor_set("yarn", identity, 128)]
    factor_file = schema.build(identity, sets)
    rope = hf.hf_overrides(factor_file, "x")["rope_parameters"]
    extended = tiny.save(
        *(tmp_path / "extended", tiny.letters()),
        max_position_embeddings=128,
        original_max_position_embeddings=64,
        rope_parameters=rope,
        longrope_factors="factors.json",
    )
    schema.save(factor_file, extended / "factors.json")
    arguments = ["--method", "own", "--method", "yarn", "--length", "60", "--length", "128"]
    output = tmp_path / "results.jsonl"
    result = run(
        *("perplexity", "--model", extended, "--corpus", corpus, "-o", output, "--json"),
        *arguments,
    )
    assert result.exit_code == 0, result.output
    shown = {
        (measurement["method"], measurement["length"]): measurement
        for measurement in json.loads(result.stdout)
    }
    for length, factor_set in ((60, sets[0]), (128, sets[1])):
        assert shown["own", length]["fingerprint"] == factor_set.fingerprint
        assert shown["own", length]["perplexity"] == shown["yarn", length]["perplexity"]
    assert len({measurement.key for measurement in results.read(output, Evaluation)}) == 2


@pytest.mark.long
def test_resume_after_kill_9(model: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "letters.txt"
    corpus.write_text("abcdefghhgcab" * 400)
    lengths = [option for n in range(1000, 3000, 100) for option in ("--length", str(n))]
    arguments = ["perplexity", "--model", model, "--corpus", corpus, "--method", "pi", *lengths]
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    before = killed_evaluation(arguments, killed, 3, most=20)
    for output in (killed, whole):
        result = run(*arguments, "-o", output)
        assert result.exit_code == 0, result.output
    assert killed.read_bytes().startswith(before)
    ours, theirs = (results.read(path, Evaluation) for path in (killed, whole))
    assert [measurement.key for measurement in ours] == [measurement.key for measurement in theirs]
    assert [measurement.curve for measurement in ours] == [
        measurement.curve for measurement in theirs
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--length", "500", "--method", "pi"], "160 tokens"),
        (["--length", "128"], "--method"),
        (["--length", "128", "--method", "x"], "original, pi, ntk, yarn"),
        (["--length", "128", "--method", "own"], "longrope"),
        (["--length", "128", "--method", "pi", "--stride", "5"], "--window"),
        (["--length", "128", "--method", "pi", "--window", "5", "--stride", "9"], "--stride 9"),
        (["--length", "128", "--method", "pi", "--device", "x"], "--device x"),
        (["--length", "128", "--method", "pi", "--factors", "none.json"], "none.json"),
    ],
)
def test_evaluate_refusals(
    arguments: list[str], words: str, model: Path, corpus: Path, tmp_path: Path
) -> None:
    output = tmp_path / "results.jsonl"
    assert words in refused("--model", model, "--corpus", corpus, *arguments, "-o", output)
    assert not output.exists()


def test_no_corpus(model: Path, tmp_path: Path) -> None:
    common = ["--model", model, "--length", "64", "--method", "pi", "-o", tmp_path / "x.jsonl"]
    assert "--corpus" in refused(*common)
    assert "absent.txt" in refused(*common, "--corpus", tmp_path / "absent.txt")


def test_a_model_without_rope(corpus: Path, tmp_path: Path) -> None:
    config = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_positions": 1024}
    gpt2 = model_directory(tmp_path / "gpt2", config)
    common = ["--length", "64", "--method", "pi", "-o", tmp_path / "x.jsonl"]
    assert "rope_theta" in refused("--model", gpt2, "--corpus", corpus, *common)


def test_an_output_that_cannot_be_written(model: Path, corpus: Path, tmp_path: Path) -> None:
    common = ["--model", model, "--corpus", corpus, "--length", "64", "--method", "pi", "-o"]
    assert "nowhere" in refused(*common, tmp_path / "nowhere" / "x.jsonl")


def refused(*arguments: str | Path) -> str:
    result = run("perplexity", *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert result.stderr.count("\n") == 1
    return result.stderr
