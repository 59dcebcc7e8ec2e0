"""The order of the training sequences: endless, and fixed by the settings and the seed.

It does not depend on the training itself, so a resumed run finds its position by counting.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from longrope_factors.finetuning.data.packing import Span, cut, pack

Kind = Literal["long", "short", "passkey", "retrieval"]
_WHOLE, _SHORT, _PASSKEY, _SKIPPED, _DRAWN = range(5)  # streams of random numbers


@dataclass(frozen=True)
class Planned:
    """A planned sequence: the spans that are packed into it, or the seed of a prompt.

    A `whole` sequence has consecutive positions. The others have skipped ones, drawn with `seed`.
    """

    kind: Kind
    spans: tuple[Span, ...] = ()
    seed: tuple[int, ...] = ()
    whole: bool = True


@dataclass(frozen=True)
class Mixture:
    """How sequences are drawn.

    `short_length` is the greatest length of a document with the original rotation. With skipped
    positions, `window` is less than `length`, and `full_share` is the share of sequences that have
    more than `window` tokens, up to `whole`; `gapless` is the share of the text windows whose
    positions do not skip after all. `mixed`, `full_share`, `retrieval_share` and
    `passkey_share` are as in Settings. If `packed` is false, there are only full windows.
    """

    length: int
    short_length: int
    window: int
    whole: int
    gapless: float = 0.0
    mixed: float = 0.0
    full_share: float = 0.0
    retrieval_share: float = 0.0
    passkey_share: float = 0.0
    packed: bool = True
    seed: int = 0

    @property
    def shares(self) -> dict[tuple[Literal["text", "passkey", "retrieval"], bool], float]:
        """The share of each sort of sequence: its content, and whether its positions are whole."""
        whole = self.full_share if self.window < self.length else 1.0
        text = 1.0 - self.passkey_share - self.retrieval_share
        return {
            ("text", False): text * (1.0 - whole),
            ("text", True): text * whole,
            ("passkey", True): self.passkey_share,
            ("retrieval", False): self.retrieval_share * (1.0 - whole),
            ("retrieval", True): self.retrieval_share * whole,
        }


def sequences(lengths: Sequence[int], mixture: Mixture) -> Iterator[Planned]:
    """Plan sequences without end from documents of `lengths` tokens; one must fill a window.

    The next sequence is of the sort that is furthest behind its share. Text is taken from the
    documents pass by pass, in a new order in each pass. It becomes a short sequence if short ones
    have had less than their share of the tokens.
    """
    skipped, whole = (_long(lengths, mixture, whole) for whole in (False, True))
    short = _short(lengths, mixture)
    text_tokens = short_tokens = 0
    counts = dict.fromkeys(mixture.shares, 0)
    for index in itertools.count():
        sort = max(counts, key=lambda sort: mixture.shares[sort] * (index + 1) - counts[sort])
        counts[sort] += 1
        content, is_whole = sort
        if content == "passkey":
            yield Planned("passkey", seed=(mixture.seed, _PASSKEY, index))
            continue
        if content == "retrieval":
            yield Planned("retrieval", seed=(mixture.seed, _DRAWN, index), whole=is_whole)
            continue
        is_short = short_tokens < mixture.mixed * text_tokens
        if is_short:
            planned = next(short)
        elif is_whole:
            planned = Planned("long", next(whole))
        else:
            planned = Planned("long", next(skipped), (mixture.seed, _DRAWN, index), whole=False)
        tokens = sum(map(len, planned.spans))
        text_tokens += tokens
        short_tokens += tokens if is_short else 0
        yield planned


def _long(lengths: Sequence[int], mixture: Mixture, whole: bool) -> Iterator[tuple[Span, ...]]:
    window, stream = (mixture.whole, _WHOLE) if whole else (mixture.window, _SKIPPED)
    for epoch in itertools.count():
        generator = np.random.default_rng((mixture.seed, stream, epoch))
        windows, rest = cut(lengths, window, generator)
        groups: list[tuple[Span, ...]] = [(span,) for span in windows]
        if mixture.packed:
            # In a mixed run, documents that keep the original rotation are no examples of the new.
            least = mixture.short_length + 1 if mixture.mixed and whole else 0
            groups += pack([span for span in rest if len(span) >= least], window)
        for place in generator.permutation(len(groups)):
            yield groups[place]


def _short(lengths: Sequence[int], mixture: Mixture) -> Iterator[Planned]:
    longest = min(mixture.short_length, mixture.window)
    for epoch in itertools.count():
        generator = np.random.default_rng((mixture.seed, _SHORT, epoch))
        windows, rest = cut(lengths, longest, generator)
        # Shuffled first, because packing keeps the order of equally long spans and would pack the
        # windows of one document together.
        order = generator.permutation(len(windows))
        groups = pack([*(windows[place] for place in order), *rest], mixture.window)
        for place in generator.permutation(len(groups)):
            yield Planned("short", groups[place])
