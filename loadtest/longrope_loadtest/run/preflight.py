"""Checks before the load: the server is there, accepts our key, and has the model."""

import re
from dataclasses import dataclass

import httpx

from longrope_loadtest.errors import UsageError
from longrope_loadtest.profiles.planned import Plan
from longrope_loadtest.run.answers import writable
from longrope_loadtest.run.direct import direct

SECONDS = 10


@dataclass(frozen=True)
class ServedModel:
    """A model that a server lists; `max_tokens` is None if the server does not state it."""

    name: str
    max_tokens: int | None


def served_model(url: str, key: str | None, name: str | None) -> ServedModel:
    """The model `name` of the server at `url`, or its first model.

    Raises:
        UsageError: The key cannot be sent, the address is none, or the server cannot be reached,
            redirects, refuses the key, or has no such model.
    """
    if key and not re.fullmatch("[!-~]([ -~]*[!-~])?", key):
        raise UsageError(
            "The API key has a space or a line end around it, or a character outside ASCII: it "
            "should be the key alone, in LONGROPE_API_KEY or OPENAI_API_KEY."
        )
    _check_address(url)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        answer = httpx.get(f"{url}/v1/models", headers=headers, timeout=SECONDS, **direct())
    except httpx.TimeoutException as error:
        raise UsageError(f"The server at {url} did not answer within {SECONDS} s.") from error
    except httpx.HTTPError as error:
        raise UsageError(f"No server can be reached at {url}: {error}.") from error
    if answer.status_code in (401, 403):
        advice = "give another" if key else "give one"
        raise UsageError(
            f"The server at {url} asks for a key (status {answer.status_code}): {advice} in "
            f"LONGROPE_API_KEY or OPENAI_API_KEY."
        )
    if answer.has_redirect_location:
        raise UsageError(
            f"The server at {url} redirects /v1/models to {answer.headers['Location']}: the load "
            "follows no redirects, so --url should be the address that answers itself."
        )
    models = _models(answer)
    if models is None:
        if name is None:
            raise UsageError(
                f"The server at {url} lists no models (status {answer.status_code} from "
                f"/v1/models): say which with --model."
            )
        return ServedModel(name, None)
    if name is None:
        return models[0]
    for model in models:
        if model.name == name:
            return model
    have = ", ".join(model.name for model in models)
    raise UsageError(f"The server at {url} has no model {name}; it has {have}.")


def check_lengths(plan: Plan, model: ServedModel) -> None:
    """Check that the model can take every request of a plan.

    Raises:
        UsageError: It cannot take one; the message names class and lengths.
    """
    if model.max_tokens is None:
        return
    longest = max(plan, key=lambda planned: planned.prompt_tokens + planned.output_tokens)
    if longest.prompt_tokens + longest.output_tokens > model.max_tokens:
        raise UsageError(
            f"Class {longest.class_name} has a request of {longest.prompt_tokens} prompt and "
            f"{longest.output_tokens} output tokens; {model.name} takes {model.max_tokens} in all."
        )


def _check_address(url: str) -> None:
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise UsageError(f"{url!r} is not an address like http://127.0.0.1:8000.") from error
    if parts.userinfo or parts.query or parts.fragment:
        # Without the address: it is in the result too, where a password should not be.
        raise UsageError(
            "--url must be an address alone, like http://127.0.0.1:8000, without ?, # or a name "
            "and password."
        )
    if parts.scheme not in ("http", "https") or not parts.host:
        raise UsageError(f"{url!r} is not an address like http://127.0.0.1:8000.")


def _whole(length: object) -> int | None:
    return length if isinstance(length, int) and not isinstance(length, bool) else None


def _models(answer: httpx.Response) -> list[ServedModel] | None:
    try:
        return [
            ServedModel(writable(str(model["id"])), _whole(model.get("max_model_len")))
            for model in answer.json()["data"]
        ] or None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
