"""The requests' bodies: made before the run and kept in a file, so that a run only sends them."""

import hashlib
import json
import mmap
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from longrope_loadtest.errors import UsageError
from longrope_loadtest.profiles.own_prompts import CONTENT
from longrope_loadtest.profiles.planned import Plan, Planned
from longrope_loadtest.profiles.profile import Passkey, Profile, RequestClass, Words
from longrope_loadtest.profiles.prompts import messages_of, text_of, token_ids_of

PATHS = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}


def body_of(planned: Planned, request_class: RequestClass, model: str, seed: int) -> bytes:
    """The JSON body of a request; that of a turn has only the messages that the turn adds."""
    line = planned.line
    if line is not None and request_class.prompt.kind == "replay":
        return line.text.encode()
    body: dict[str, object] = {"model": model, **_prompt(planned, request_class, seed)}
    if line is None or line.output_tokens is None:
        body["max_tokens"] = planned.output_tokens
    body["stream"] = request_class.stream
    if request_class.stream:
        body["stream_options"] = {"include_usage": True}
    body |= request_class.extra
    if line is not None:
        body |= line.fields
    return json.dumps(body, separators=(",", ":")).encode()


def _prompt(planned: Planned, request_class: RequestClass, seed: int) -> dict[str, object]:
    prompt = request_class.prompt
    if planned.line is not None:
        name = CONTENT[request_class.api]
        return {name: planned.line.fields[name]}
    if prompt.kind == "conversation":
        return {"messages": messages_of(planned, seed)}
    if prompt.kind == "token_ids":
        return {"prompt": token_ids_of(planned, prompt, seed)}
    assert isinstance(prompt, Words | Passkey)
    text = text_of(planned, prompt, seed)
    if request_class.api == "chat":
        return {"messages": [{"role": "user", "content": text}]}
    return {"prompt": text}


class Bodies:
    """Every body of a plan, and the hash of all that will be sent."""

    def __init__(self, content: mmap.mmap, ends: list[int], sha256: str) -> None:
        self._content = content
        self._ends = ends
        self.sha256 = sha256  # of each request's method, path and body, by number

    def of(self, number: int) -> memoryview:
        """The body of a request."""
        begin = self._ends[number - 1] if number else 0
        return memoryview(self._content)[begin : self._ends[number]]


@contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"The requests cannot be kept in {tempfile.gettempdir()}: {error.strerror}; TMPDIR "
            "should be a directory with room for all of them."
        ) from error


@contextmanager
def made(
    plan: Plan, profile: Profile, model: str, seed: int, progress: Callable[[int], None]
) -> Iterator[Bodies]:
    """Make every body; `progress` is called with the number of bodies made so far.

    Raises:
        UsageError: The directory of temporary files has no room for them.
    """
    sha256 = hashlib.sha256()
    ends: list[int] = []
    with tempfile.TemporaryFile() as file:
        for planned in plan:
            request_class = profile.classes[planned.class_name]
            body = body_of(planned, request_class, model, seed)
            sha256.update(f"POST {PATHS[request_class.api]} {len(body)}\n".encode())
            sha256.update(body)
            with _room():
                file.write(body)
            ends.append(file.tell())
            progress(len(ends))
        with _room():
            file.flush()
        # Not closed here, because a request that is still being sent may hold a view.
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        yield Bodies(content, ends, sha256.hexdigest())
