"""Which sequence is trained on when: an endless order that the settings and the seed fix.

Nothing of it depends on what training did, so a resumed run finds its place by counting.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from longrope_factors.finetuning.packing import Span, cut, pack

Kind = Literal["long", "short", "passkey"]
_LONG, _SHORT, _PASSKEY = 0, 1, 2  # streams of random numbers


@dataclass(frozen=True)
class Planned:
    """One sequence to come: spans that are packed into it, or the seed of a passkey prompt."""

    kind: Kind
    spans: tuple[Span, ...] = ()
    seed: tuple[int, ...] = ()


@dataclass(frozen=True)
class Mixture:
    """How sequences are drawn; `short_length` is the longest document with the old rotation.

    `mixed` and `passkey_share` are as in Settings; with `packed` False, only whole windows come.
    """

    length: int
    short_length: int
    mixed: float = 0.0
    passkey_share: float = 0.0
    packed: bool = True
    seed: int = 0


def sequences(lengths: Sequence[int], mixture: Mixture) -> Iterator[Planned]:
    """Sequences without end, from documents of `lengths` tokens; at least one fills a window.

    Each kind goes through its documents pass by pass, in a new order each time. A short sequence
    comes whenever short ones have had less than their share of the tokens, a passkey prompt
    whenever their share of the sequences is due.
    """
    long, short = _long(lengths, mixture), _short(lengths, mixture)
    text_tokens = short_tokens = 0
    for index in itertools.count():
        share = mixture.passkey_share
        if math.floor((index + 1) * share) > math.floor(index * share):
            yield Planned("passkey", seed=(mixture.seed, _PASSKEY, index))
            continue
        is_short = short_tokens < mixture.mixed * text_tokens
        planned = next(short if is_short else long)
        tokens = sum(map(len, planned.spans))
        text_tokens += tokens
        short_tokens += tokens if is_short else 0
        yield planned


def _long(lengths: Sequence[int], mixture: Mixture) -> Iterator[Planned]:
    for epoch in itertools.count():
        generator = np.random.default_rng((mixture.seed, _LONG, epoch))
        windows, rest = cut(lengths, mixture.length, generator)
        groups: list[tuple[Span, ...]] = [(window,) for window in windows]
        if mixture.packed:
            # What keeps the original rotation in a mixed run is no example of the new one.
            least = mixture.short_length + 1 if mixture.mixed else 0
            groups += pack([span for span in rest if len(span) >= least], mixture.length)
        for place in generator.permutation(len(groups)):
            yield Planned("long", groups[place])


def _short(lengths: Sequence[int], mixture: Mixture) -> Iterator[Planned]:
    for epoch in itertools.count():
        generator = np.random.default_rng((mixture.seed, _SHORT, epoch))
        windows, rest = cut(lengths, mixture.short_length, generator)
        # Shuffled first: packing keeps the order of equally long spans, and would pack the
        # windows of one document together.
        order = generator.permutation(len(windows))
        groups = pack([*(windows[place] for place in order), *rest], mixture.length)
        for place in generator.permutation(len(groups)):
            yield Planned("short", groups[place])
