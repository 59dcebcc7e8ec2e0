"""Looks up a private name of vLLM's, or replaces what it stands for.

Names are resolved on use, because `longrope_plugin.register` must be cheap.
"""

import functools
import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

KNOWN_TO_WORK = "0.24 to 0.33"

# When touches can go.
PUBLIC_SCHEDULER = "vLLM's scheduler has a hook for per-request state"
PUBLIC_POSITIONS = "vLLM lets a plug-in choose the rotation of each request (PR #39745)"


@dataclass(frozen=True)
class Touch:
    """A name of vLLM's that is not public.

    name: the dotted name within the module; after a colon, an attribute that the function must set
    or use. why: what breaks without it. until: when the touch can go.
    """

    module: str
    name: str
    why: str
    until: str


def resolve(touch: Touch, known_to_work: str = KNOWN_TO_WORK) -> Any:
    """The object with the touch's dotted name; the attribute after the colon is checked.

    Raises RuntimeError, a sentence, if this release of vLLM lacks either.
    """
    path, _, attribute = touch.name.partition(":")
    try:
        value: Any = importlib.import_module(touch.module)
        for part in path.split("."):
            value = getattr(value, part)
        if attribute and attribute not in inspect.unwrap(value).__code__.co_names:
            raise AttributeError(attribute)
    except (ImportError, AttributeError) as error:
        from vllm.version import __version__ as version

        raise RuntimeError(
            f"longrope needs {touch.module}.{touch.name}, which vLLM {version} does not have "
            f"(without it: {touch.why}). vLLM {known_to_work} is known to work."
        ) from error
    return value


def replace(touch: Touch, wrapped: Callable[[Any], Any]) -> None:
    """Replaces a function of vLLM's with what `wrapped` makes of it, once for each `wrapped`."""
    original = resolve(touch)
    layers = getattr(original, "longrope", ())
    if wrapped.__qualname__ in layers:
        return
    owner: Any = importlib.import_module(touch.module)
    *parts, name = touch.name.partition(":")[0].split(".")
    for part in parts:
        owner = getattr(owner, part)
    replacement: Any = functools.wraps(original)(wrapped(original))
    replacement.longrope = (*layers, wrapped.__qualname__)
    setattr(owner, name, replacement)
