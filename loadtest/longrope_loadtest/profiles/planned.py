"""What is planned: the requests of a run, before their texts are made."""

from collections.abc import Iterator
from dataclasses import dataclass

from longrope_loadtest.profiles.own_prompts import Line


@dataclass(frozen=True, slots=True)
class Planned:
    """One request to send, or the first turn of a conversation together with its later turns."""

    number: int  # from 0, by intended time, with a conversation's turns together; closed loops last
    class_name: str
    intended: float | None  # seconds from the start of the run; None in a closed loop
    prompt_tokens: int  # of a turn: with the history, and answers as long as planned; 0: unknown
    output_tokens: int
    prefix: str | None = None  # the name of the text of its first prefix_tokens tokens
    prefix_tokens: int = 0
    blocks: tuple[int, ...] = ()  # of a trace: the prompt's text, block by block
    block_tokens: int = 0  # tokens in each block
    passkey: str | None = None
    depth: float = 0  # of the passkey, 0 to 1
    cancel_after: float | None = None  # seconds from dispatch
    line: Line | None = None  # of the user's own prompts
    turn: int | None = None  # from 1; None outside a conversation
    message_tokens: int = 0  # of a turn's own message
    think: float = 0  # seconds from the previous turn's answer
    later: tuple["Planned", ...] = ()  # of a first turn: the other turns

    def turns(self) -> "tuple[Planned, ...]":
        """This request and the later turns of its conversation."""
        return (self, *self.later)


@dataclass(frozen=True, slots=True)
class Users:
    """A closed loop: its requests, in the order in which the next free user takes them."""

    number: int
    requests: tuple[Planned, ...]
    think: tuple[float, ...]  # seconds before each request


@dataclass(frozen=True, slots=True)
class Plan:
    """All requests of a run."""

    open: tuple[Planned, ...]  # by intended time
    closed: tuple[Users, ...]

    def __iter__(self) -> Iterator[Planned]:
        """Every request by its number."""
        for first in self._arriving():
            yield from first.turns()

    def __len__(self) -> int:
        """The number of requests."""
        return sum(len(first.turns()) for first in self._arriving())

    def counted(self, warm_up: float) -> int:
        """The number of requests that count after a warm-up of so many seconds.

        All of a closed loop's, because only the run tells which are due within it.
        """
        late_enough = (
            first
            for first in self._arriving()
            if first.intended is None or first.intended >= warm_up
        )
        return sum(len(first.turns()) for first in late_enough)

    def _arriving(self) -> Iterator[Planned]:
        """What arrives: single requests, and the first turns of conversations."""
        yield from self.open
        for users in self.closed:
            yield from users.requests
