"""`evaluate retrieval` from the command line, on a tiny model."""

import json
from pathlib import Path
from typing import Any

import pytest
from longrope_factors.cli import app
from longrope_factors.evaluating import results
from longrope_factors.evaluating.retrieval.results import Asking
from longrope_factors.factor_file import methods, schema
from longrope_factors.factor_file.model_directory import identity_of
from typer.testing import CliRunner, Result

from tests.factors import adapters, tiny
from tests.factors.killing import killed_evaluation

SHORT, LONG = 1400, 1700
LENGTHS = ["--short", str(SHORT), "--length", str(LONG)]
QUICK = ["--facts", "2", "--dtype", "float32", "--device", "cpu", *LENGTHS]
TIMES = {"seconds", "peak_memory_bytes", "date"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with an original length of 1,500 bytes."""
    path = tmp_path_factory.mktemp("retrieval") / "tiny"
    return tiny.save(path, tiny.byte_level(), max_position_embeddings=1500)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["evaluate", "retrieval", *map(str, arguments)])


def untimed(path: Path) -> list[dict[str, Any]]:
    """The lines of a results file without what differs from run to run."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{name: line[name] for name in line if name not in TIMES} for line in lines]


@pytest.mark.long
def test_tasks_lengths_and_methods(model: Path, tmp_path: Path) -> None:
    output, plot, book = (tmp_path / name for name in ("r.jsonl", "r.png", "book.txt"))
    book.write_text("It was the end of May. Nobody had come, and he knew why. " * 20)
    tasks = ["--task", "lines", "--task", "multi_query"]
    common = ["--model", model, "-o", output, "--method", "ntk", "--corpus", book, *QUICK, *tasks]
    first = run(*common)
    assert first.exit_code == 0, first.output
    assert "effective length" in first.stdout
    assert "nothing was found at 1,400" in first.stdout, "a random model finds nothing"
    before = output.read_text()

    second = run(*common, "--method", "pi", "--task", "single_key", "--json", "--plot", plot)
    assert second.exit_code == 0, second.output
    assert output.read_text().startswith(before), "what is there is not measured again"
    assert plot.read_bytes().startswith(b"\x89PNG")
    shown = json.loads(second.stdout)
    assert shown["effective_length"] == {"ntk": None, "pi": None}
    found = [Asking.model_validate_json(json.dumps(asking)) for asking in shown["results"]]
    # Each task's document at each length under each method; of single_key one for each fact.
    assert len(found) == 2 * 2 * (1 + 1 + 2)
    # At the short length both methods are the model's own rotation: measured once, said of both.
    written = results.read(output, Asking)
    assert len(written) == len(found)
    assert len({asking.key for asking in written}) == 3 * (1 + 1 + 2)
    for asking in found:
        assert asking.length in (SHORT, LONG)
        assert asking.length - 200 < asking.tokens <= asking.length
        facts = [fact for answer in asking.answers for fact in answer.found]
        assert len(facts) == {"lines": 2, "multi_query": 4, "single_key": 1}[asking.task]
        assert all(answer.loss > 1 for answer in asking.answers)
        assert (asking.filler_sha256 is None) == (asking.task == "lines")
    by_method = [
        [
            (asking.task, asking.length, asking.document, [a.answers for a in asking.answers])
            for asking in some
        ]
        for some in (
            [asking for asking in found if asking.method == name] for name in ("ntk", "pi")
        )
    ]
    assert by_method[0] == by_method[1], "the same documents for each"


def test_a_seed_gives_the_same_bytes(model: Path, tmp_path: Path) -> None:
    first, second, other = (tmp_path / name for name in ("a.jsonl", "b.jsonl", "c.jsonl"))
    common = ["--model", model, "--method", "yarn", "--task", "key_value", *QUICK]
    for output, seed in ((first, "0"), (second, "0"), (other, "1")):
        result = run(*common, "--seed", seed, "-o", output)
        assert result.exit_code == 0, result.output
    assert untimed(first) == untimed(second)
    answers = [[line["answers"] for line in untimed(path)] for path in (first, other)]
    assert answers[0] != answers[1]


@pytest.mark.long
def test_resume_after_kill_9(model: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    arguments = ["--model", model, "--method", "original", "--documents", "4", *QUICK]
    arguments += ["--task", "lines", "--task", "key_value"]
    before = killed_evaluation(["retrieval", *arguments], killed, 2, most=16)
    for output in (killed, whole):
        result = run(*arguments, "-o", output)
        assert result.exit_code == 0, result.output
    assert killed.read_bytes().startswith(before)
    assert untimed(killed) == untimed(whole)


def test_a_set_is_measured_with_its_adapter(model: Path, tmp_path: Path) -> None:
    found = adapters.save(model, tmp_path / "adapter")
    identity = identity_of(model)
    short = methods.factor_set("original", identity, 1500)
    long = methods.factor_set("ntk", identity, 3000)
    adapted = long.model_copy(update={"adapter": found})
    for name, factor_set in (("with.json", adapted), ("without.json", long)):
        schema.save(schema.build(identity, [short, factor_set]), tmp_path / name)
    output = tmp_path / "r.jsonl"
    result = run(
        *("--model", model, "-o", output, "--task", "lines", "--json", *QUICK),
        *("--factors", tmp_path / "with.json", "--factors", tmp_path / "without.json"),
    )
    assert result.exit_code == 0, result.output
    losses = {
        (asking["method"], asking["length"]): [answer["loss"] for answer in asking["answers"]]
        for asking in json.loads(result.stdout)["results"]
    }
    assert losses["with.json", SHORT] == losses["without.json", SHORT]
    assert losses["with.json", LONG] != pytest.approx(losses["without.json", LONG], rel=1e-2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--length", "1000", "--method", "pi"], "--short should be 1000 or less"),
        (["--length", "90", "--short", "80", "--method", "pi"], "with 10 facts"),
        (["--length", "2000", "--method", "pi", "--task", "x"], "--task x should be one of key_v"),
        (["--length", "2000", "--method", "pi", "--form", "chat"], "chat template"),
        (["--length", "2000"], "--method"),
        (["--length", "2000", "--method", "pi", "--device", "x"], "--device x"),
        (["--length", "2000", "--method", "pi", "--corpus", "none.txt"], "none.txt"),
    ],
)
def test_refusals(arguments: list[str], words: str, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "r.jsonl"
    short = [] if "--short" in arguments else ["--short", "1400"]
    result = run("--model", model, "-o", output, *short, *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert words in result.stderr
    assert not output.exists()


def test_the_short_length_is_half_the_original(model: Path, tmp_path: Path) -> None:
    common = ["--model", model, "--method", "pi", "-o", tmp_path / "r.jsonl", "--length", "740"]
    assert "shorter than the 750 tokens" in run(*common).stderr
