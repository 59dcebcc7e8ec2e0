"""Adds `factor_set` to the `usage` object of a JSON document and changes no other byte."""

import json

from longrope_server.front_end.factor_set.answer import FactorSetUsage

# Where OpenAI's and Anthropic's APIs have their usage: in an answer, in the response of a
# Responses API event, in the message of a Messages API event.
PLACES = (("usage",), ("response", "usage"), ("message", "usage"))

KEY = '"usage"'

_decoder = json.JSONDecoder()


def with_factor_set(document: bytes, factor_set: FactorSetUsage) -> bytes:
    """`document` with `factor_set` as the last member of its usage object.

    A document that has no usage object, or is not JSON, is returned unchanged.
    """
    if KEY.encode() not in document:  # exact: inside a string the quotes are escaped
        return document
    try:
        text = document.decode()
        if (usage := _at_the_end(text)) is not None:
            return _added(text, usage, factor_set)
        for place in PLACES:
            if (start := _object_at(text, place)) is not None:
                return _added(text, start, factor_set)
    except ValueError:
        pass
    return document


def _added(text: str, start: int, factor_set: FactorSetUsage) -> bytes:
    usage, end = _decoder.raw_decode(text, start)
    comma = "," if usage else ""
    member = f'{comma}"factor_set":{json.dumps(factor_set, separators=(",", ":"))}'
    return (text[: end - 1] + member + text[end - 1 :]).encode()


def _at_the_end(text: str) -> int | None:
    """Index of the brace that opens `usage`, if that is the last member of the whole document.

    It is the last member after vectors, and reading megabytes of numbers would hold up the server.
    """
    colon = _skip_space(text, text.rfind(KEY) + len(KEY))
    start = _skip_space(text, colon + 1)
    if text[colon : colon + 1] != ":" or text[start : start + 1] != "{":
        return None
    end = _skip_space(text, _decoder.raw_decode(text, start)[1])
    # With one brace left to close, the object is a member of the outermost.
    is_last = text[end : end + 1] == "}" and _skip_space(text, end + 1) == len(text)
    return start if is_last else None


def _object_at(text: str, place: tuple[str, ...], start: int = 0) -> int | None:
    """Index of the brace that opens the object at `place`, a path of keys; None without one."""
    at = _skip_space(text, start)
    if text[at : at + 1] != "{":
        return None
    if not place:
        return at
    at = _skip_space(text, at + 1)
    while text[at : at + 1] == '"':
        key, at = _decoder.raw_decode(text, at)
        at = _skip_space(text, _skip_space(text, at) + 1)  # past the colon
        if key == place[0]:
            return _object_at(text, place[1:], at)
        at = _skip_space(text, _decoder.raw_decode(text, at)[1])
        at = _skip_space(text, at + 1)  # past the comma
    return None


def _skip_space(text: str, at: int) -> int:
    while text[at : at + 1] in (" ", "\n", "\r", "\t"):
        at += 1
    return at
