"""The profile, a YAML file: what is sent, when, and which results are good enough."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, NonNegativeInt, ValidationError, model_validator

from longrope_loadtest import text_files
from longrope_loadtest.errors import UsageError
from longrope_loadtest.profiles import yaml_numbers
from longrope_loadtest.profiles.arrivals import Arrivals, Closed, Trace
from longrope_loadtest.profiles.bounds import MOST, Amount, Count, PositiveAmount
from longrope_loadtest.profiles.distributions import Distribution, FilePath, Strict

ALL = "all"  # names the figures of all classes together
# Fields of the body that a class sets itself, and by what.
OWN_FIELDS = {
    "messages": "prompt",
    "prompt": "prompt",
    "max_tokens": "output_tokens",
    "max_completion_tokens": "output_tokens",
}
MOST_SEED = 2**63 - 1
Share = Annotated[float, Field(ge=0, le=1)]


class SharedPrefix(Strict):
    """A prefix that the share `hit_rate` of a class's requests have in common with earlier ones."""

    tokens: Count
    hit_rate: Share


class Words(Strict):
    """Random words, each a single token for most tokenizers; no two prompts begin alike."""

    kind: Literal["words"] = "words"
    tokens: Distribution
    shared_prefix: SharedPrefix | None = None
    ending: str = ""  # put after the words, for example a question


class TokenIds(Strict):
    """Random token ids from `first` to `last`, inclusive; only for `api: completions`."""

    kind: Literal["token_ids"]
    tokens: Distribution
    first: NonNegativeInt = 1000
    last: Annotated[NonNegativeInt, Field(le=MOST)] = 20000
    shared_prefix: SharedPrefix | None = None

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.last <= self.first:
            raise ValueError(f"last ({self.last}) is not above first ({self.first})")
        return self


class Passkey(Strict):
    """A number hidden among the papers' sentences, and a question; right answers are counted."""

    kind: Literal["passkey"]
    tokens: Distribution
    depth: Distribution = Field(  # where it is: 0 at the beginning, 1 at the end
        default={"kind": "uniform", "min": 0, "max": 1}, validate_default=True
    )


class Talk(Strict):
    """What all conversations have."""

    think: Distribution = Field(default=0, validate_default=True)  # seconds before a later turn
    history: Literal["answer", "reasoning_and_answer"] = "answer"  # what is sent back


class OwnPrompts(Talk):
    """Prompts from a JSON Lines file, in its order and from its beginning again."""

    kind: Literal["file"]
    path: FilePath
    by_turn: bool = False  # a line's user messages are turns, with the model's own answers between

    @model_validator(mode="after")
    def _turns_think(self) -> Self:
        for name in ("think", "history"):
            if name in self.model_fields_set and not self.by_turn:
                raise ValueError(f"{name} needs by_turn: true")
        return self


class Replay(Strict):
    """Recorded bodies from a JSON Lines file, sent as they are, in its order and over again."""

    kind: Literal["replay"]
    path: FilePath


class Conversation(Talk):
    """Turns that each send the whole history, with the model's own answers in it.

    The request class's arrivals begin conversations. A turn that is not answered ends its own.
    """

    kind: Literal["conversation"]
    tokens: Distribution  # of the first message, random words
    growth: Distribution  # tokens of each later message
    turns: Distribution
    system: SharedPrefix | None = None  # a system prompt, and how many conversations share one
    context: Count | None = None  # the last turn's prompt and answer have at most so many


class Slo(Strict):
    """Service level objectives in seconds; `ttft` and `e2e` count from the intended time."""

    ttft: PositiveAmount | None = None
    tpot: PositiveAmount | None = None
    itl: PositiveAmount | None = None  # for every gap of the request
    e2e: PositiveAmount | None = None


class Cancel(Strict):
    """Cancels the share `share` of the requests after `after` seconds, unless they are done."""

    share: Share
    after: Distribution


