"""Whether this release of vLLM has all that we touch."""

from longrope_plugin.compat import hooks, names
from longrope_plugin.compat.touch import resolve


def check() -> None:
    """Resolves every touch. Raises RuntimeError, a sentence, naming the first that is not there.

    It runs before a longrope model loads, so that a name that vLLM has changed is a sentence at
    start-up and never a wrong answer.
    """
    for touch in (*hooks.TOUCHES, *names.touches()):
        resolve(touch)
