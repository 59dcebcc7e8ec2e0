"""Pass keys: the prompt's shape for any length, and retrieval against greedy decoding."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from longrope_factors.cli import app
from longrope_factors.evaluating import passkey, results
from longrope_factors.evaluating.passkey import Retrieval
from longrope_factors.factor_file import methods
from longrope_factors.models import loading
from longrope_factors.models.loading import LoadedModel
from typer.testing import CliRunner, Result

from tests.factors import tiny

TOKENIZERS = {
    "bytes": tiny.byte_level(),
    "metaspace": tiny.metaspace(),
    "ending": tiny.ending(),
}
LONGEST_SENTENCE = len("There and back again. ") + 1


@pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)
@given(
    length=st.integers(350, 3000),
    depth=st.floats(0, 1),
    key=st.integers(1, passkey.GREATEST_KEY),
)
@settings(deadline=None, max_examples=40)
def test_prompts(tokenizer: Any, length: int, depth: float, key: int) -> None:
    token_ids, start = passkey.prompt(tokenizer, length, depth, key)
    assert length - LONGEST_SENTENCE <= len(token_ids) <= length
    assert tokenizer.decode(token_ids[start:]).strip() == str(key)
    question = tokenizer.decode(token_ids[:start])
    assert question.endswith("What is the pass key? The pass key is")
    whole = tokenizer.decode(token_ids)
    assert re.findall(r"\d+", whole) == [str(key)] * 3
    before, after = whole.split(f"The pass key is {key}. Remember it. {key} is the pass key.")
    counts = [part.count(". ") + part.count(".\n") for part in (before, after)]
    # Two sentences are the task's; the last one of a part may end with neither.
    assert counts[0] - 2 == pytest.approx(depth * (sum(counts) - 2), abs=3)


def test_a_long_prompt_is_tokenized_a_few_times() -> None:
    calls = []

    def counted(texts: str | list[str], **options: Any) -> Any:
        calls.append(sum(map(len, texts)))
        return TOKENIZERS["bytes"](texts, **options)

    for depth in (0.0, 0.3, 1.0):
        calls.clear()
        token_ids, _ = passkey.prompt(counted, 100_000, depth, 123)
        assert len(token_ids) > 100_000 - LONGEST_SENTENCE
        assert sum(calls) < 5 * 100_000


@pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)
def test_the_shortest_prompt_has_no_filler(tokenizer: Any) -> None:
    with pytest.raises(ValueError, match="50 are too few") as refused:
        passkey.prompt(tokenizer, 50, 0.5, 7)
    shortest = int(re.findall(r"\d+", str(refused.value))[0])
    token_ids, _ = passkey.prompt(tokenizer, shortest, 0.5, 7)
    assert len(token_ids) == shortest
    assert "grass" not in tokenizer.decode(token_ids)


@pytest.mark.parametrize("depth", [-0.1, 1.1, float("nan")])
def test_a_depth_outside_the_text(depth: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        passkey.prompt(TOKENIZERS["bytes"], 500, depth, 7)


def test_even_depths() -> None:
    assert passkey.even_depths(1) == [0.5]
    assert passkey.even_depths(4) == [0.0, 0.3333, 0.6667, 1.0]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("passkey") / "tiny", tiny.byte_level())


def taught(loaded: LoadedModel, token_ids: list[int], start: int) -> LoadedModel:
    """The model after it has learnt to end `token_ids` so, from the index `start` on."""
    ids = torch.tensor([token_ids])
    model = loaded.model.float()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(80):
        logits = model(ids).logits[0, start - 1 : -1]
        loss = torch.nn.functional.cross_entropy(logits, ids[0, start:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1
    return replace(loaded, model=model)


def retrieve(loaded: LoadedModel, trial: int) -> Retrieval:
    factor_set = methods.factor_set("original", loaded.identity, 400)
    return passkey.retrieve(
        *(TOKENIZERS["bytes"], 400, 0.5, trial, 0, "original", factor_set, loaded),
        lambda: None,
    )


@pytest.mark.long
def test_found_is_what_greedy_decoding_says(model: Path) -> None:
    tokenizer = TOKENIZERS["bytes"]
    untaught = retrieve(loading.load(model), 0)
    assert not untaught.found
    assert untaught.answer_loss > 3
    token_ids, start = passkey.prompt(tokenizer, 400, 0.5, untaught.pass_key)
    assert untaught.tokens == len(token_ids)

    ending = token_ids + tokenizer(".")["input_ids"]
    loaded = taught(loading.load(model), ending, start)
    asked = torch.tensor([token_ids[:start]])
    said = loaded.model.generate(asked, max_new_tokens=8, do_sample=False)[0, start:]
    assert re.findall(r"\d+", tokenizer.decode(said))[0] == str(untaught.pass_key)
    found = retrieve(loaded, 0)
    assert found.found
    assert found.answer_loss < 0.1
    other = retrieve(loaded, 1)
    assert other.pass_key != found.pass_key
    assert not other.found

    going_on = taught(loading.load(model), token_ids + tokenizer("5")["input_ids"], start)
    assert not retrieve(going_on, 0).found


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["evaluate", "passkey", *map(str, arguments)])


@pytest.mark.long
def test_evaluate_passkey(model: Path, tmp_path: Path) -> None:
    output, plot = tmp_path / "keys.jsonl", tmp_path / "keys.png"
    common = ["--model", model, "-o", output, "--method", "original", "--method", "yarn"]
    first = run(*common, "--length", "350", "--depth", "0.5")
    assert first.exit_code == 0, first.output
    assert "0/1" in first.stdout
    before = output.read_text()

    arguments = [*common, "--length", "350", "--length", "400", "--depths", "3", "--trials", "2"]
    second = run(*arguments, "--json", "--plot", plot)
    assert second.exit_code == 0, second.output
    shown = json.loads(second.stdout)
    assert len(shown) == 2 * 2 * 3 * 2
    assert {retrieval["depth"] for retrieval in shown} == {0.0, 0.5, 1.0}
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert output.read_text().startswith(before)
    written = results.read(output, Retrieval)
    assert len(written) == len({retrieval.key for retrieval in written}) == len(shown)
    by_method = {
        name: [retrieval.pass_key for retrieval in written if retrieval.method == name]
        for name in ("original", "yarn")
    }
    assert sorted(by_method["original"]) == sorted(by_method["yarn"]), "the same keys for each"

    third = run(*arguments, "--seed", "1")
    assert third.exit_code == 0, third.output
    assert len(results.read(output, Retrieval)) == 2 * len(written)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--length", "100", "--method", "pi"], "100 are too few"),
        (["--length", "400", "--method", "pi", "--depth", "2"], "from 0 to 1"),
        (["--length", "400", "--method", "pi", "--depth", "1", "--depths", "2"], "not both"),
        (["--length", "400"], "--method"),
        (["--length", "400", "--method", "x"], "original, pi, ntk, yarn"),
        (["--length", "400", "--method", "pi", "--device", "x"], "--device x"),
    ],
)
def test_refusals(arguments: list[str], words: str, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "keys.jsonl"
    result = run("--model", model, "-o", output, *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert words in result.stderr
    assert not output.exists()
