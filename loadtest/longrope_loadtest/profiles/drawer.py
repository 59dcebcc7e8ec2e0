"""Draw the content of each request: its lengths, what it shares, and whether it is cancelled."""

import random
from dataclasses import replace
from itertools import cycle
from pathlib import Path

from longrope_loadtest.errors import UsageError
from longrope_loadtest.profiles import own_prompts, traces
from longrope_loadtest.profiles.bounds import MOST_REQUESTS, too_many
from longrope_loadtest.profiles.distributions import draw_tokens
from longrope_loadtest.profiles.own_prompts import Line
from longrope_loadtest.profiles.planned import Planned
from longrope_loadtest.profiles.profile import (
    Conversation,
    OwnPrompts,
    Passkey,
    Profile,
    Replay,
    RequestClass,
    SharedPrefix,
    TokenIds,
    Words,
)


class Drawer:
    """Draws requests and numbers them.

    A request depends only on the seed and its number, and a conversation on the number of its first
    turn, except for the shared prefix, which also depends on the earlier requests of the class.
    """

    def __init__(self, profile: Profile, seed: int, directory: Path) -> None:
        self._profile = profile
        self._seed = seed
        self._prefixes: dict[str, int] = {}
        self._number = 0
        self._lines = {
            name: cycle(
                own_prompts.read(
                    directory / prompt.path,
                    of.api,
                    whole=prompt.kind == "replay",
                    by_turn=of.has_conversations(),
                    streamed_for=of.time_of_tokens() if prompt.kind == "replay" else None,
                )
            )
            for name, of in profile.classes.items()
            if isinstance(prompt := of.prompt, OwnPrompts | Replay)
        }

    def draw(
        self, class_name: str, time: float | None, traced: traces.Traced | None = None
    ) -> Planned:
        """Draw the next request, or the next conversation; `time` is None in a closed loop."""
        rng = random.Random(f"{self._seed}/request/{self._number}")
        prompt = self._profile.classes[class_name].prompt
        if isinstance(prompt, Conversation):
            planned = self._conversation(class_name, time, prompt, rng)
        elif isinstance(prompt, OwnPrompts | Replay):
            planned = self._own(class_name, time, prompt, traced, rng)
        else:
            planned = self._single(class_name, time, prompt, traced, rng)
        self._number += len(planned.turns())
        if self._number > MOST_REQUESTS:
            raise UsageError(f"{too_many('The conversations with all their turns', self._number)}.")
        return planned

    def _single(
        self,
        class_name: str,
        time: float | None,
        prompt: Words | TokenIds | Passkey,
        traced: traces.Traced | None,
        rng: random.Random,
    ) -> Planned:
        request_class = self._profile.classes[class_name]
        if traced is None:
            prompt_tokens = draw_tokens(prompt.tokens, rng)
            output_tokens = _output_tokens(request_class, rng)
        else:
            prompt_tokens, output_tokens = traced.prompt_tokens, traced.output_tokens
        prefix, prefix_tokens, passkey, depth = None, 0, None, 0.0
        if prompt.kind == "passkey":
            passkey = f"{rng.randrange(10_000, 100_000)}"
            depth = min(1.0, prompt.depth.draw(rng))
        elif prompt.shared_prefix is not None:
            prefix = self._prefix(class_name, prompt.shared_prefix, rng)
            prefix_tokens = min(prompt.shared_prefix.tokens, prompt_tokens)
        return Planned(
            number=self._number,
            class_name=class_name,
            intended=time,
            prompt_tokens=prompt_tokens,
            output_tokens=output_tokens,
            prefix=prefix,
            prefix_tokens=prefix_tokens,
            blocks=() if traced is None else traced.blocks,
            block_tokens=0 if traced is None else traced.block_tokens,
            passkey=passkey,
            depth=depth,
            cancel_after=_cancel_after(request_class, rng),
        )

    def _own(
        self,
        class_name: str,
        time: float | None,
        prompt: OwnPrompts | Replay,
        traced: traces.Traced | None,
        rng: random.Random,
    ) -> Planned:
        request_class = self._profile.classes[class_name]
        by_turn = isinstance(prompt, OwnPrompts) and prompt.by_turn
        line = next(self._lines[class_name])
        planned = [
            Planned(
                number=self._number + at,
                class_name=class_name,
                intended=None if at else time,
                prompt_tokens=0 if traced is None else traced.prompt_tokens,
                output_tokens=_output_tokens_of(part, request_class, rng),
                cancel_after=_cancel_after(request_class, rng),
                line=part,
                turn=at + 1 if by_turn else None,
                think=prompt.think.draw(rng) if at and isinstance(prompt, OwnPrompts) else 0,
            )
            for at, part in enumerate(line.turns() if by_turn else [line])
        ]
        return replace(planned[0], later=tuple(planned[1:]))

    def _conversation(
        self, class_name: str, time: float | None, prompt: Conversation, rng: random.Random
    ) -> Planned:
        request_class = self._profile.classes[class_name]
        prefix, context = None, 0
        if prompt.system is not None:
            prefix, context = self._prefix(class_name, prompt.system, rng), prompt.system.tokens
        turns: list[Planned] = []
        most = draw_tokens(prompt.turns, rng)
        if self._number + most > MOST_REQUESTS:
            what = f"Class {class_name}: turns: {most} more of them"
            raise UsageError(f"{too_many(what, self._number + most)}.")
        for turn in range(1, most + 1):
            message = draw_tokens(prompt.tokens if turn == 1 else prompt.growth, rng)
            output = _output_tokens(request_class, rng)
            think = prompt.think.draw(rng)
            context += message
            if turns and prompt.context is not None and context + output > prompt.context:
                break
            turns.append(
                Planned(
                    number=self._number + len(turns),
                    class_name=class_name,
                    intended=None if turns else time,
                    prompt_tokens=context,
                    output_tokens=output,
                    prefix=None if turns else prefix,
                    prefix_tokens=0 if turns or prompt.system is None else prompt.system.tokens,
                    cancel_after=_cancel_after(request_class, rng),
                    turn=turn,
                    message_tokens=message,
                    think=think if turns else 0,
                )
            )
            context += output
        return replace(turns[0], later=tuple(turns[1:]))

    def _prefix(self, class_name: str, shared: SharedPrefix, rng: random.Random) -> str:
        known = self._prefixes.setdefault(class_name, 0)
        if known and rng.random() < shared.hit_rate:
            return f"{class_name}/{rng.randrange(known)}"
        self._prefixes[class_name] = known + 1
        return f"{class_name}/{known}"


def _output_tokens(request_class: RequestClass, rng: random.Random) -> int:
    assert request_class.output_tokens is not None  # only recorded bodies have none
    return draw_tokens(request_class.output_tokens, rng)


def _output_tokens_of(line: Line, request_class: RequestClass, rng: random.Random) -> int:
    """What the line says, or the class; 0 for a recorded body that does not say."""
    if line.output_tokens is not None or request_class.output_tokens is None:
        return line.output_tokens or 0
    return draw_tokens(request_class.output_tokens, rng)


def _cancel_after(request_class: RequestClass, rng: random.Random) -> float | None:
    cancel = request_class.cancel
    if cancel is None or rng.random() >= cancel.share:
        return None
    return cancel.after.draw(rng)
