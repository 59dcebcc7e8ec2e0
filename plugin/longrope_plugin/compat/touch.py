"""A private name of vLLM's: looked up, or put in another's place.

Names are resolved on use, because `longrope_plugin.register` must be cheap.
"""

import functools
import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

KNOWN_TO_WORK = "0.24 to 0.33"


@dataclass(frozen=True)
class Touch:
    """A name of vLLM's that is not public.

    name: dotted, from the module; after a colon, an attribute that the function must set or use.
    why: what breaks without it. until: when the touch can go.
    """

    module: str
    name: str
    why: str
    until: str


def resolve(touch: Touch, known_to_work: str = KNOWN_TO_WORK) -> Any:
    """The object of the touch's dotted name, its attribute after the colon verified."""
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
    """Puts what `wrapped` makes of a function of vLLM's in its place, once."""
    original = resolve(touch)
    if hasattr(original, "longrope"):
        return
    owner: Any = importlib.import_module(touch.module)
    *parts, name = touch.name.partition(":")[0].split(".")
    for part in parts:
        owner = getattr(owner, part)
    replacement: Any = functools.wraps(original)(wrapped(original))
    replacement.longrope = True
    setattr(owner, name, replacement)
