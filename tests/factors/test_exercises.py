"""Retrieval exercises: what they ask, how they are laid out, and what of them is trained."""

import functools
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from longrope_factors.evaluating import passkey
from longrope_factors.evaluating.retrieval import words
from longrope_factors.factor_file import schema
from longrope_factors.finetuning import training
from longrope_factors.finetuning.data import batch, exercises, questions, wordings
from longrope_factors.finetuning.data.exercises import Exercise
from longrope_factors.finetuning.data.sequences import Mixture, Planned
from transformers import PreTrainedTokenizerFast

from tests.factors import finetuning, tiny

TEMPLATE = (
    "{% for m in messages %}<user>{{ m.content }}<end>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
).replace("<user>", "{{ '<user>' if m.role == 'user' else '<assistant>' }}")
BOOK = " ".join(
    f"Chapter {number}. In the year {1800 + number} nothing of note took place in that town, and "
    f"so the people of it, {number * 7} in all, went on with what they had begun long ago."
    for number in range(200)
)


def tokenizer(template: str | None = TEMPLATE) -> PreTrainedTokenizerFast:
    """Bytes, and words that are no text around the turns of a chat."""
    made = tiny.byte_level()
    made.add_special_tokens(
        {
            "eos_token": "<eos>",
            "additional_special_tokens": ["<user>", "<end>", "<assistant>"],
        }
    )
    made.chat_template = template
    return made


CHAT, PLAIN = tokenizer(), tokenizer(None)
DOCUMENTS = [np.asarray(CHAT(BOOK)["input_ids"], np.int32)]


def draw(seed: int, budget: int = 900, of: PreTrainedTokenizerFast = CHAT) -> Exercise:
    return exercises.draw(of, DOCUMENTS, budget, (seed,))


_draw_once = functools.cache(draw)


def drawn(count: int, budget: int = 900, of: PreTrainedTokenizerFast = CHAT) -> list[Exercise]:
    return [_draw_once(seed, budget, of) for seed in range(count)]


def answers(made: Exercise) -> list[tuple[str, str]]:
    """What comes before each answer, and the answer with what ends it."""
    edges = np.flatnonzero(np.diff(made.answers, prepend=False, append=False))
    return [
        (text(made.token_ids[:start]), text(made.token_ids[start:end]))
        for start, end in zip(edges[::2], edges[1::2], strict=True)
    ]


def text(ids: Sequence[int]) -> str:
    return str(CHAT.decode(list(ids)))


@pytest.mark.long
def test_an_exercise_fills_its_tokens_and_is_repeatable() -> None:
    made = drawn(150)
    for seed, one in enumerate(made):
        same = draw(seed)
        assert one.token_ids.tolist() == same.token_ids.tolist()
        assert one.depths.tolist() == same.depths.tolist()
        assert len(one.token_ids) <= 900
        assert len(one.depths) == len(one.plain) == len(one.token_ids)
    full = [one for one in made if one.plain.any()]
    assert np.mean([len(one.token_ids) for one in full]) > 850
    assert set(Counter(one.kind for one in made)) == set(questions.NAMES)
    assert len({one.token_ids.tobytes() for one in made}) == 150


def test_an_exercise_is_what_the_model_would_be_asked() -> None:
    made = drawn(200)
    chats = [one for one in made if CHAT.convert_tokens_to_ids("<user>") in one.token_ids]
    assert len(chats) == pytest.approx(100, abs=25)
    for one in chats:
        for prompt, said in answers(one):
            assert prompt.startswith("<user>")
            assert "<end>\n<assistant>" in prompt
            assert said.endswith("<end>")
    for one in made:
        whole = text(one.token_ids)
        end = "<end>" if whole.startswith("<user>") else "<eos>"
        assert whole.endswith(end)
        # Tokenized at once, as a prompt is that is read and then gone on with.
        ids = CHAT(whole.removesuffix(end))["input_ids"]
        assert one.token_ids[: len(ids)].tolist() == ids
    plain = drawn(40, of=PLAIN)
    assert all(text(one.token_ids).endswith("<eos>") for one in plain)
    assert not any("<user>" in text(one.token_ids) for one in plain)


def test_the_answer_stands_in_the_document() -> None:
    for one in drawn(200):
        for prompt, said in answers(one):
            said = said.removesuffix("<end>").removesuffix("<eos>").strip().removesuffix(".")
            if one.kind == questions.QUOTE:
                assert said[-20:] in prompt
                continue
            (value,) = re.findall(r"[^ ]+$", said)
            # A value that begins a sentence has a capital letter there.
            assert value.lower() in prompt.lower(), (prompt, said)


@pytest.mark.long
def test_long_lists_are_asked_about_several_times() -> None:
    made = [*drawn(150, budget=2500), *drawn(150)]
    counts = {
        name: [len(answers(one)) for one in made if one.kind == name] for name in questions.NAMES
    }
    assert {max(counts[name]) for name in ("fact", "several facts in order", "quotation")} == {1}
    for name in ("some of many facts", "pairs", "lines"):
        assert 1 in counts[name]
        assert max(counts[name]) > 8
    for one in made:
        between = []
        # A second question follows the first answer, and asks for something else.
        for (before, said), (prompt, _) in pairwise(answers(one)):
            assert prompt.startswith(before + said)
            between.append(prompt.removeprefix(before + said))
        assert len(set(between)) == len(between)


def test_half_of_the_lists_are_asked_about_to_the_last_fact() -> None:
    made = [questions.pairs(np.random.default_rng(seed), 20) for seed in range(200)]
    counts = Counter(len(task.asked) for task in made)
    assert counts[20] == pytest.approx(100, abs=25)
    assert max(count for count in counts if count < 20) == 10
    for task in made:
        assert len({asked.question for asked in task.asked}) == len(task.asked)


