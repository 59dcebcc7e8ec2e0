"""Estimates the tokens of a body without tokenising it."""

from collections.abc import Sequence

from longrope_server.front_end.admission.media import bytes_of_media

# English and code have about four bytes a token in JSON.
BYTES_PER_TOKEN = 4
# A token id seldom takes more: 7 digits and ", ".
BYTES_PER_ID = 9
# Bytes from the middle of the largest chunk, by which token ids are told from text.
SAMPLE = 4096
# The most that an image, a sound or an embedding counts, whose bytes say little about its tokens.
TOKENS_OF_MEDIUM = 1024
FORM = "multipart/"  # a body of this type has a file: sound to transcribe
IDS = frozenset(b"0123456789, \t\r\n")
SHARE_OF_IDS = 0.9


def tokens_in(chunks: Sequence[bytes], content_type: str = "application/json") -> int:
    """An estimate for the body in these chunks; for token ids, exact to within a few.

    A text that looks like token ids counts as at least one token per BYTES_PER_ID bytes. Nothing is
    parsed: for the largest bodies, counting takes some ten milliseconds.
    """
    size = sum(map(len, chunks))
    if content_type.lower().startswith(FORM):
        return min(size // BYTES_PER_TOKEN, TOKENS_OF_MEDIUM) + 1
    if _are_ids(chunks):
        return max(sum(chunk.count(b",") for chunk in chunks), size // BYTES_PER_ID) + 1
    beyond = bytes_of_media(chunks, TOKENS_OF_MEDIUM * BYTES_PER_TOKEN)
    return (size - beyond) // BYTES_PER_TOKEN + 1


def _are_ids(chunks: Sequence[bytes]) -> bool:
    """Whether the middle of the largest chunk is a list of numbers."""
    middle = max(chunks, key=len, default=b"")
    start = max(len(middle) // 2 - SAMPLE // 2, 0)
    sample = middle[start : start + SAMPLE]
    return sum(byte in IDS for byte in sample) >= SHARE_OF_IDS * len(sample) > 0
