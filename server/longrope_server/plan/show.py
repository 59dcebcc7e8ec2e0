"""A plan as tables and sentences."""

from rich import box
from rich.console import Console
from rich.table import Table

from longrope_server.plan.document import GpuPlan, Length, Plan
from longrope_server.plan.fitting import USUAL_NODE, in_words
from longrope_server.plan.serve_line import FIRST
from longrope_server.plan.units import duration, operations, size

NOT_KNOWN = "-"


def show(plan: Plan, console: Console) -> None:
    """Prints the plan; sentences and command lines are not broken, so that they can be copied."""
    console.print(_model(plan))
    console.print(_lengths(plan))
    if plan.gpu is None:
        console.print(_fewest(plan))
    for sentence in sentences(plan):
        console.print(sentence, soft_wrap=True)
    for line in commands(plan):
        console.print(line, soft_wrap=True)


def sentences(plan: Plan) -> list[str]:
    """What has to be said in addition to the numbers."""
    said = []
    if plan.sliding_window is not None:
        said.append(
            f"{plan.windowed_layers} of {plan.layers} layers see {plan.sliding_window:,} tokens "
            "back and no further (sliding_window): their cache is bounded, and so is what they "
            "can use of a long prompt."
        )
    said += [length.does_not_fit for length in plan.lengths if length.does_not_fit]
    return said + plan.notes


def commands(plan: Plan) -> list[str]:
    """How to serve the longest length that fits and that the factor sets cover."""
    placed = [(length.tokens, length.placed) for length in plan.lengths if length.placed]
    served = [(tokens, request) for tokens, request in placed if request.commands]
    if not served:
        return []
    tokens, longest = served[-1]
    lines = [
        f"To serve up to {tokens:,} tokens, with {size(longest.spare_bytes)} to spare on the "
        f"fullest GPU and, of the host's memory, {size(longest.host_bytes)} a GPU for the token "
        f"ids of {longest.max_num_seqs} requests:"
    ]
    where = FIRST
    for command in longest.commands:
        if command.where != where:
            where = command.where
            lines.append(f"# {where}:")
        lines.append(command.line)
    return lines


def _model(plan: Plan) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    rows = {
        "model": f"{plan.model} ({plan.architecture})",
        "parameters": f"{plan.parameters:,}",
        "weights": f"{size(plan.weight_bytes)}; {plan.weights_assumed}",
        **(_adapters(plan) if plan.adapter_slots else {}),
        "KV cache": f"{size(plan.kv_bytes_per_token)} a token; --kv-dtype {plan.kv_dtype}",
        **(_gpu(plan, plan.gpu) if plan.gpu else {}),
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _adapters(plan: Plan) -> dict[str, str]:
    return {
        "adapters": f"{size(plan.adapter_bytes)}; room for {plan.adapter_slots} of rank "
        f"{plan.adapter_rank} on one GPU"
    }


def _gpu(plan: Plan, gpu: GpuPlan) -> dict[str, str]:
    machines = f" on {gpu.nodes} machines" if gpu.nodes > 1 else ""
    return {
        "GPUs": f"{gpu.nodes * gpu.per_node} x {gpu.name}{machines}; each "
        f"{size(gpu.memory_bytes)}{_speed(gpu)}",
        "assumed": f"{100 * gpu.memory_share:g}% of memory used, "
        f"{100 * gpu.utilisation:g}% of TFLOP/s reached by a prompt",
        "of each GPU": f"{size(gpu.activation_bytes)} activations at "
        f"{gpu.max_num_batched_tokens:,} tokens a step, {size(gpu.reserved_bytes)} reserved "
        "(twice with several)",
        "longest request": f"{plan.max_tokens_that_fit:,} tokens",
    }


def _speed(gpu: GpuPlan) -> str:
    if gpu.tflops is None or gpu.gigabytes_per_second is None:
        return "; their speed is not known here"
    return f", {gpu.tflops:,g} TFLOP/s, {gpu.gigabytes_per_second:,g} GB/s"


def _lengths(plan: Plan) -> Table:
    columns = ["tokens", "KV cache", "prompt", "attention"]
    if plan.gpu is not None:
        columns += ["GPUs", "TP", "PP", "DCP", "prefill", "ms/token", "at once"]
    table = _table(*columns)
    for length in plan.lengths:
        flops = length.linear_flops + length.attention_flops
        table.add_row(
            f"{length.tokens:,}",
            size(length.kv_bytes),
            operations(flops),
            f"{length.attention_flops / flops:.0%}",
            *(_placed(length) if plan.gpu else []),
        )
    return table


def _placed(length: Length) -> list[str]:
    if length.placed is None:
        return ["no fit"]
    placed, layout = length.placed, length.placed.layout
    prefill, token = placed.prefill_seconds, placed.decode_milliseconds
    return [
        f"{layout.gpus}",
        f"{layout.tp}",
        f"{layout.pp}",
        f"{layout.dcp}",
        NOT_KNOWN if prefill is None else duration(prefill),
        NOT_KNOWN if token is None else f"{token:,.1f}",
        f"{placed.requests_at_once}",
    ]


def _fewest(plan: Plan) -> Table:
    table = _table("GPU", f"fewest for {plan.served_tokens:,} tokens", "layout")
    for fewest in plan.fewest:
        if fewest.layout is None:
            table.add_row(fewest.gpu, "no number", "")
        else:
            words = in_words(fewest.layout, USUAL_NODE)
            table.add_row(fewest.gpu, f"{fewest.layout.gpus}", words)
    return table


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table
