"""Decides, once the engine's configuration is known, whether and how longrope takes part."""

from typing import TYPE_CHECKING

from longrope_factors.factor_file import hf

from longrope_plugin import adapters, arrivals
from longrope_plugin.compat import hooks
from longrope_plugin.compat.check import check
from longrope_plugin.kv_connectors import judgement
from longrope_plugin.selection import SETS, Selection

if TYPE_CHECKING:
    from vllm.config import VllmConfig

WORKER = "longrope_plugin.worker.LongRoPEWorker"
SCHEDULER = "longrope_plugin.scheduler.scheduler"

DRAFTS_WITHOUT_A_MODEL = ("ngram", "ngram_gpu", "suffix")


def configure(vllm_config: "VllmConfig") -> None:
    """Names our scheduler and worker if, and only if, the model is a longrope one.

    Raises ValueError, a sentence, for a configuration that could only be served wrongly.
    """
    selection = Selection.from_vllm_config(vllm_config)
    if selection is None:
        return
    check()
    for refusal in (
        _refuse_length,
        _refuse_foreign_classes,
        _refuse_draft_model,
        _refuse_split_prefill,
    ):
        refusal(vllm_config, selection)
    if vllm_config.cache_config.kv_offloading_size is None:  # else vLLM names the connector later
        judgement.check(vllm_config, selection)
    adapters.configure(vllm_config, selection)
    hooks.check_arrivals(arrivals.Served.from_vllm_config, arrivals.check)
    # The other processes compare it with what they read. It also enters the key under which vLLM
    # keeps compiled code, which depends on the number of sets.
    additional = vllm_config.additional_config or {}
    vllm_config.additional_config = {**additional, SETS: selection.digest}
    vllm_config.parallel_config.worker_cls = WORKER
    vllm_config.scheduler_config.scheduler_cls = SCHEDULER


def _refuse_length(vllm_config: "VllmConfig", selection: Selection) -> None:
    longest = selection.factor_file.max_length
    if selection.max_model_len > longest:
        raise ValueError(
            f"max_model_len is {selection.max_model_len}, but the largest factor set of "
            f"{selection.factor_file.model.name} covers {longest} tokens: set --max-model-len to "
            f"at most {longest} or serve a factor file with a larger set."
        )


def _refuse_foreign_classes(vllm_config: "VllmConfig", selection: Selection) -> None:
    for field, value, ours, default in (
        ("worker_cls", vllm_config.parallel_config.worker_cls, WORKER, "auto"),
        ("scheduler_cls", vllm_config.scheduler_config.scheduler_cls, SCHEDULER, None),
    ):
        if value not in (ours, default):
            raise ValueError(
                f"{field} is {value}, but a longrope model needs longrope's own: leave "
                f"--{field.replace('_', '-')} unset, or set VLLM_PLUGINS to a list without "
                "longrope to serve without per-request factor sets."
            )


def _refuse_draft_model(vllm_config: "VllmConfig", selection: Selection) -> None:
    speculative = vllm_config.speculative_config
    if speculative is None or speculative.method in DRAFTS_WITHOUT_A_MODEL:
        return
    draft = speculative.draft_model_config
    if draft and hf.is_longrope(draft.hf_text_config.to_dict()):
        raise ValueError(
            f"The draft model {draft.model} has a longrope configuration of its own, and drafts "
            "are not rotated by request: use a draft model without longrope, or n-gram drafts."
        )


def _refuse_split_prefill(vllm_config: "VllmConfig", selection: Selection) -> None:
    if vllm_config.parallel_config.prefill_context_parallel_size > 1:
        raise ValueError(
            "prefill_context_parallel_size is "
            f"{vllm_config.parallel_config.prefill_context_parallel_size}: a prefill split over "
            "ranks is not served with per-request factor sets; set it to 1."
        )
