"""The tasks of retrieval exercises: random facts, a question and its answer, in eight kinds.

Each kind is a function of a random generator and the number of facts.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from longrope_factors.finetuning.data import wordings

Draw = np.random.Generator

_WORD = re.compile(r"\S+")
_ANSWER_WORDS = (8, 20)

T = TypeVar("T")


@dataclass(frozen=True)
class Task:
    """Facts in their order, and a question that they answer.

    `lead` begins a sentence that `value`, the answer, ends. With a `joiner`, the facts are one list
    with the joiner between them; without it, they may be anywhere in a text.
    """

    facts: tuple[str, ...]
    question: str
    lead: str
    value: str
    joiner: str | None = None


@dataclass(frozen=True)
class Kind:
    """A sort of task with from `least` to `most` facts; None means as many as fit."""

    make: Callable[[Draw, int], Task]
    least: int
    most: int | None


def fact(draw: Draw, count: int) -> Task:
    """Facts of one form about `count` things, one of which is asked for."""
    form = _one(draw, wordings.FACTS)
    keys, values = _keys(draw, form.key, count), _values(draw, form.value, count)
    asked = int(draw.integers(count))
    return Task(
        facts=_statements(draw, form, keys, values),
        question=_one(draw, form.questions).format(key=keys[asked]),
        lead=_one(draw, form.leads).format(key=keys[asked]),
        value=values[asked],
    )


def in_order(draw: Draw, count: int) -> Task:
    """Facts of one form; the question asks for two to four of them, in its own order."""
    form = _one(draw, wordings.FACTS)
    keys, values = _keys(draw, form.key, count), _values(draw, form.value, count)
    asked = draw.permutation(count)[: int(draw.integers(2, 5))]
    question = _one(draw, form.questions).format(key=wordings.EACH[form.key])
    return Task(
        facts=_statements(draw, form, keys, values),
        question=_one(draw, wordings.IN_ORDER).format(
            keys=", ".join(keys[place] for place in asked), question=question
        ),
        lead=_one(draw, wordings.IN_ORDER_LEADS),
        value=", ".join(values[place] for place in asked),
    )


def pairs(draw: Draw, count: int) -> Task:
    """A list of keys and values in one of many notations, JSON's among them."""
    before, line, between, after = _one(draw, wordings.PAIRS)
    spelling = int(draw.integers(4))
    keys = _distinct(draw, count, lambda: _pair_key(draw, spelling))
    kind = _one(draw, ("digits", "word", "phrase", "hexadecimal"))
    values = _values(draw, kind, count)
    lines = [line.format(key=key, value=value) for key, value in zip(keys, values, strict=True)]
    lines[0] = before.format() + lines[0]
    lines[-1] += after.format()
    asked = int(draw.integers(count))
    return Task(
        facts=tuple(lines),
        question=_one(draw, wordings.PAIR_QUESTIONS).format(key=keys[asked]),
        lead=_one(draw, wordings.PAIR_LEADS).format(key=keys[asked]),
        value=values[asked],
        joiner=between,
    )


def lines(draw: Draw, count: int) -> Task:
    """Lines of a key (a number or a name) and a value; the question asks for either of them."""
    line, question, lead, reverse, reverse_lead = _one(draw, wordings.LINES)
    if draw.random() < 0.5:
        first = int(draw.integers(1, 500))
        keys = [str(first + place) for place in range(count)]
    else:
        keys = _distinct(draw, count, lambda: _pair_key(draw, 1))
    values = _distinct(draw, count, lambda: str(draw.integers(1000, 100_000)))
    asked = int(draw.integers(count))
    backwards = draw.random() < 0.25
    slots = {"key": keys[asked], "value": values[asked]}
    return Task(
        facts=tuple(
            line.format(key=key, value=value) for key, value in zip(keys, values, strict=True)
        ),
        question=(reverse if backwards else question).format(**slots),
        lead=(reverse_lead if backwards else lead).format(**slots),
        value=keys[asked] if backwards else values[asked],
        joiner="\n",
    )


