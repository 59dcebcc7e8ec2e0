"""Evaluations are appended, resumed and chosen from."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from longrope_factors import choice, evaluation, methods, schema
from longrope_factors.cli import app
from longrope_factors.evaluation import Evaluation
from longrope_factors.schema import Method
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from typer.testing import CliRunner, Result

from tests.factors.examples import IDENTITY, llama_config


def measured(method: Method, length: int, perplexity: float, corpus: str = "a") -> Evaluation:
    return Evaluation(
        model="example",
        weights_sha256="0" * 64,
        corpus=corpus,
        corpus_sha256=corpus * 64,
        length=length,
        method=method,
        fingerprint=methods.factor_set(method, IDENTITY, length).fingerprint,
        perplexity=perplexity,
        perplexity_last_1024=perplexity,
        seconds=1.0,
        date="2026-11-23",
        tool_version="0.1.0",
    )


def test_results_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    assert evaluation.finished(path) == []
    each = measured("pi", 16384, 20.0)
    evaluation.append(path, each)
    assert evaluation.finished(path) == [each]


def test_a_line_that_a_killed_run_left_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    each = measured("pi", 16384, 20.0)
    evaluation.append(path, each)
    with path.open("a") as file:
        file.write(json.dumps(asdict(each))[:50])
    assert evaluation.finished(path) == [each]
    evaluation.append(path, each)
    assert evaluation.finished(path) == [each, each]


def test_other_lines_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text('{"perplexity": 3}\n')
    with pytest.raises(ValueError, match="line 1"):
        evaluation.finished(path)


def test_the_best_of_the_geometric_means_is_chosen() -> None:
    evaluations = [
        measured("original", 16384, 40.0, "a"),
        measured("original", 16384, 90.0, "b"),
        measured("ntk", 16384, 10.0, "a"),
        measured("ntk", 16384, 40.0, "b"),
        measured("yarn", 16384, 12.0, "a"),
        measured("yarn", 16384, 27.0, "b"),
        measured("ntk", 32768, 10.0, "a"),
        measured("yarn", 32768, 12.0, "a"),
    ]
    chosen = choice.best_measured(evaluations, IDENTITY, [32768, 8192, 16384])
    assert [each.provenance.method for each in chosen.sets] == ["original", "yarn", "ntk"]
    second = chosen.sets[1]
    assert second.factors == methods.factor_set("yarn", IDENTITY, 16384).factors
    assert second.provenance.perplexity_before == pytest.approx(60.0)
    assert second.provenance.perplexity_after == pytest.approx(18.0)
    assert second.provenance.evaluations == 6
    assert [each.name for each in second.provenance.corpus or ()] == ["a", "b"]
    assert chosen.sets[2].provenance.perplexity_before is None


def test_methods_on_other_texts_are_not_compared() -> None:
    evaluations = [measured("ntk", 16384, 10.0, "a"), measured("yarn", 16384, 12.0, "b")]
    with pytest.raises(ValueError, match="16384"):
        choice.best_measured(evaluations, IDENTITY, [16384])


def test_a_length_that_nothing_was_measured_at() -> None:
    with pytest.raises(ValueError, match="16384"):
        choice.best_measured([], IDENTITY, [16384])


def test_other_weights_are_not_compared() -> None:
    first = measured("ntk", 16384, 10.0)
    other = replace(measured("yarn", 16384, 12.0), weights_sha256="1" * 64)
    with pytest.raises(ValueError, match="weights"):
        choice.best_measured([first, other], IDENTITY, [16384])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with an original length of 64 tokens, and a tokenizer of letters."""
    path = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    config = LlamaConfig(**llama_config(max_position_embeddings=64))
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(path)
    vocabulary = {letter: index for index, letter in enumerate("abcdefgh")}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(path)
    return path


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "letters.txt"
    path.write_text("abcdefgh" * 20)
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def test_evaluate_resume_and_choose(model: Path, corpus: Path, tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    common = ["perplexity", "--model", model, "--corpus", corpus, "-o", results]
    first = run(*common, "--length", "64", "--length", "128", "--method", "original")
    assert first.exit_code == 0, first.output
    assert len(evaluation.finished(results)) == 2
    before = results.read_text()

    arguments = [*common, "--length", "128", "--method", "original", "--method", "yarn"]
    second = run(*arguments)
    assert second.exit_code == 0, second.output
    assert results.read_text().startswith(before)
    assert [each.method for each in evaluation.finished(results)] == [
        "original",
        "original",
        "yarn",
    ]
    for word in ("letters", "128", "yarn", "last 1,024"):
        assert word in second.stdout

    output = tmp_path / "tiny.json"
    chosen = run(
        *("choose", "--model", model, "--name", "tiny", "--results", results),
        *("--length", "64", "--length", "128", "-o", output),
    )
    assert chosen.exit_code == 0, chosen.output
    factor_file = schema.load(output)
    assert [each.max_length for each in factor_file.sets] == [64, 128]
    assert factor_file.model.name == "tiny"

    again = run(*common, "--length", "128", "--factors", output)
    assert again.exit_code == 0, again.output
    assert len(evaluation.finished(results)) == 3, "the chosen set was measured already"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--length", "500", "--method", "pi"], "160 tokens"),
        (["--length", "32", "--method", "pi"], "64"),
        (["--length", "128"], "--method"),
        (["--length", "128", "--method", "x"], "original, pi, ntk, yarn"),
    ],
)
def test_evaluate_refusals(
    arguments: list[str], words: str, model: Path, corpus: Path, tmp_path: Path
) -> None:
    results = tmp_path / "results.jsonl"
    result = run("perplexity", "--model", model, "--corpus", corpus, *arguments, "-o", results)
    assert result.exit_code == 2
    assert words in result.stderr.splitlines()[-1]
    assert not results.exists()
