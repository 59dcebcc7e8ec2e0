"""Documents of every task: facts where they should be, lengths to the token, one seed one text."""

from pathlib import Path
from random import Random
from typing import Any

import pytest
from longrope_factors.evaluating.passkey import even_depths
from longrope_factors.evaluating.retrieval import documents, filler, tasks, words
from longrope_factors.evaluating.retrieval.documents import Document, Task
from longrope_factors.evaluating.retrieval.filler import NOISE, Filler
from longrope_factors.evaluating.retrieval.measurement import Material
from longrope_factors.evaluating.retrieval.prompts import Prompts

from tests.factors import tiny

ALL = list(tasks.TASKS.values())
MANY = [task for task in ALL if not task.alone]
BYTES = tiny.byte_level()
BYTES.chat_template = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
BOOK = Filler([f"Sentence {n} of a book ends here{'.' * (n % 5 + 1)}" for n in range(700)], " ")


def depths_of(task: Task) -> list[float]:
    return [0.4] if task.alone else even_depths(-(-10 // task.group) * task.group)


def made(task: Task, units: int, seed: int = 0, between: Filler = NOISE) -> Document:
    return task.make(Random(seed), units, depths_of(task), between)


@pytest.mark.parametrize("task", ALL, ids=lambda task: task.name)
def test_a_seed_makes_one_document(task: Task) -> None:
    assert made(task, 60) == made(task, 60)
    assert made(task, 60) != made(task, 60, seed=1)
    few, many = made(task, 20), made(task, 300)
    assert few.asked == many.asked, "the questions do not depend on the length"
    assert len(few.text) < len(many.text)


@pytest.mark.parametrize("count", [1, 2, 10, 99, 100])
def test_no_fact_takes_the_place_of_another(count: int) -> None:
    facts = [str(number) for number in range(count)]
    depths = [round((place + 0.5) / count, 4) for place in range(count)]
    for units in range(count, 3 * count + 3):
        lines = documents.instead(facts, depths, units, lambda: "another")
        assert [line for line in lines if line != "another"] == facts
        assert len(lines) == units


@pytest.mark.parametrize("between", [NOISE, BOOK], ids=["noise", "book"])
@pytest.mark.parametrize("task", ALL, ids=lambda task: task.name)
def test_facts_stand_at_their_depths(task: Task, between: Filler) -> None:
    document = made(task, 400, between=between)
    facts = [
        fact for asked in document.asked for fact in zip(asked.answers, asked.depths, strict=True)
    ]
    assert len({answer for answer, _ in facts}) == len(facts)
    if not task.alone:
        assert len(facts) >= 10
    for answer, depth in facts:
        places = [
            at / len(document.text)
            for at in range(len(document.text))
            if document.text.startswith(answer, at)
        ]
        if task.name == "many_shot":
            assert len(places) > 20
            assert sum(places) / len(places) == pytest.approx(depth, abs=0.03)
        elif task.name == "variable_tracking":
            assert 1 <= len(places) <= 2, "where it is assigned, and where another one gets it"
            assert places[0] == pytest.approx(depth, abs=0.03)
        else:
            assert places == [pytest.approx(depth, abs=0.03)]


@pytest.mark.parametrize("task", MANY, ids=lambda task: task.name)
def test_no_question_answers_itself(task: Task) -> None:
    for asked in made(task, 100).asked:
        for answer in asked.answers:
            assert answer not in asked.question + asked.prefix


def test_chains_of_variables() -> None:
    document = made(tasks.TASKS["variable_tracking"], 50)
    values: dict[str, str] = {}
    for line in document.text.splitlines():
        if line.startswith("VAR"):
            _, name, _, *value = line.rstrip(".").split()
            values[name] = values[value[1]] if value[0] == "VAR" else value[0]
    for asked in document.asked:
        (value,) = {values[name] for name in asked.answers}
        assert value in asked.question
        assert {name for name in values if values[name] == value} == set(asked.answers)


def test_a_key_has_four_values() -> None:
    document = made(tasks.TASKS["multi_value"], 50)
    for asked in document.asked:
        key = asked.prefix.split(" for ")[1].split(" ")[0]
        needles = [f"One of the special magic numbers for {key} is: {v}." for v in asked.answers]
        assert len(needles) == 4
        assert document.text.count(f"for {key} is") == 4
        assert all(needle in document.text for needle in needles)


def test_books_are_cut_into_sentences(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text('"Is it?" said Anne.  He\nwas, Mr. K. said, 3.5 feet!\n\nThe end (so.) Yes')
    found = filler.of_books([path])
    assert list(found.units) == [
        '"Is it?" said Anne.',
        "He was, Mr.",
        "K. said, 3.5 feet!",
        "The end (so.)",
        "Yes",
    ]
    assert found.joint == " "
    other = tmp_path / "other.txt"
    other.write_text("Another one.")
    both = filler.of_books([path, other])
    assert list(both.units) == [*found.units, "Another one."]
    assert len({found.sha256, both.sha256, filler.of_books([other]).sha256}) == 3
    taken = found.take(12, Random(1))
    assert len(taken) == 12
    assert taken[5:] == taken[:7], "after the last sentence comes the first"


def test_no_books_and_empty_ones(tmp_path: Path) -> None:
    assert filler.of_books([]) is NOISE
    (tmp_path / "empty.txt").write_text(" \n ")
    with pytest.raises(ValueError, match=r"empty.txt: has no text"):
        filler.of_books([tmp_path / "empty.txt"])


def test_names() -> None:
    random = Random(0)
    for draw in (words.pair, words.invented, words.number):
        assert len(set(documents.different(500, lambda draw=draw: draw(random)))) == 500
    assert all(len(words.number(random)) == 7 for _ in range(1000))


@pytest.mark.long
@pytest.mark.parametrize("form", ["plain", "chat"])
@pytest.mark.parametrize("task", ALL, ids=lambda task: task.name)
def test_lengths(task: Task, form: Any) -> None:
    between = BOOK if task.name == "multi_query" else NOISE
    material = Material(Prompts(BYTES, form), between, 10, 3)
    unit = 1 + max(len(line) for line in made(task, 200, between=between).text.split("\n"))
    unit = 60 if between is BOOK else unit
    for length in (3000, 4111, 20_000):
        fitted = material.fitted(task, length, 0)
        assert length - unit < fitted.tokens <= length
        assert fitted == material.fitted(task, length, 0)
        for (question, answer), asked in zip(fitted.tails, fitted.document.asked, strict=True):
            prompt = material.prompts.text(fitted.document, asked)
            ids = BYTES(f"{prompt} {', '.join(asked.answers)}")["input_ids"]
            assert [*fitted.context_ids, *question] == BYTES(prompt)["input_ids"]
            assert answer[:3] == ids[len(fitted.context_ids) + len(question) :][:3]
            assert len(fitted.context_ids) + len(question) + task.said <= length
        assert len(fitted.context_ids) > length - 600


@pytest.mark.parametrize("task", ALL, ids=lambda task: task.name)
def test_too_short(task: Task) -> None:
    material = Material(Prompts(BYTES, "plain"), NOISE, 10, 0)
    with pytest.raises(
        ValueError, match=rf"{task.name} with 10 facts: the shortest document has \d+ tokens"
    ):
        material.fitted(task, 100, 0)


def test_one_fact_a_document() -> None:
    material = Material(Prompts(BYTES, "plain"), NOISE, 4, 0)
    single, many = tasks.TASKS["single_key"], tasks.TASKS["lines"]
    assert list(material.documents(many, 3)) == [0, 1, 2]
    numbers = material.documents(single, 2)
    found = [material.fitted(single, 2000, number).document.asked[0] for number in numbers]
    assert [asked.depths for asked in found] == [(d,) for d in (0.125, 0.375, 0.625, 0.875)] * 2
    assert len({asked.answers for asked in found}) == 8


def test_a_special_token_begins_a_text_once() -> None:
    tokenizer = tiny.metaspace()
    material = Material(Prompts(tokenizer, "plain"), NOISE, 2, 0)
    fitted = material.fitted(tasks.TASKS["multi_key"], 1500, 0)
    start = tokenizer("")["input_ids"]
    assert fitted.context_ids[: len(start)] == start
    for question, answer in fitted.tails:
        ids = [*fitted.context_ids, *question, *answer]
        assert not set(start) & set(ids[1:])


def test_a_template_is_needed() -> None:
    with pytest.raises(ValueError, match="chat template"):
        Prompts(tiny.metaspace(), "chat")


def test_a_long_document_is_tokenized_a_few_times() -> None:
    tokens = 0

    class Counted:
        chat_template = None

        def __call__(self, texts: list[str], **options: Any) -> Any:
            nonlocal tokens
            tokens += sum(map(len, texts))
            return BYTES(texts, **options)

    material = Material(Prompts(Counted(), "plain"), BOOK, 1, 0)
    fitted = material.fitted(tasks.TASKS["single_key"], 100_000, 0)
    assert fitted.tokens > 99_900
    assert tokens < 12 * 100_000
