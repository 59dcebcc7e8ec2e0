"""`python -m bench.engine`: every figure of `make bench`, as tables and as JSON."""

import json
import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"

app = typer.Typer(add_completion=False)


@app.command()
def main(
    model: Annotated[Path, typer.Option(help="SmolLM2-135M's directory.")],
    factors: Annotated[Path, typer.Option(help="Its factor file.")],
    output: Annotated[Path | None, typer.Option("-o", help="Also write the figures here.")] = None,
    rounds: Annotated[int, typer.Option(help="Pairs of rounds for engine throughput.")] = 40,
    skip_engine: Annotated[bool, typer.Option(help="Leave out engine throughput.")] = False,
) -> None:
    """Prints the rotary layer's time and memory and the engine's throughput, as ratios."""
    from longrope_plugin import register

    from bench import adapters, rotary, throughput

    register()
    console = Console()
    figures: dict[str, object] = {"layer": rotary.measure(factors)}
    console.print(rotary.table(figures["layer"]))
    figures["bytes"] = rotary.measure_bytes(factors)
    console.print(rotary.bytes_table(figures["bytes"]))
    if not skip_engine:
        for name, eager in (("eager", True), ("compiled", False)):
            figure = throughput.measure(model, factors, rounds, eager)
            figures[f"throughput_{name}"] = figure
            console.print(throughput.line(name, figure))
            with tempfile.TemporaryDirectory() as folder:
                costs = adapters.measure(model, Path(folder), rounds, eager)
            figures[f"adapters_{name}"] = costs
            console.print(adapters.lines(name, costs))
    if output is not None:
        output.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    app()
