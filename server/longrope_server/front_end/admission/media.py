"""Finds images, sound and embeddings in a JSON body, where they come in base64."""

from collections.abc import Sequence

BLOCK = 1024  # bytes that are looked at together: neither end of a medium is found more exactly
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=-_"


def bytes_of_media(chunks: Sequence[bytes], most: int) -> int:
    """The bytes of media in the body in these chunks, beyond the first `most` of each.

    A medium is what is written in base64's characters alone: a text has a space or a quote sooner.
    One that has none (a genome) counts too little here, and exactly once it is tokenised.
    """
    beyond = size = 0
    for chunk in chunks:
        for start in range(0, len(chunk), BLOCK):
            block = chunk[start : start + BLOCK]
            if _is_base64(block):
                size += len(block)
                beyond += min(len(block), max(size - most, 0))
            else:
                size = 0
    return beyond


def _is_base64(block: bytes) -> bool:
    if b" " in block or b'"' in block:  # by far the fastest to find
        return False
    if not (others := block.translate(None, _BASE64)):
        return True
    # Some write a slash as \/, which the end of a block may cut.
    return not others.strip(b"\\") and block.count(rb"\/") >= len(others) - 1
