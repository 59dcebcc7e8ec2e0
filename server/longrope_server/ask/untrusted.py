"""Reads what another program sent without trusting its form."""

from typing import Any

MESSAGE_LENGTH = 300
REPEATED = 24  # characters in a row; fewer are taken for chance


def at(document: Any, *path: str | int) -> Any:
    """The value at `path`, keys and indices, of a JSON document; None if there is none."""
    for step in path:
        try:
            document = document[step]
        except (KeyError, IndexError, TypeError):
            return None
    return document


def count_at(document: Any, *path: str | int) -> int | None:
    """The whole number at `path`; None if there is none."""
    value = at(document, *path)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def printable(text: str) -> str:
    """`text` without the characters that control a terminal; line ends and tabs stay."""
    return "".join(
        character
        if character in "\n\t" or not (character < " " or "\x7f" <= character < "\xa0")
        else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )


def quoted(message: Any, *private: str) -> str:
    """A server's error message on one line, shortened, to be quoted after a colon.

    Empty if it is not text, or if it repeats any of the `private` texts, as some servers do.
    """
    if not isinstance(message, str):
        return ""
    line = _on_one_line(message)[:MESSAGE_LENGTH]
    if any(_repeats(line, _on_one_line(text)) for text in private):
        return ""
    return printable(line).rstrip(" .")


def _on_one_line(text: str) -> str:
    return " ".join(text.replace("\\n", " ").split())


def _repeats(line: str, private: str) -> bool:
    """Whether `line` holds REPEATED characters of `private` in a row, or all of a shorter one."""
    if len(private) <= REPEATED:
        return bool(private) and private in line
    return any(
        line[start : start + REPEATED] in private for start in range(len(line) - REPEATED + 1)
    )
