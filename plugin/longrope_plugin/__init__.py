"""What runs inside vLLM: every request is rotated with the factor set that fits its own length."""

from typing import Any


def register() -> None:
    """Entry point of `vllm.general_plugins`: run in every vLLM process, more than once.

    Cheap and idempotent. It only makes vLLM's configuration ask us whether the model is a
    longrope one; everything else is attached by that answer (see `config`).
    """
    from longrope_plugin.compat.hooks import hook_configuration

    hook_configuration(_configure)


def _configure(vllm_config: Any) -> None:
    from longrope_plugin.config import configure

    configure(vllm_config)
