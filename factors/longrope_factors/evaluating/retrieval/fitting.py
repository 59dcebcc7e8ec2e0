"""Documents as long as they should be, and their tokens."""

from collections.abc import Callable
from dataclasses import dataclass

from longrope_factors.evaluating.retrieval.documents import Document
from longrope_factors.evaluating.retrieval.prompts import Prompts, common
from longrope_factors.factor_file.errors import UsageError


@dataclass(frozen=True)
class Fitted:
    """A document's prompts: the tokens that all begin with, and the rest of each.

    `tails` are the tokens of each question and of its answer. `tokens` is what the longest prompt
    has, with its answer or with what may be said in its place.
    """

    document: Document
    context_ids: list[int]
    tails: list[tuple[list[int], list[int]]]
    tokens: int


def fit(
    prompts: Prompts, make: Callable[[int], Document], least: int, length: int, room: int
) -> Fitted:
    """The longest document whose prompts fit into `length` tokens.

    `make` gives the document of so many units of filler; `least` is the fewest. After each question
    there is space for its answer, and for `room` tokens if these are more. Raises UsageError where
    the shortest document does not fit.
    """
    shortest = _fitted(prompts, make(least), room)
    if shortest.tokens > length:
        raise UsageError(f"{shortest.tokens} tokens are the fewest: {length} are too few.")
    # A long text costs seconds to tokenize, so only the longest question is tokenized with each
    # guess. Tokens grow almost evenly with the units, so that few guesses are needed.
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
    # Another question may be the longest by a token there.
    while (found := _fitted(prompts, make(low), room)).tokens > length:
        low -= 1
    return found


def _fitted(prompts: Prompts, document: Document, room: int) -> Fitted:
    answered = prompts.answered(document)
    # A token of each question at least is read after the context: it gives the first logits.
    shared = min(common([ids for ids, _ in answered]), *(start - 1 for _, start in answered))
    return Fitted(
        document,
        answered[0][0][:shared],
        [(ids[shared:start], ids[start:]) for ids, start in answered],
        max(start + max(len(ids) - start, room) for ids, start in answered),
    )
