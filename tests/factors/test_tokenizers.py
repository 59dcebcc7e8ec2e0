"""Tokenizers that end texts, templates that write the date, and models that cannot be read."""

import json
import re
import shutil
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from longrope_factors.cli import app
from longrope_factors.evaluating import results
from longrope_factors.evaluating.evaluation import Evaluation
from longrope_factors.evaluating.report.measured import told_apart
from longrope_factors.evaluating.retrieval import tasks
from longrope_factors.evaluating.retrieval.filler import NOISE
from longrope_factors.evaluating.retrieval.measurement import Material
from longrope_factors.evaluating.retrieval.prompts import Prompts
from longrope_factors.finetuning.data import exercises
from longrope_factors.models import tokenizers
from typer.testing import CliRunner

from tests.factors import finetuning, tiny

TODAY = (
    "{% if date_string is not defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "{{ date_string }} {{ strftime_now('%Y-%m-%d') }}"
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
)


def test_a_text_that_goes_on_has_no_token_at_its_end() -> None:
    for tokenizer, begins in ((tiny.byte_level(), 0), (tiny.metaspace(), 1), (tiny.ending(), 1)):
        plain = tokenizer("grass sky", add_special_tokens=False)["input_ids"]
        (ids,) = tokenizers.prompt_ids(tokenizer, ["grass sky"])
        assert ids[begins:] == plain
        assert ids[:begins] == [1] * begins


def test_an_answer_is_asked_for_without_the_end_of_the_text() -> None:
    found = []
    for tokenizer in (tiny.metaspace(), tiny.ending()):
        material = Material(Prompts(tokenizer, "plain"), NOISE, 4, 0)
        fitted = material.fitted(tasks.named("key_value"), 1024, 0)
        found.append((fitted.context_ids, fitted.tails, fitted.tokens))
    assert found[0] == found[1]


def test_an_exercise_ends_once() -> None:
    tokenizer = tiny.ending()
    book = np.asarray(tokenizer("The sky. Here we go. " * 200)["input_ids"], np.int32)
    ends = [exercises.draw(tokenizer, [book], 900, (seed,)).token_ids.tolist() for seed in range(8)]
    for ids in ends:
        assert ids.count(tokenizer.eos_token_id) == 1
        assert ids[-1] == tokenizer.eos_token_id


def test_a_chat_is_the_same_on_every_day() -> None:
    tokenizer = tiny.byte_level()
    tokenizer.chat_template = TODAY
    document = tasks.named("lines").make(Random(0), 2, [0.2, 0.8], NOISE)
    text = Prompts(tokenizer, "chat").text(document, document.asked[0])
    assert text.startswith("26 Jul 2024 2024-07-26<user>Below is")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return finetuning.settings(tmp_path_factory.mktemp("tokenizers"))


def commands(settings: Any, model: Path, folder: Path) -> dict[str, list[str]]:
    """A command of each sort, by name, that reads the model's tokenizer."""
    given = ["--model", str(model)]
    measured = [*given, "--length", "64", "--method", "yarn"]
    return {
        "search": ["search", *given, "--length", "64", "-o", str(folder / "found.json")],
        "finetune": [
            *("finetune", *given, "--length", "64", "-o", str(folder / "tuned")),
            *("--factors", str(settings.factors)),
        ],
        "perplexity": ["evaluate", "perplexity", *measured, "-o", str(folder / "p.jsonl")],
        "passkey": ["evaluate", "passkey", *measured, "-o", str(folder / "k.jsonl")],
        "retrieval": [
            *("evaluate", "retrieval", *measured, "--short", "64"),
            *("-o", str(folder / "r.jsonl")),
        ],
    }


def no_tokenizer(model: Path) -> None:
    for path in model.glob("*token*"):
        path.unlink()


def broken_tokenizer(model: Path) -> None:
    (model / "tokenizer.json").write_text("{")


