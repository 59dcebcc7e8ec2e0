"""The cost of a factor set's adapter: against merged weights, and for chats without an adapter."""

import json
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from longrope_factors.factor_file import hf, methods, model_directory, weight_files
from longrope_factors.factor_file.schema import Adapter, FactorFile, build, save
from safetensors.torch import load_file, save_file

from bench.throughput import compared, engine, round_of_chats

if TYPE_CHECKING:
    from vllm import LLM

RANK, ALPHA = 16, 32
CHATS, LENGTH = 1024, 16384  # tokens that the set without an adapter covers, and that with it
PROMPT_TOKENS = 4096
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def measure(model: Path, folder: Path, rounds: int, eager: bool) -> dict[str, dict[str, Any]]:
    """Ratios of speed, in alternating rounds of three engines; model files are put into `folder`.

    `prefill`: a prompt of PROMPT_TOKENS tokens under a rank-16 adapter on all linear layers, over
    the same with merged weights: time. `chats`: requests of the set without an adapter, over an
    engine without any: tokens a second.
    """
    merged = folder / "merged"
    plain = _factor_file(model, None)
    adapted = _factor_file(model, _write_adapter(model, folder, merged))

    def started(directory: Path, factor_file: FactorFile, name: str) -> "LLM":
        path = folder / name
        save(factor_file, path)
        overrides = hf.hf_overrides(factor_file, path)
        return engine(directory, eager, max_model_len=LENGTH, hf_overrides=overrides)

    engines = {
        "adapter": started(model, adapted, "adapted.json"),
        "plain": started(model, plain, "plain.json"),
        "merged": started(merged, plain, "merged.json"),
    }

    def alternated(
        other: str, round_of: Callable[["LLM", int], float], count: int
    ) -> dict[str, Any]:
        pair = {name: engines[name] for name in ("adapter", other)}
        return compared(pair, round_of, count)

    return {
        "prefill": alternated("merged", _prefill, max(rounds // 4, 1)),
        "chats": alternated("plain", round_of_chats, rounds),
    }


def lines(name: str, figures: dict[str, dict[str, Any]]) -> str:
    """Two lines for people."""
    prefill, chats = figures["prefill"]["ratios"], figures["chats"]["ratios"]
    return (
        f"{PROMPT_TOKENS:,} tokens of prompt, {name}: time with a rank-{RANK} adapter / with "
        f"merged weights = {statistics.median(prefill):.3f}, the median of {len(prefill)} pairs of "
        f"rounds (from {min(prefill):.3f} to {max(prefill):.3f})\n"
        f"Chats beside an adapter of another set, {name}: tokens a second / without any adapter = "
        f"{statistics.median(chats):.3f}, the median of {len(chats)} pairs (from {min(chats):.3f} "
        f"to {max(chats):.3f})"
    )


def _factor_file(model: Path, adapter: Adapter | None) -> FactorFile:
    identity = model_directory.identity_of(model)
    short = methods.factor_set("original", identity, identity.original_max_position_embeddings)
    long = methods.factor_set("yarn", identity, LENGTH)
    sets = (
        short.model_copy(update={"max_length": CHATS}),
        long.model_copy(update={"adapter": adapter}),
    )
    return build(identity, sets)


def _write_adapter(model: Path, folder: Path, merged: Path) -> Adapter:
    """Random matrices for all linear layers, beside a copy of the model that has them merged."""
    shutil.copytree(model, merged)
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for path in model_directory.weights(merged):
        weights = load_file(path)
        for name, weight in weights.items():
            module = name.removesuffix(".weight")
            if module.rpartition(".")[2] in TARGETS:
                out, into = weight.shape
                a = torch.randn(RANK, into, generator=generator) * into**-0.5
                b = torch.randn(out, RANK, generator=generator) * 0.01
                tensors[f"base_model.model.{module}.lora_A.weight"] = a
                tensors[f"base_model.model.{module}.lora_B.weight"] = b
                weights[name] = (weight.float() + ALPHA / RANK * b @ a).to(weight.dtype)
        save_file(weights, path, {"format": "pt"})
    place = folder / "adapter"
    place.mkdir()
    save_file(tensors, place / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "target_modules": list(TARGETS)}
    (place / "adapter_config.json").write_text(json.dumps(config))
    return Adapter(
        folder=place.name,
        sha256=weight_files.sha256([place / "adapter_model.safetensors"]),
        rank=RANK,
        scale=ALPHA / RANK,
        base_sha256=model_directory.weights_sha256(model),
    )


def _prefill(llm: "LLM", seed: int) -> float:
    """Seconds from a prompt to its first token."""
    from vllm import SamplingParams, TokensPrompt

    tokens = [(seed * 7919 + j * j) % 40000 + 100 for j in range(PROMPT_TOKENS)]
    start = time.perf_counter()
    params = SamplingParams(temperature=0, max_tokens=1)
    llm.generate(TokensPrompt(prompt_token_ids=tokens), params, use_tqdm=False)
    return time.perf_counter() - start
