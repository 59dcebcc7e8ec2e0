"""Engine throughput on SmolLM2-135M: factor sets against vLLM's plain RoPE."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from longrope_factors.factor_file import hf
from longrope_factors.factor_file.schema import load

if TYPE_CHECKING:
    from vllm import LLM

REQUESTS, PROMPT_TOKENS, OUTPUT_TOKENS = 8, 128, 24

# The compared engines share a GPU; by default, one would take nearly all of it.
_SHARE_OF_A_GPU = {"kv_cache_memory_bytes": 2**30, "gpu_memory_utilization": 0.1}


def measure(model: Path, factors: Path, rounds: int, eager: bool) -> dict[str, Any]:
    """Tokens a second of both engines, in alternating rounds of the same requests.

    Short requests, so that plain RoPE could serve them as well; no prefix is shared.
    """
    factor_file = load(factors)
    engines = {
        "longrope": engine(
            model,
            eager,
            max_model_len=factor_file.max_length,
            hf_overrides=hf.hf_overrides(factor_file, factors),
        ),
        "plain": engine(model, eager, max_model_len=8192),
    }
    return compared(engines, round_of_chats, rounds)


def compared(
    engines: dict[str, "LLM"], round_of: Callable[["LLM", int], float], rounds: int
) -> dict[str, Any]:
    """Figures of two engines in alternating rounds, and their ratios; `round_of` takes a seed.

    The first round of each engine is not counted.
    """
    ours, theirs = engines
    figures: dict[str, list[float]] = {name: [] for name in engines}
    for number in range(rounds + 1):
        order = list(engines.items())
        for name, llm in order if number % 2 else reversed(order):
            figure = round_of(llm, number)
            if number:
                figures[name].append(figure)
    ratios = [a / b for a, b in zip(figures[ours], figures[theirs], strict=True)]
    return {
        "figures": figures,
        "ratios": ratios,
        "ratio": statistics.median(ratios),
        "ratio_fastest": max(figures[ours]) / max(figures[theirs]),
    }


def engine(model: Path, eager: bool, **arguments: Any) -> "LLM":
    """vLLM on this model, without a prefix cache, for as many requests as a round has."""
    from vllm import LLM

    return LLM(
        model=str(model),
        enforce_eager=eager,
        max_num_seqs=REQUESTS,
        max_num_batched_tokens=2048,
        enable_prefix_caching=False,
        **(_SHARE_OF_A_GPU if torch.cuda.is_available() else {}),
        **arguments,
    )


def round_of_chats(llm: "LLM", seed: int) -> float:
    """Tokens a second of REQUESTS short requests at once, prompts and answers counted."""
    from vllm import SamplingParams, TokensPrompt

    prompts = [
        TokensPrompt(
            prompt_token_ids=[(seed * 7919 + i * 104729 + j * j) % 40000 + 100 for j in range(n)]
        )
        for i, n in enumerate([PROMPT_TOKENS] * REQUESTS)
    ]
    params = SamplingParams(temperature=0, max_tokens=OUTPUT_TOKENS, ignore_eos=True)
    start = time.perf_counter()
    llm.generate(prompts, params, use_tqdm=False)
    return REQUESTS * (PROMPT_TOKENS + OUTPUT_TOKENS) / (time.perf_counter() - start)


def line(name: str, figure: dict[str, Any]) -> str:
    """One line for people."""
    ratios = figure["ratios"]
    return (
        f"Engine throughput, {name}: longrope / plain RoPE = {figure['ratio']:.3f}, the median of "
        f"{len(ratios)} pairs of rounds (from {min(ratios):.3f} to {max(ratios):.3f}); of the "
        f"fastest rounds {figure['ratio_fastest']:.3f}"
    )
