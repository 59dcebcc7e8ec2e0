"""`longrope plan`: prints what a model needs, and whether and how it fits on GPUs."""

import dataclasses
import importlib.util
import json
import os
from typing import Annotated, Any

import typer
from longrope_factors.factor_file import hf, hub
from longrope_factors.factor_file.errors import FactorFileError
from longrope_factors.factor_file.schema import FactorFile
from rich.console import Console

from longrope_server.errors import UsageError
from longrope_server.plan import adapters, attention, gpus, kv_cache, model_shape, show
from longrope_server.plan.fitting import Fitting
from longrope_server.plan.kv_cache import KvCache
from longrope_server.plan.planner import Planner
from longrope_server.plan.serve_line import Served
from longrope_server.plan.weights import Weights, precision_of
from longrope_server.serve import command
from longrope_server.serve.arguments import Arguments

UTILISATION = 0.4
WIDTH = 100  # columns at least; with fewer, rich would cut numbers off

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def plan(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A directory with config.json, or a hub name.")
    ],
    factors: Annotated[
        str | None, typer.Option(metavar="FILE", help="A factor file, or a name in the library.")
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[:N]",
            help="Kind of GPU, and the number in each machine. Known kinds: "
            f"{', '.join(kind.name for kind in gpus.GPUS)}; "
            "name any other by its memory, such as 47.5GiB.",
        ),
    ] = None,
    nodes: Annotated[
        int, typer.Option(min=1, help="Number of machines; several form a Ray cluster.")
    ] = 1,
    kv_dtype: Annotated[
        str, typer.Option(help=f"Type of the KV cache: {', '.join(kv_cache.ELEMENT_BYTES)}.")
    ] = "auto",
    utilisation: Annotated[
        float, typer.Option(min=0.01, max=1, help="Share of a GPU's peak that a prompt reaches.")
    ] = UTILISATION,
    gpu_memory_utilization: Annotated[
        float, typer.Option(min=0.01, max=1, help="Share of a GPU's memory that vLLM takes.")
    ] = 0.9,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Print the memory, time and GPUs that MODEL needs at the length of each factor set.

    Only its config.json is read. The exit status is 1 if the served length, that of the largest
    factor set, does not fit on the GPUs of --gpu. docs/planning.md has the formulas and their
    limits.
    """
    cluster = _cluster(gpu, nodes, utilisation)
    element_bytes = kv_cache.element_bytes(kv_dtype)
    if cluster is not None:
        attention.check(cluster.gpu, kv_dtype, element_bytes)
    config = _config(model)
    try:
        shape = model_shape.from_config(config)
        weights = Weights(shape, precision_of(config))
        window = hf.served_window(config)
    except (UsageError, FactorFileError) as error:
        raise UsageError(f"{model}: {error}") from None
    kv_cache.check(kv_dtype, weights.precision)
    factor_file = _factor_file(config, model, factors)
    planner = Planner(
        served=Served(
            model,
            factors,
            kv_dtype,
            gpu_memory_utilization,
            trust_remote_code=model_shape.is_read_by_its_own_code(config),
        ),
        fitting=Fitting(
            weights,
            KvCache(shape, element_bytes),
            gpu_memory_utilization,
            adapters.of(shape, factor_file),
        ),
        served_tokens=factor_file.max_length if factor_file else window,
        cluster=cluster,
        utilisation=utilisation,
    )
    sets = factor_file.sets if factor_file else ()
    made = planner.plan([factor_set.max_length for factor_set in sets])
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(made), indent=2))
    else:
        console = Console(markup=False, emoji=False, highlight=False)
        console.width = max(WIDTH, console.width)
        show.show(made, console)
    if made.served.does_not_fit:
        raise typer.Exit(1)


def _cluster(gpu: str | None, nodes: int, utilisation: float) -> gpus.Cluster | None:
    if gpu is not None:
        return gpus.parse(gpu, nodes)
    for flag, given in (("nodes", nodes != 1), ("utilisation", utilisation != UTILISATION)):
        if given:
            raise UsageError(f"--{flag} is given without --gpu: name the GPUs too.")
    return None


def _config(model: str) -> dict[str, Any]:
    """The model's config.json, found as `longrope serve` finds it."""
    if not os.path.isdir(model) and importlib.util.find_spec("huggingface_hub") is None:
        raise UsageError(f"{model} is not a directory here, and huggingface_hub is not installed.")
    config = command.served_config(model, Arguments([]))
    if config is None:
        raise UsageError(f"{model} is neither a directory with a config.json nor a hub name.")
    return config


def _factor_file(config: dict[str, Any], model: str, factors: str | None) -> FactorFile | None:
    """The factor file that `longrope serve` would serve the model with, checked against it."""
    named = hf.named_file(config)
    directory = hub.base_dir(model, named)
    if factors is not None:
        path = command.factors_path(factors)
        return hf.base(config, model, directory).load(path)
    if named is not None or hf.is_longrope(config):
        return hf.from_config(config, directory)
    return None
