"""Fit documents to a number of tokens."""

from collections.abc import Callable
from dataclasses import dataclass

from longrope_factors.evaluating.retrieval.documents import Document
from longrope_factors.evaluating.retrieval.prompts import Prompts, common
from longrope_factors.factor_file.errors import UsageError


@dataclass(frozen=True)
class Fitted:
    """A document's prompts: the tokens that all of them begin with, and the rest of each.

    `tails` are the tokens of each question and of its answer. `tokens` is the length of the longest
    prompt, including its answer or what may be said in its place.
    """

    document: Document
    context_ids: list[int]
    tails: list[tuple[list[int], list[int]]]
    tokens: int


def fit(
    prompts: Prompts, make: Callable[[int], Document], least: int, length: int, room: int
) -> Fitted:
    """The longest document whose prompts fit into `length` tokens.

    `make` makes the document with the given number of units of filler; `least` is the smallest
    number. After each question there is room for its answer, or for `room` tokens if these are
    more. Raises UsageError if the shortest document does not fit.
    """
    shortest = _fitted(prompts, make(least), room)
    if shortest.tokens > length:
        raise UsageError(
            f"the shortest document has {shortest.tokens} tokens: {length} are too few."
        )
    # A long text takes seconds to tokenize, so only the longest question is tokenized for each
    # guess. The number of tokens is almost linear in the units, so few guesses are needed.
    sizes = [len(question) + max(len(answer), room) for question, answer in shortest.tails]
    longest = sizes.index(max(sizes))
    after = max(len(shortest.tails[longest][1]), room)

    def tokens(units: int) -> int:
        document = make(units)
        (ids,) = prompts.ids(document, [document.asked[longest]])
        return len(ids) + after

    low, at_low, high = least, shortest.tokens, None
    guess, at_guess = least + 20, tokens(least + 20)
    while True:
        per_unit = (at_guess - at_low) / (guess - low)
        if at_guess > length:
            high = guess
        else:
            low, at_low = guess, at_guess
        if high is not None and high - low == 1:
            break
        guess = low + max(1, int((length - at_low) / per_unit))
        if high is not None:
            guess = min(guess, high - 1)
        at_guess = tokens(guess)
    # In this document, another question may be longer by a token.
    while (fitted := _fitted(prompts, make(low), room)).tokens > length:
        low -= 1
    return fitted


def _fitted(prompts: Prompts, document: Document, room: int) -> Fitted:
    answered = prompts.answered(document)
    # At least one token of each question is read after the context, because it gives the first
    # logits.
    shared = min(common([ids for ids, _ in answered]), *(start - 1 for _, start in answered))
    return Fitted(
        document,
        answered[0][0][:shared],
        [(ids[shared:start], ids[start:]) for ids, start in answered],
        max(start + max(len(ids) - start, room) for ids, start in answered),
    )