def unknown_type(model: Path) -> None:
    path = model / "config.json"
    config = json.loads(path.read_text()) | {"model_type": "nonesuch"}
    path.write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (no_tokenizer, "has no tokenizer that can be read"),
        (broken_tokenizer, "has no tokenizer that can be read (Expecting property name"),
        (unknown_type, "config.json: transformers cannot read it: The checkpoint"),
    ],
)
@pytest.mark.parametrize("name", ["search", "finetune", "perplexity", "passkey", "retrieval"])
def test_a_model_that_cannot_be_read_is_one_sentence(
    name: str, spoil: Any, words: str, settings: Any, tmp_path: Path
) -> None:
    model = shutil.copytree(settings.model, tmp_path / "model")
    spoil(model)
    text = settings.corpus[0]
    arguments = commands(settings, model, tmp_path)[name]
    if name != "passkey":
        arguments += ["--corpus", str(text)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2, result.output
    (said,) = [line for line in result.stderr.splitlines() if line.startswith("longrope: ")]
    assert f"{model}" in said
    assert words in said
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_torn_weights_are_one_sentence(settings: Any, tmp_path: Path) -> None:
    model = shutil.copytree(settings.model, tmp_path / "model")
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    arguments = commands(settings, model, tmp_path)["perplexity"]
    result = CliRunner().invoke(app, [*arguments, "--corpus", str(settings.corpus[0])])
    assert result.exit_code == 2, result.output
    assert "cannot be loaded as a causal language model: " in result.stderr


CHEAP = {"search": ["--iterations", "0"], "finetune": ["--steps", "1", "--batch", "1"]}


def swapped_words(model: Path) -> None:
    path = model / "tokenizer.json"
    text = path.read_text()
    assert '"w0": 2' in text
    path.write_text(text.replace('"w0": 2', '"w0": 3').replace('"w1": 3', '"w1": 2'))


def without_the_tokenizer(path: Path) -> None:
    """Make it the record of a version up to 0.2.0."""
    text, number = re.subn(
        r'"tokenizer_sha256": ?"[0-9a-f]{64}",|, "tok[^,]*"', "", path.read_text()
    )
    assert number == 1
    path.write_text(text)


@pytest.mark.parametrize(
    ("name", "record", "factors"),
    [
        ("search", "found.jsonl", "found.json"),
        ("finetune", "tuned/finetune.json", "tuned/factors.json"),
    ],
)
def test_a_run_with_another_tokenizer_is_refused(
    name: str, record: str, factors: str, settings: Any, tmp_path: Path
) -> None:
    model = shutil.copytree(settings.model, tmp_path / "model")
    arguments = [*commands(settings, model, tmp_path)[name], "--corpus", str(settings.corpus[0])]
    arguments += CHEAP[name]
    for _ in range(2):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
    assert "tokenizer" not in (tmp_path / factors).read_text()
    before = (tmp_path / record).read_bytes()
    swapped_words(model)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2, result.output
    assert "tokenizer_sha256" in result.stderr.splitlines()[-1]
    assert (tmp_path / record).read_bytes() == before
    without_the_tokenizer(tmp_path / record)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output


def test_a_result_of_another_tokenizer_is_none(settings: Any, tmp_path: Path) -> None:
    model = shutil.copytree(settings.model, tmp_path / "model")
    output = tmp_path / "p.jsonl"
    corpus = ["--corpus", str(settings.corpus[0])]

    def perplexities() -> list[float]:
        arguments = [*commands(settings, model, tmp_path)["perplexity"], *corpus]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        return [evaluation.perplexity for evaluation in results.read(output, Evaluation)]

    before = perplexities()
    assert perplexities() == before
    swapped_words(model)
    both = perplexities()
    assert (len(both), both[:1]) == (2, before)
    assert both[0] != both[1]
    told = told_apart(results.read(output, Evaluation)).methods
    assert [method[:16] for method in told] == ["yarn (tokenizer "] * 2
    output.write_text(output.read_text().splitlines()[0] + "\n")
    without_the_tokenizer(output)
    assert perplexities() == before


@pytest.mark.parametrize("name", ["search", "finetune", "perplexity"])
def test_a_text_whose_name_is_not_utf_8(name: str, settings: Any, tmp_path: Path) -> None:
    text = tmp_path / "caf\udce9.txt"
    shutil.copyfile(settings.corpus[0], text)
    arguments = commands(settings, settings.model, tmp_path)[name]
    result = CliRunner().invoke(app, [*arguments, "--corpus", str(text), *CHEAP.get(name, [])])
    assert result.exit_code == 0, result.output
    written = {"search": "found.json", "finetune": "tuned/finetune.json", "perplexity": "p.jsonl"}
    content = (tmp_path / written[name]).read_text()
    assert "caf\N{REPLACEMENT CHARACTER}" in content or "caf\\ufffd" in content