class RequestClass(Strict):
    """One kind of request."""

    weight: PositiveAmount = 1
    arrivals: Arrivals | None = None  # its own; without them, it shares the profile's
    api: Literal["chat", "completions"] = "chat"
    stream: bool = True
    prompt: Annotated[
        Words | TokenIds | Passkey | Conversation | OwnPrompts | Replay,
        Field(discriminator="kind"),
    ]
    output_tokens: Distribution | None = None  # max_tokens; None for recorded bodies, which have it
    extra: dict[str, Any] = Field(default_factory=dict)  # more fields of the body
    cancel: Cancel | None = None
    timeout: PositiveAmount = 3600  # seconds for the whole request, with its retries
    stall: PositiveAmount = 600  # seconds without a byte after which the request fails
    slo: Slo | None = None

    def has_conversations(self) -> bool:
        """Whether the class's arrivals begin conversations."""
        prompt = self.prompt
        return prompt.kind == "conversation" or (prompt.kind == "file" and prompt.by_turn)

    @model_validator(mode="after")
    def _api_of_the_prompt(self) -> Self:
        if self.prompt.kind == "token_ids" and self.api == "chat":
            raise ValueError("prompt kind token_ids needs api: completions")
        if self.has_conversations() and self.api != "chat":
            raise ValueError("a conversation needs api: chat")
        return self

    @model_validator(mode="after")
    def _recorded_bodies_stay_as_they_are(self) -> Self:
        if self.prompt.kind != "replay":
            if self.output_tokens is None:
                raise ValueError("output_tokens is missing")
        elif self.output_tokens is not None or self.extra:
            raise ValueError(
                "prompt kind replay sends bodies as they are: leave out output_tokens and extra"
            )
        return self

    @model_validator(mode="after")
    def _weighs_among_others(self) -> Self:
        if "weight" in self.model_fields_set and self.arrivals is not None:
            raise ValueError(
                "weight shares out the profile's arrivals, and this class has arrivals of its own: "
                "leave out one of them"
            )
        return self

    @model_validator(mode="after")
    def _extra_contradicts_nothing(self) -> Self:
        if self.extra.get("stream", self.stream) is not self.stream:
            raise ValueError("extra has stream: set the class's own stream instead")
        for name, own in OWN_FIELDS.items():
            if name in self.extra:
                raise ValueError(f"extra has {name}: set the class's own {own} instead")
        try:
            json.dumps(self.extra, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"extra must be what JSON can say: {error}") from error
        return self

    @model_validator(mode="after")
    def _times_of_tokens_need_a_stream(self) -> Self:
        if (name := self.time_of_tokens()) is not None and not self.stream:
            raise ValueError(f"slo.{name} needs stream: true")
        return self

    def time_of_tokens(self) -> str | None:
        """The first objective that only a streamed answer shows; None without any."""
        names = ("ttft", "tpot", "itl") if self.slo is not None else ()
        return next((name for name in names if getattr(self.slo, name) is not None), None)


class Profile(Strict):
    """A load: its classes, their arrivals, and the objectives."""

    description: str = ""
    seed: Annotated[NonNegativeInt, Field(le=MOST_SEED)] = 0
    arrivals: Arrivals | None = None
    warm_up: Amount = 0  # seconds at the beginning; their requests are not counted
    classes: dict[str, RequestClass] = Field(min_length=1)
    retries: NonNegativeInt = 0  # after 429 and 503, as Retry-After says
    attainment: Share = 0.99  # share of requests that must meet their objectives

    @model_validator(mode="after")
    def _all_arrive(self) -> Self:
        if ALL in self.classes:
            raise ValueError(
                f"a class may not be named {ALL}: that is the name of all classes together"
            )
        without = list(self.shared_classes())
        if self.arrivals is None and without:
            raise ValueError(f"class {without[0]} has no arrivals, and the profile has none")
        if self.arrivals is not None and not without:
            raise ValueError("every class has arrivals of its own: the profile's would be unused")
        for arrivals, classes in self.streams():
            for name, request_class in classes.items():
                if isinstance(arrivals, Trace) and request_class.has_conversations():
                    raise ValueError(
                        f"class {name} has conversations, but a trace has the lengths of single "
                        "requests: give the class arrivals of another kind"
                    )
        return self

    def shared_classes(self) -> dict[str, RequestClass]:
        """The classes that share the profile's arrivals."""
        return {
            name: request_class
            for name, request_class in self.classes.items()
            if request_class.arrivals is None
        }

    def streams(self) -> list[tuple[Arrivals, dict[str, RequestClass]]]:
        """Each arrival process with the classes that it serves."""
        own = [
            (request_class.arrivals, {name: request_class})
            for name, request_class in self.classes.items()
            if request_class.arrivals is not None
        ]
        if self.arrivals is None:
            return own
        return [(self.arrivals, self.shared_classes()), *own]

    def is_open(self) -> bool:
        """Whether no arrival process waits for answers."""
        return not any(isinstance(arrivals, Closed) for arrivals, _ in self.streams())


def load(path: Path) -> Profile:
    """Read and check a profile; a trace's path is relative to the profile.

    Raises:
        UsageError: The file cannot be read or a field is wrong; the message names file and field.
    """
    text = text_files.read(path)
    try:
        content = yaml_numbers.load(text)
    except RecursionError:
        raise UsageError(f"{path} is nested too deeply.") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"{path} is not YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path} must have fields (classes, arrivals, ...) at its top.")
    try:
        profile = Profile.model_validate(content)
    except ValidationError as error:
        raise UsageError(f"{path}: {sentence_of(error)}.") from error
    return profile


def sentence_of(error: ValidationError) -> str:
    """What is wrong with the first wrong field, without a full stop."""
    first = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    more = error.error_count() - 1
    also = f" (and {more} more)" if more else ""
    message = first["msg"].removeprefix("Value error, ")
    given = first["input"]
    said = f", not {given!r}" if isinstance(given, str | int | float) else ""
    return f"{where + ': ' if where else ''}{message}{said}{also}"
