"""Estimates the tokens of a body without tokenising it."""

from collections.abc import Sequence

# English and code have about four bytes a token in JSON.
BYTES_PER_TOKEN = 4
# A token id seldom takes more: 7 digits and ", ".
BYTES_PER_ID = 9
# Bytes from the middle of the largest chunk, by which token ids are told from text.
SAMPLE = 4096
IDS = frozenset(b"0123456789, \t\r\n")
SHARE_OF_IDS = 0.9


def tokens_in(chunks: Sequence[bytes]) -> int:
    """An estimate for the JSON body in these chunks; for token ids, exact to within a few.

    A text that looks like token ids counts as at least one token per BYTES_PER_ID bytes. Only the
    commas are counted, which takes a millisecond for the largest bodies.
    """
    size = sum(map(len, chunks))
    if _are_ids(chunks):
        return max(sum(chunk.count(b",") for chunk in chunks), size // BYTES_PER_ID) + 1
    return size // BYTES_PER_TOKEN + 1


def _are_ids(chunks: Sequence[bytes]) -> bool:
    """Whether the middle of the largest chunk is a list of numbers."""
    middle = max(chunks, key=len, default=b"")
    start = max(len(middle) // 2 - SAMPLE // 2, 0)
    sample = middle[start : start + SAMPLE]
    return sum(byte in IDS for byte in sample) >= SHARE_OF_IDS * len(sample) > 0
