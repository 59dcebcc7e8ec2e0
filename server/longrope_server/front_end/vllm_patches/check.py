"""Checks that this release of vLLM has what the HTTP front end touches, with any model."""

from longrope_plugin.compat.touch import Touch, resolve

from longrope_server.front_end.vllm_patches import prefill, refusal_texts, stumbling

KNOWN_TO_WORK = "0.31 to 0.33"

_BY_NAME = "`vllm serve` can be called by its name in a program"
TOUCHES = (
    Touch("vllm.logger", "configure_logging_from_args", "no `longrope serve`", _BY_NAME),
    Touch(
        "vllm.entrypoints.serve.utils.api_utils", "cli_env_setup", "no `longrope serve`", _BY_NAME
    ),
    *prefill.TOUCHES,
    *refusal_texts.TOUCHES,
    *stumbling.TOUCHES,
)


def check() -> None:
    """Resolves every touch. Raises RuntimeError, a sentence that names the first missing one."""
    for touch in TOUCHES:
        resolve(touch, KNOWN_TO_WORK)
