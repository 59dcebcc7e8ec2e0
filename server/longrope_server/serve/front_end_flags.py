"""The flags of `longrope serve` that are for the pieces around vLLM's application."""

import math
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from longrope_factors.factor_file import numbers
from pydantic import ValidationError

from longrope_server.errors import UsageError
from longrope_server.front_end.settings import Settings, in_words
from longrope_server.keys import key_file
from longrope_server.keys.usage_ledger import UsageLedger
from longrope_server.serve.arguments import Arguments

DRAIN_SECONDS = 30
# After the drain time, until vLLM kills API processes that are still there: to tell clients that
# were cut off (SECONDS_TO_SAY_SO), to close connections (SECONDS_TO_CLOSE), and to exit.
SECONDS_TO_EXIT = 15
SEVERAL_SERVERS = ("--data-parallel-multi-port-external-lb", "-dpm")
# Our flags, with the field of Settings that each is for.
OURS = {
    "limits": "limits",
    "api-key-file": "key_file",
    "open-paths": "open_paths",
    "accounting": "accounting",
    "max-body-bytes": "body_bytes",
    "body-timeout": "body_seconds",
    "page": "page",
    "drain-timeout": "drain_seconds",
}


def take(arguments: Arguments, environment: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """Removes our flags; returns the settings, and the words that tell vLLM about them.

    Raises UsageError, a sentence, for a value that cannot be used.
    """
    given: dict[str, Any] = {}
    if limits := arguments.take_object("limits"):
        given["limits"] = limits
    if (file := arguments.take("api-key-file")) is not None:
        if arguments.peek("api-key") or environment.get("VLLM_API_KEY"):
            raise UsageError(
                "vLLM's own key (--api-key or VLLM_API_KEY) would be asked for beside one of "
                "--api-key-file, and no request can send both: leave it out."
            )
        has_priorities = arguments.peek("scheduling-policy") == "priority"
        key_file.load(Path(file), has_priorities)  # only for its errors
        given["key_file"] = str(Path(file).absolute())
    if (paths := arguments.take("open-paths")) is not None:
        given["open_paths"] = [path.strip() for path in paths.split(",")]
    if (directory := arguments.take("accounting")) is not None:
        UsageLedger(Path(directory)).close()  # makes it, before the processes that share it
        given["accounting"] = str(Path(directory).absolute())
    for flag in ("max-body-bytes", "body-timeout", "page"):
        if (value := arguments.take(flag)) is not None:
            given[OURS[flag]] = value
    given["drain_seconds"] = _drain_seconds(arguments)
    try:
        settings = Settings.model_validate(given)
    except ValidationError as error:
        raise UsageError(_with_flags(in_words(error))) from None
    if any(not path.startswith("/") for path in settings.open_paths):
        raise UsageError(f"--open-paths is {paths!r}; each of them should begin with '/'.")
    if settings.open_paths and settings.key_file is None:
        raise UsageError(
            "--open-paths lists the paths that need no key: it goes with --api-key-file."
        )
    shutdown = math.ceil(given["drain_seconds"]) + SECONDS_TO_EXIT
    return settings, ["--shutdown-timeout", str(shutdown)]


def refuse_other_front_ends(words: Sequence[str], environment: Mapping[str, str]) -> None:
    """Raises UsageError if vLLM would serve with a program that has none of our pieces.

    Also if it would start several servers, whose limits, keys and exit status are not one.
    """
    other = "--grpc" if _has_switch(words, "--grpc") else None
    if environment.get("VLLM_USE_RUST_FRONTEND", "0") not in ("", "0"):
        other = "VLLM_USE_RUST_FRONTEND"
    if other:
        raise UsageError(
            f"{other} chooses a front end without API keys, limits and draining: longrope serves "
            "with vLLM's Python front end only."
        )
    if _has_switch(words, *SEVERAL_SERVERS):
        raise UsageError(
            f"{SEVERAL_SERVERS[0]} starts a server for each port, which share no limits and do not "
            "hear of revoked keys: start `longrope serve` once for each port."
        )


def _has_switch(words: Sequence[str], flag: str, *short: str) -> bool:
    """Whether a flag without a value is given, in words or in a --config file."""
    if any(word.partition("=")[0].replace("_", "-") in (flag, *short) for word in words):
        return True
    return Arguments(list(words)).peek(flag.removeprefix("--")) == "True"


def _drain_seconds(arguments: Arguments) -> float:
    """What our flag says, or vLLM's: the time that running requests have."""
    given = {flag: arguments.take(flag) for flag in ("drain-timeout", "shutdown-timeout")}
    flags = [flag for flag, value in given.items() if value is not None]
    if len(flags) > 1:
        raise UsageError("--drain-timeout and --shutdown-timeout are the same: give one.")
    if not flags:
        return DRAIN_SECONDS
    value = str(given[flags[0]])
    seconds = numbers.real(value)
    if not 0 <= seconds <= threading.TIMEOUT_MAX:
        raise UsageError(f"--{flags[0]} is {value!r}; it should be a number of seconds.")
    return seconds


def _with_flags(sentence: str) -> str:
    """The sentence with the flags that the user knows in place of our fields' names."""
    for flag, field in OURS.items():
        if sentence.startswith(field):
            return f"--{flag}{sentence.removeprefix(field)}"
    return sentence
