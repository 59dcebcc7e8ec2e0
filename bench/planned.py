"""`python -m bench.planned`: what `longrope plan` says beside what vLLM then does.

On one GPU, with the length and the sizes of the plan's command line: the room for the cache, the
time of one prompt of that length, and of the tokens that follow it.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from longrope_factors.factor_file import hf, schema
from longrope_server.serve.command import factors_path
from rich.console import Console
from rich.table import Table

from bench.servers import OURS

OUTPUT_TOKENS = 33
GIB = 2**30
SAME_KIND = 0.03  # by which the memory of one kind's GPUs differs


@dataclass(frozen=True)
class Measured:
    """What the engine did. Bytes are all the memory of the GPU that is in use at the end."""

    kv_tokens: int
    prefill_seconds: float
    decode_milliseconds: float
    used_bytes: int
    runner: str


def main(
    model: Annotated[str, typer.Argument(help="Model, as for `longrope plan`.")],
    gpu: Annotated[str, typer.Option(help="Kind of this GPU, as for `longrope plan`.")],
    factors: Annotated[
        str | None, typer.Option(help="Factor file, as for `longrope plan`.")
    ] = None,
    length: Annotated[
        int | None,
        typer.Option(help="Length of a factor set. Default: that of the largest that fits."),
    ] = None,
    random_weights: Annotated[
        bool,
        typer.Option(
            "--random-weights", help="Use random weights: MODEL needs only a config.json."
        ),
    ] = False,
    output: Annotated[Path | None, typer.Option("-o", help="Also write the figures here.")] = None,
) -> None:
    """Print the cache, the prompt's time and a token's time, planned and measured."""
    import torch

    if not torch.cuda.is_available():
        sys.stderr.write("This compares a plan with a GPU, and there is none here.\n")
        raise typer.Exit(2)
    plan = _plan(model, gpu, factors)
    at = _length(plan, length)
    _check_kind(plan, torch.cuda.get_device_properties(0).total_memory)
    measured = _measure(model, factors, plan, at, random_weights)
    figures = _figures(plan, at, measured)
    Console(width=100).print(_table(torch.cuda.get_device_name(), figures))
    if output is not None:
        output.write_text(json.dumps({"plan": plan, "figures": figures}, indent=1) + "\n")


def _plan(model: str, gpu: str, factors: str | None) -> dict[str, Any]:
    words = ["plan", model, "--gpu", gpu, "--json", *(["--factors", factors] if factors else [])]
    done = subprocess.run([sys.executable, "-c", OURS, *words], stdout=subprocess.PIPE)
    if done.returncode not in (0, 1):  # 1: the largest set does not fit
        raise typer.Exit(done.returncode)
    plan: dict[str, Any] = json.loads(done.stdout)
    return plan


def _length(plan: dict[str, Any], tokens: int | None) -> dict[str, Any]:
    fitting = [length for length in plan["lengths"] if length["factor_set"] and length["placed"]]
    for length in reversed(fitting):
        if tokens in (None, length["tokens"]):
            chosen: dict[str, Any] = length
            return chosen
    known = ", ".join(str(length["tokens"]) for length in fitting) or "none"
    sys.stderr.write(f"--length is {tokens}; of the model's factor sets these fit: {known}.\n")
    raise typer.Exit(2)


def _check_kind(plan: dict[str, Any], memory_bytes: int) -> None:
    planned = plan["gpu"]["memory_bytes"]
    if abs(memory_bytes / planned - 1) > SAME_KIND:
        sys.stderr.write(
            f"--gpu is {plan['gpu']['name']}, of {planned / GIB:.1f} GiB; the GPU here has "
            f"{memory_bytes / GIB:.1f} GiB: name its kind.\n"
        )
        raise typer.Exit(2)


def _measure(
    model: str,
    factors: str | None,
    plan: dict[str, Any],
    at: dict[str, Any],
    random_weights: bool,
) -> Measured:
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    import torch
    from longrope_plugin import register
    from vllm import LLM, SamplingParams, TokensPrompt

    register()  # where the plug-in is not installed

    overrides = {}
    if factors is not None:
        path = factors_path(factors)
        overrides = hf.hf_overrides(schema.load(path), path)
    llm = LLM(
        model=model,
        hf_overrides=overrides,
        load_format="dummy" if random_weights else "auto",
        skip_tokenizer_init=True,
        max_model_len=at["tokens"],
        max_num_seqs=at["placed"]["max_num_seqs"],
        max_num_batched_tokens=plan["gpu"]["max_num_batched_tokens"],
        gpu_memory_utilization=plan["gpu"]["memory_share"],
        enable_prefix_caching=False,
        disable_log_stats=False,
    )

    def run(tokens: int) -> Any:
        prompt = [100 + 7919 * place % 20_000 for place in range(tokens - OUTPUT_TOKENS)]
        sampling = SamplingParams(
            temperature=0, ignore_eos=True, detokenize=False, max_tokens=OUTPUT_TOKENS
        )
        (result,) = llm.generate([TokensPrompt(prompt_token_ids=prompt)], sampling)
        return result.metrics

    run(min(at["tokens"], 2048))  # what is compiled at first use
    times = run(at["tokens"])
    cache = llm.llm_engine.vllm_config.cache_config
    free, total = torch.cuda.mem_get_info()
    runner = llm.llm_engine.engine_core.engine_core.model_executor.driver_worker.model_runner
    return Measured(
        kv_tokens=cache.num_gpu_blocks * cache.block_size,
        prefill_seconds=times.first_token_ts - times.scheduled_ts,
        decode_milliseconds=1e3
        * (times.last_token_ts - times.first_token_ts)
        / (OUTPUT_TOKENS - 1),
        used_bytes=total - free,
        runner="V2" if ".gpu.model_runner" in str(type(runner).__mro__) else "V1",
    )


def _figures(plan: dict[str, Any], at: dict[str, Any], measured: Measured) -> dict[str, Any]:
    flops = at["linear_flops"] + at["attention_flops"]
    rate = flops / measured.prefill_seconds
    return {
        "model": plan["model"],
        "tokens": at["tokens"],
        "runner": measured.runner,
        "kv_tokens": [plan["max_tokens_that_fit"], measured.kv_tokens],
        "prefill_seconds": [at["placed"]["prefill_seconds"], measured.prefill_seconds],
        "tflops_reached": [plan["gpu"]["utilisation"] * plan["gpu"]["tflops"], rate / 1e12],
        "decode_milliseconds": [at["placed"]["decode_milliseconds"], measured.decode_milliseconds],
        "used_bytes": measured.used_bytes,
    }


def _table(device: str, figures: dict[str, Any]) -> Table:
    title = f"{figures['model']} at {figures['tokens']:,} tokens, {device}, {figures['runner']}"
    table = Table("", "plan", "vLLM", "vLLM / plan", title=title)
    for label, name, form in (
        ("tokens that the cache holds", "kv_tokens", ",d"),
        ("prompt, seconds", "prefill_seconds", ",.2f"),
        ("prompt, TFLOP/s", "tflops_reached", ",.0f"),
        ("a token after it, ms", "decode_milliseconds", ",.2f"),
    ):
        planned, measured = figures[name]
        table.add_row(label, f"{planned:{form}}", f"{measured:{form}}", f"{measured / planned:.3f}")
    table.add_row("GiB of the GPU in use", "", f"{figures['used_bytes'] / GIB:.1f}", "")
    return table


if __name__ == "__main__":
    typer.run(main)
