"""Cut documents into windows, and pack short ones together."""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# The fewest tokens of a span: a single token has nothing to predict.
LEAST = 2


@dataclass(frozen=True)
class Span:
    """The tokens from `start` to `end` (exclusive) of one document, given by its index."""

    document: int
    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start


def cut(
    lengths: Sequence[int], window: int, generator: np.random.Generator
) -> tuple[list[Span], list[Span]]:
    """Windows of exactly `window` tokens, and what is left: shorter documents, heads and tails.

    `lengths` are the documents' lengths in tokens. The first window of a document starts at a
    random token, so that every pass cuts elsewhere, but never so late that a window is lost.
    """
    windows, rest = [], []
    for document, length in enumerate(lengths):
        count = length // window
        first = int(generator.integers(length - count * window + 1)) if count else length
        rest.append(Span(document, 0, first))
        for start in range(first, first + count * window, window):
            windows.append(Span(document, start, start + window))
        rest.append(Span(document, first + count * window, length))
    return windows, [span for span in rest if len(span) >= LEAST]


def pack(spans: Sequence[Span], capacity: int) -> list[tuple[Span, ...]]:
    """Group spans by best-fit decreasing into few groups of at most `capacity` tokens.

    No span may be longer than `capacity`.
    """
    groups: list[list[Span]] = []
    room: list[tuple[int, int]] = []  # (tokens left, group), ascending
    for span in sorted(spans, key=len, reverse=True):
        place = bisect.bisect_left(room, (len(span), -1))
        if place == len(room):
            left, group = capacity, len(groups)
            groups.append([])
        else:
            left, group = room.pop(place)
        groups[group].append(span)
        bisect.insort(room, (left - len(span), group))
    return [tuple(group) for group in groups]
