"""The tasks of retrieval exercises: random facts, questions and their answers, in nine kinds.

Each kind is a function of a random generator and the number of facts.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from longrope_factors.finetuning.data import wordings

Draw = np.random.Generator

_WORD = re.compile(r"\S+")
_ANSWER_WORDS = (8, 20)
# Unless all facts are asked for, there is at most one question for each so many of them.
_FACTS_PER_QUESTION = 2

T = TypeVar("T")


@dataclass(frozen=True)
class Asked:
    """A question, and the `lead` that begins a sentence which `value`, the answer, ends."""

    question: str
    lead: str
    value: str


@dataclass(frozen=True)
class Task:
    """Facts in their order, and the questions that they answer, at least one.

    With a `joiner`, the facts are one list with the joiner between them; without it, they may be
    anywhere in a text.
    """

    facts: tuple[str, ...]
    asked: tuple[Asked, ...]
    joiner: str | None = None


@dataclass(frozen=True)
class Kind:
    """A sort of task with from `least` to `most` facts; None means as many as fit."""

    make: Callable[[Draw, int], Task]
    least: int
    most: int | None


def fact(draw: Draw, count: int) -> Task:
    """Facts of one form about `count` things, some of which are asked for."""
    form = _one(draw, wordings.FACTS)
    keys, values = _keys(draw, form.key, count), _values(draw, form.value, count)
    return Task(
        facts=_statements(draw, form, keys, values),
        asked=tuple(
            Asked(
                question=_one(draw, form.questions).format(key=keys[place]),
                lead=_one(draw, form.leads).format(key=keys[place]),
                value=values[place],
            )
            for place in _some(draw, count)
        ),
    )


def in_order(draw: Draw, count: int) -> Task:
    """Facts of one form; the question asks for two to four of them, in its own order."""
    form = _one(draw, wordings.FACTS)
    keys, values = _keys(draw, form.key, count), _values(draw, form.value, count)
    places = draw.permutation(count)[: int(draw.integers(2, 5))]
    question = _one(draw, form.questions).format(key=wordings.EACH[form.key])
    asked = Asked(
        question=_one(draw, wordings.IN_ORDER).format(
            keys=", ".join(keys[place] for place in places), question=question
        ),
        lead=_one(draw, wordings.IN_ORDER_LEADS),
        value=", ".join(values[place] for place in places),
    )
    return Task(_statements(draw, form, keys, values), (asked,))


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
    question, lead = _one(draw, wordings.PAIR_QUESTIONS), _one(draw, wordings.PAIR_LEADS)
    return Task(
        facts=tuple(lines),
        asked=tuple(
            Asked(question.format(key=keys[place]), lead.format(key=keys[place]), values[place])
            for place in _some(draw, count)
        ),
        joiner=between,
    )


def lines(draw: Draw, count: int) -> Task:
    """Lines of a key (a number or a name) and a value; a question asks for either of them."""
    line, question, lead, reverse, reverse_lead = _one(draw, wordings.LINES)
    if draw.random() < 0.5:
        first = int(draw.integers(1, 500))
        keys = [str(first + place) for place in range(count)]
    else:
        keys = _distinct(draw, count, lambda: _pair_key(draw, 1))
    values = _distinct(draw, count, lambda: str(draw.integers(1000, 100_000)))
    asked = []
    for place in _some(draw, count):
        key, value = keys[place], values[place]
        if draw.random() < 0.25:
            asked.append(Asked(reverse.format(value=value), reverse_lead, key))
        else:
            asked.append(Asked(question.format(key=key), lead.format(key=key), value))
    return Task(
        facts=tuple(
            line.format(key=key, value=value) for key, value in zip(keys, values, strict=True)
        ),
        asked=tuple(asked),
        joiner="\n",
    )


def chain(draw: Draw, count: int) -> Task:
    """Chains of names, each with the value of the one before; the ends of some are asked for."""
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
    return Task(
        facts=tuple(facts),
        asked=tuple(
            Asked(
                question=question.format(name=chains[place][-1]),
                lead=lead.format(name=chains[place][-1]),
                value=values[place],
            )
            for place in draw.permutation(len(chains))[: int(draw.integers(1, len(chains) + 1))]
        ),
    )


def labels(draw: Draw, count: int) -> Task:
    """Examples of things with the made-up label of their sort; labels of things are asked for.

    Half of the time, the things may be examples themselves; otherwise only others of their sorts
    are.
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
    wanted = shuffled[: len(_some(draw, count))]
    others = shuffled[len(wanted) :] if draw.random() < 0.5 else shuffled
    # An example of each label that is asked for comes first, before there is no room left.
    needed = {label: (item, label) for item, label in [*wanted, *others]}
    examples = [needed[label] for label in dict.fromkeys(label for _, label in wanted)] + others
    shown = [examples[place % len(examples)] for place in draw.permutation(count)]
    return Task(
        facts=tuple(line.format(item=item, label=label) for item, label in shown),
        asked=tuple(
            Asked(question.format(item=item), lead.format(item=item), label)
            for item, label in wanted
        ),
        joiner="\n",
    )


KINDS = {
    "fact": Kind(fact, 1, 1),
    "some of several facts": Kind(fact, 2, 8),
    "some of many facts": Kind(fact, 9, None),
    "several facts in order": Kind(in_order, 2, 6),
    "pairs": Kind(pairs, 2, None),
    "lines": Kind(lines, 2, None),
    "chain": Kind(chain, 2, 12),
    "labels": Kind(labels, 4, None),
}
QUOTE = "quotation"
NAMES = (*KINDS, QUOTE)
# Long lists are drawn twice as often as the others: each question about them teaches most.
_DRAWN = (*NAMES, "some of many facts", "pairs", "lines")


def draw_name(draw: Draw) -> str:
    """One of NAMES; half of the draws are long lists."""
    return _one(draw, _DRAWN)


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
            forms = wordings.QUOTE_TO_END if ending else wordings.QUOTE_COUNTED
            question = _one(draw, forms).format(quote=quote, count=length)
            asked = Asked(question, _one(draw, wordings.QUOTE_LEADS), answer)
            return start, after[length - 1][1], Task((), (asked,))
    return None


def _one(draw: Draw, among: Sequence[T]) -> T:
    return among[int(draw.integers(len(among)))]


def _some(draw: Draw, count: int) -> npt.NDArray[np.int64]:
    """The places of the facts, of `count`, that are asked for, in the order of the questions."""
    order = draw.permutation(count)
    if draw.random() < 0.5:
        return order
    return order[: int(draw.integers(1, max(count // _FACTS_PER_QUESTION, 1) + 1))]


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
