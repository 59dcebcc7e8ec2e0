"""Checks that this release of vLLM has what the HTTP front end touches, with any model."""

from longrope_plugin.compat.touch import Touch, resolve

from longrope_server.front_end.vllm_patches import engine_counts, prefill, refusal_texts, stumbling

KNOWN_TO_WORK = "0.31 to 0.33"

TOUCHES = (
    Touch(
        "vllm.logger",
        "configure_logging_from_args",
        "no `longrope serve`",
        "`vllm serve` can be called by its name in a program",
    ),
    *engine_counts.TOUCHES,
    *prefill.TOUCHES,
    *refusal_texts.TOUCHES,
    *stumbling.TOUCHES,
)


def check() -> None:
    """Resolves every touch. Raises RuntimeError, a sentence that names the first missing one."""
    for touch in TOUCHES:
        resolve(touch, KNOWN_TO_WORK)