def test_half_of_the_exercises_are_long_lists() -> None:
    draw = np.random.default_rng(0)
    counts = Counter(questions.draw_name(draw) for _ in range(600))
    assert set(counts) == set(questions.NAMES)
    lists = counts["some of many facts"] + counts["pairs"] + counts["lines"]
    assert lists == pytest.approx(300, abs=40)


@pytest.mark.long
def test_depths_rise_and_those_of_answers_are_even() -> None:
    placed = []
    for one in drawn(400):
        assert (np.diff(one.depths) >= 0).all()
        assert (one.depths[np.flatnonzero(one.answers)[0] - 1 :] == 1).all()
        positions = one.positions(100_000)
        assert (np.diff(positions) > 0).all()
        assert positions[-1] == 99_999
        assert one.positions(0).tolist() == list(range(len(one.token_ids)))
        if one.kind == "fact":
            (depth,) = set(one.depths[~one.plain].tolist()) - {0.0, 1.0}
            placed.append(depth)
    assert np.mean(placed) == pytest.approx(0.5, abs=0.12)
    assert np.std(placed) == pytest.approx(12**-0.5, abs=0.1)


def test_the_book_and_half_the_weight_of_answers_are_trained() -> None:
    made = drawn(6)
    together = batch.of_exercises(made, [one.positions(5000) for one in made])
    start = 0
    for one in made:
        count = len(one.token_ids)
        weights = together.weights[start : start + count]
        told = together.answers[start : start + count]
        assert weights[-1] == 0
        assert told[:-1].tolist() == one.answers[1:].tolist()
        assert weights[told > 0].sum() == pytest.approx(count, rel=1e-5)
        assert weights[told > 0].sum() >= batch.ANSWER_SHARE * weights.sum()
        # A token of the book can be foretold; a token that was made up cannot.
        foretold = (weights > 0) & (told == 0)
        assert one.plain[1:][foretold[:-1]].all()
        assert together.labels[start + count - 2] == one.token_ids[-1]
        start += count
    assert together.document_lengths == tuple(len(one.token_ids) for one in made)


@pytest.mark.long
def test_windows_hold_several_exercises_and_whole_ones_are_real_prompts() -> None:
    mixture = Mixture(length=4000, short_length=1000, window=1800, whole=4000, retrieval_share=0.5)
    made = [
        batch.retrieval(
            CHAT, DOCUMENTS, mixture, Planned("retrieval", seed=(0, seed), whole=seed < 6)
        )
        for seed in range(90)
    ]
    for whole in made[:6]:
        assert len(whole.document_lengths) == 1
        assert whole.positions.tolist() == list(range(len(whole.token_ids)))
        assert len(whole.token_ids) <= 4000
        assert whole.weights[whole.answers > 0].sum() == pytest.approx(
            min(1800, len(whole.token_ids)), rel=1e-5
        )
    assert max(len(whole.token_ids) for whole in made[:6]) > 1800
    counts = Counter(len(one.document_lengths) for one in made[6:])
    assert (min(counts), max(counts)) == (1, 11)
    # By the logarithm, half of the windows have at most three.
    assert sum(counts[few] for few in (1, 2, 3)) == pytest.approx(42, abs=12)
    assert all(len(one.token_ids) <= 1800 for one in made[6:])
    assert max(one.positions.max() for one in made[6:]) == 3999
    with pytest.raises(
        ValueError, match=r"does not fit into 60 tokens: --window should be greater"
    ):
        exercises.draw(CHAT, DOCUMENTS, 60, (0,))


def test_no_word_is_an_evaluations() -> None:
    said = " ".join(text(one.token_ids) for one in drawn(200)).lower()
    source = Path(wordings.__file__).read_text().lower()
    for theirs in (
        *("pass key", "passkey", "here we go", "there and back again", "grass is green"),
        *("magic number", "register content", "register_content", "line retrieval"),
        *("json object", "needle", "haystack", "quiz", "memorize", " var "),
        passkey._QUESTION.lower(),
    ):
        assert theirs not in said
        assert theirs not in source
    their_words = {*words._WORDS["adjectives"], *words._WORDS["nouns"]}
    assert not their_words & {*wordings.ADJECTIVES, *wordings.NOUNS}
    their_kinds = {thing for kind in words.KINDS for thing in kind}
    assert not their_kinds & {thing for kind in wordings.CATEGORIES for thing in kind}


def test_a_window_without_room_is_refused_before_weights_load(tmp_path: Path) -> None:
    settings = finetuning.settings(
        tmp_path, positions="skip", window=60, retrieval_share=0.5, length=120
    )
    CHAT.save_pretrained(settings.model)
    (settings.model / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="does not fit into 60 tokens: --window should be"):
        training.run(settings)
    assert not settings.output.exists()


def test_a_run_says_what_it_was_taught(tmp_path: Path) -> None:
    settings = finetuning.settings(
        tmp_path, positions="skip", window=48, retrieval_share=0.5, length=120, steps=2
    )
    # A window for the tiny tokenizer's words, few of which it knows: all else is one token.
    result = training.run(finetuning.replace(settings, window=100))
    assert all(each.retrieval and each.long for each in result.steps)
    source = schema.load(result.output / "factors.json").sets[-1].provenance.source
    assert "0.5 of the sequences retrieval exercises (fact; some of several facts" in source
    record = (result.output / "finetune.json").read_text()
    for said in ('"window": 100', '"positions": "skip"', '"retrieval_share": 0.5', '"quotation"'):
        assert said in record