def chain(draw: Draw, count: int) -> Task:
    """Chains of names, each with the value of the one before; the end of one is asked for."""
    first, later, question, lead = _one(draw, wordings.CHAINS)
    names = list(draw.permutation(wordings.CHAIN_NAMES)[:count])
    chains: list[list[str]] = [[] for _ in range(max(count // 4, 1))]
    for place, name in enumerate(names):
        chains[place % len(chains)].append(str(name))
    values = _distinct(draw, len(chains), lambda: str(draw.integers(10, 100_000)))
    # Each name's statement comes after that of its source, in an order that mixes the chains.
    order = draw.permutation([place for place, part in enumerate(chains) for _ in part])
    told = [0] * len(chains)
    facts = []
    for place in order:
        at = told[place]
        told[place] += 1
        name, slots = chains[place][at], {"value": values[place]}
        if at:
            slots = {"source": chains[place][at - 1]}
        facts.append((later if at else first).format(name=name, **slots))
    asked = int(draw.integers(len(chains)))
    end = chains[asked][-1]
    return Task(
        facts=tuple(facts),
        question=question.format(name=end),
        lead=lead.format(name=end),
        value=values[asked],
    )


def labels(draw: Draw, count: int) -> Task:
    """Examples of things with the made-up label of their sort; a thing's label is asked for.

    Half of the time, the thing may be an example itself; otherwise only others of its sort are.
    """
    line, question, lead = _one(draw, wordings.LABELS)
    sorts = draw.permutation(len(wordings.CATEGORIES))[: int(draw.integers(2, 7))]
    names = draw.permutation(wordings.LABEL_WORDS)[: len(sorts)]
    things = [
        (item, str(name))
        for sort, name in zip(sorts, names, strict=True)
        for item in wordings.CATEGORIES[sort]
    ]
    shuffled = [things[place] for place in draw.permutation(len(things))]
    asked, label = shuffled[0]
    others = shuffled[1:] if draw.random() < 0.5 else shuffled
    shown = [others[place % len(others)] for place in range(count)]
    if label not in {name for _, name in shown}:
        shown[0] = asked, label
    shown = [shown[place] for place in draw.permutation(count)]
    return Task(
        facts=tuple(line.format(item=item, label=name) for item, name in shown),
        question=question.format(item=asked),
        lead=lead.format(item=asked),
        value=label,
        joiner="\n",
    )


KINDS = {
    "fact": Kind(fact, 1, 1),
    "one of several facts": Kind(fact, 2, 8),
    "several facts in order": Kind(in_order, 2, 6),
    "pairs": Kind(pairs, 2, None),
    "lines": Kind(lines, 2, None),
    "chain": Kind(chain, 2, 12),
    "labels": Kind(labels, 4, None),
}
QUOTE = "quotation"
NAMES = (*KINDS, QUOTE)


def quotation(draw: Draw, passage: str, depth: float) -> tuple[int, int, Task] | None:
    """A quotation from `passage` that the answer continues; None if no place is suitable.

    Returns the start and end of quotation and answer in the passage, and a task without facts. The
    quotation is near the share `depth`, 0 to 1, of the passage, and occurs only once in it. The
    answer reaches to the end of the sentence, if that is 8 to 20 words away, or has a number of
    words that the question states.
    """
    words = [(found.start(), found.end()) for found in _WORD.finditer(passage)]
    quoted = int(draw.integers(5, 9))
    last = len(words) - quoted - _ANSWER_WORDS[1]
    if last < 0:
        return None
    wanted = round(depth * last)
    nearby = sorted(
        range(max(wanted - 60, 0), min(wanted + 60, last) + 1), key=lambda at: abs(at - wanted)
    )
    whole = draw.random() < 0.5
    count = int(draw.integers(_ANSWER_WORDS[0], _ANSWER_WORDS[1] + 1))
    for ending in (True, False) if whole else (False,):
        for at in nearby:
            start = words[at][0]
            quote = passage[start : words[at + quoted - 1][1]]
            after = words[at + quoted : at + quoted + _ANSWER_WORDS[1]]
            length = count
            if ending:
                ends = (place for place, word in enumerate(after) if passage[word[1] - 1] in ".!?")
                length = next(ends, -1) + 1
            answer = passage[after[0][0] : after[length - 1][1]]
            if length < _ANSWER_WORDS[0] or "\n" in quote + answer or passage.count(quote) > 1:
                continue
            asked = wordings.QUOTE_TO_END if ending else wordings.QUOTE_COUNTED
            question = _one(draw, asked).format(quote=quote, count=length)
            task = Task((), question, _one(draw, wordings.QUOTE_LEADS), answer)
            return start, after[length - 1][1], task
    return None


def _one(draw: Draw, among: Sequence[T]) -> T:
    return among[int(draw.integers(len(among)))]


def _distinct(draw: Draw, count: int, make: Callable[[], str]) -> list[str]:
    """`count` different strings; a number is added to one that `make` has given before."""
    found: dict[str, None] = {}
    while len(found) < count:
        one = make()
        found[one if one not in found else f"{one} {draw.integers(2, 10_000)}"] = None
    return list(found)


def _keys(draw: Draw, kind: str, count: int) -> list[str]:
    def person() -> str:
        return f"{_one(draw, wordings.FIRST_NAMES)} {_one(draw, wordings.LAST_NAMES)}"

    def place() -> str:
        return _one(draw, wordings.PLACE_STARTS) + _one(draw, wordings.PLACE_ENDS)

    def thing() -> str:
        return f"the {_one(draw, wordings.ADJECTIVES)} {_one(draw, wordings.NOUNS)}"

    return _distinct(draw, count, {"person": person, "place": place, "thing": thing}[kind])


def _pair_key(draw: Draw, spelling: int) -> str:
    adjective, noun = _one(draw, wordings.ADJECTIVES), _one(draw, wordings.NOUNS)
    match spelling:
        case 0:
            return f"{adjective} {noun}"
        case 1:
            return f"{adjective}-{noun}"
        case 2:
            return f"{draw.integers(16**7, 16**8):x}"
        case _:
            return str(draw.integers(100, 1_000_000))


def _values(draw: Draw, kind: str, count: int) -> list[str]:
    def word() -> str:
        return _one(draw, wordings.VALUES)

    def phrase() -> str:
        return f"{_one(draw, wordings.ADJECTIVES)} {word()} {_one(draw, wordings.LINKS)} {word()}"

    def digits() -> str:
        length = int(draw.integers(2, 8))
        return str(draw.integers(10 ** (length - 1), 10**length))

    def hexadecimal() -> str:
        return f"{draw.integers(16**5, 16**6):x}"

    makers = {"word": word, "phrase": phrase, "digits": digits, "hexadecimal": hexadecimal}
    return [makers[kind]() for _ in range(count)]


def _statements(
    draw: Draw, form: wordings.Form, keys: Sequence[str], values: Sequence[str]
) -> tuple[str, ...]:
    """One statement of each fact; half of the time all are worded alike."""
    wording = _one(draw, form.statements)
    alike = draw.random() < 0.5
    facts = []
    for key, value in zip(keys, values, strict=True):
        statement = wording if alike else _one(draw, form.statements)
        filled = statement.format(key=key, value=value)
        facts.append(filled[0].upper() + filled[1:])
    return tuple(facts)
