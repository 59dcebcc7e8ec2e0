"""Checks that this release of vLLM has every name that we touch."""

from longrope_plugin.compat import hooks, names
from longrope_plugin.compat.touch import resolve


def check() -> None:
    """Resolves every touch. Raises RuntimeError, a sentence that names the first missing one.

    It runs before a longrope model loads, so that a name that vLLM has changed stops the start-up
    with a sentence and never leads to a wrong answer.
    """
    for touch in (*hooks.TOUCHES, *names.touches()):
        resolve(touch)
