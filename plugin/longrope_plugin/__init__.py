"""Runs inside vLLM and rotates every request with the factor set that fits its own length."""

from typing import Any


def register() -> None:
    """Entry point of `vllm.general_plugins`; vLLM calls it in every process, more than once.

    Cheap and idempotent. It only makes vLLM's configuration call `config.configure`, which attaches
    everything else if the model is a longrope one.
    """
    from longrope_plugin.compat.hooks import hook_configuration

    hook_configuration(_configure)


def _configure(vllm_config: Any) -> None:
    from longrope_plugin.config import configure

    configure(vllm_config)
