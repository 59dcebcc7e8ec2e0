"""Scans a JSON text for values that parsers accept but the code behind them cannot hold.

Each chunk is scanned once, by functions that run in C: a prompt of two million tokens is 30 MB.
"""

import codecs
import json
import math
import re

DEEPEST = 100  # lists and objects inside one another; no API needs more
MOST_DIGITS = 309  # of an integer that a double can hold
LONGEST_NUMBER = 400  # characters; enough for MOST_DIGITS, a sign, a point and an exponent

# The inside of a string: characters and whole escapes, a surrogate's only with its other half.
_INSIDE = (
    rb'(?:[^"\\]++|\\[^u]|\\u(?:[0-9a-cA-CeEfF]...|[dD][0-7]..|[dD][89abAB]..\\u[dD][c-fC-F]..))*+'
)
_REST_OF_STRING = re.compile(_INSIDE, re.DOTALL)
_STRING = re.compile(rb'"' + _INSIDE + rb'"', re.DOTALL)
_WHOLE_STRINGS = re.compile(rb'(?:[^"]++|"' + _INSIDE + rb'")*+', re.DOTALL)
_LONGEST_ESCAPE = len(rb"\ud83d\ude00")
_LITERAL = b"0123456789+-.abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_DIGITS_AS_ZEROS = bytes.maketrans(b"123456789", b"0" * 9)
_LARGE_EXPONENT = re.compile(rb"(?<![0-9.])[0-9]++(?:\.[0-9]++)?[eE]\+?[0-9]{3,}+")


class UnreadableError(Exception):
    """What is wrong with the text, in a sentence that repeats nothing of it."""


class JSONScan:
    """Scans one text, chunk by chunk. It leaves the syntax to the parser."""

    def __init__(self) -> None:
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.first = b""  # the first four bytes, which tell UTF-8 from UTF-16 and UTF-32
        self.in_string = False
        self.escape = b""  # an escape that the end of the last chunk has cut
        self.literal = b""  # likewise, a number or a word
        self.depth = 0

    def feed(self, chunk: bytes) -> None:
        """Scans the next bytes. Raises UnreadableError."""
        self._check_encoding(chunk)
        self._look_at(self.literal + self._outside_strings(self.escape + chunk))

    def finish(self) -> None:
        """Scans what is left when the text has ended. Raises UnreadableError."""
        try:
            self.decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            raise _no_utf_8() from None
        if not json.detect_encoding(self.first).startswith("utf-8"):
            raise _no_utf_8()
        if self.escape:
            raise _no_character()
        self._look_at(self.literal + b" ")

    def _check_encoding(self, chunk: bytes) -> None:
        self.first += chunk[: 4 - len(self.first)]
        if len(self.first) == 4 and not json.detect_encoding(self.first).startswith("utf-8"):
            raise _no_utf_8()
        if chunk.isascii() and not self.decoder.getstate()[0]:
            return
        try:
            self.decoder.decode(chunk)
        except UnicodeDecodeError:
            raise _no_utf_8() from None

    def _outside_strings(self, data: bytes) -> bytes:
        """The part of `data` outside strings, with a quote in place of each string."""
        start = self._end_of_string(data, 0) if self.in_string else 0
        end = _end(_WHOLE_STRINGS, data, start)
        if end < len(data):
            self._end_of_string(data, end + 1)
        return _STRING.sub(b'"', data[start:end])

    def _end_of_string(self, data: bytes, start: int) -> int:
        """Where the string that continues at `start` ends; the end of `data` if it does not."""
        end = _end(_REST_OF_STRING, data, start)
        self.in_string = data[end : end + 1] != b'"'
        if not self.in_string:
            self.escape = b""
            return end + 1
        self.escape = data[end:]
        if len(self.escape) >= _LONGEST_ESCAPE:
            raise _no_character()
        return len(data)

    def _look_at(self, outside: bytes) -> None:
        """Checks numbers, words and brackets."""
        whole = outside.rstrip(_LITERAL)
        self.literal = outside[len(whole) :][-LONGEST_NUMBER:]
        if b"NaN" in whole or b"Infinity" in whole:
            raise UnreadableError("The body has NaN or Infinity, which JSON does not have.")
        if _has_many_digits(outside) or _has_large_exponent(whole):
            raise UnreadableError("The body has a number that no 64-bit float can hold.")
        self._count(whole.translate(None, _NO_BRACKETS))

    def _count(self, brackets: bytes) -> None:
        opened = brackets.count(b"[") + brackets.count(b"{")
        if self.depth + opened <= DEEPEST:
            self.depth += 2 * opened - len(brackets)
            return
        for bracket in brackets:
            self.depth += _STEPS[bracket]
            if self.depth > DEEPEST:
                raise UnreadableError(
                    f"The body has lists and objects nested more than {DEEPEST} deep."
                )


def _has_many_digits(text: bytes) -> bool:
    return b"0" * (MOST_DIGITS + 1) in text.translate(_DIGITS_AS_ZEROS)


def _has_large_exponent(text: bytes) -> bool:
    if b"e" not in text and b"E" not in text:
        return False
    return any(math.isinf(float(number[0])) for number in _LARGE_EXPONENT.finditer(text))


def _end(pattern: re.Pattern[bytes], data: bytes, start: int) -> int:
    """The end of a pattern's match at `start`; the pattern also matches the empty text."""
    match = pattern.match(data, start)
    assert match is not None
    return match.end()


def _no_character() -> UnreadableError:
    return UnreadableError(
        "The body has an escape that stands for no character: half of a surrogate pair (\\ud800 to "
        "\\udfff) without the other half."
    )


def _no_utf_8() -> UnreadableError:
    return UnreadableError("The body is not UTF-8, which JSON is written in.")
