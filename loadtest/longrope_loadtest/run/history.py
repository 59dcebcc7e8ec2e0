"""The history of a conversation, which every turn sends again."""

import json

from longrope_loadtest.run.answers import Answer

MESSAGES = b'"messages":['


class History:
    """The messages of a conversation so far, as JSON: a turn's body is put together quickly."""

    def __init__(self, *, reasoning: bool) -> None:
        self._reasoning = reasoning  # whether the model's thoughts are sent back
        self._messages = b""  # with a comma after each

    def body(self, own: memoryview) -> bytes:
        """The body of the next turn; `own` is one with only the messages that the turn adds."""
        text = bytes(own)
        at = text.index(MESSAGES) + len(MESSAGES)
        return text[:at] + self._messages + text[at:]

    def add(self, own: memoryview, answer: Answer) -> None:
        """Add a turn: its messages, and the model's answer."""
        messages = [*json.loads(bytes(own))["messages"], answer.message(reasoning=self._reasoning)]
        parts = [json.dumps(message, separators=(",", ":")).encode() for message in messages]
        self._messages += b"".join(part + b"," for part in parts)
