"""The checks after steps: perplexity on texts that nothing else reads, and retrieval of facts."""

import math
from pathlib import Path

from longrope_factors.evaluating import evaluation, measuring
from longrope_factors.evaluating.contenders import OWN, Served, planned
from longrope_factors.extension import inputs
from longrope_factors.extension.recipe import Recipe, RetrievalSection
from longrope_factors.factor_file import model_directory, schema
from longrope_factors.factor_file.schema import FactorSet
from longrope_factors.finetuning.output import FACTORS
from longrope_factors.models import texts


def perplexities(
    recipe: Recipe,
    model_dir: Path,
    sets: dict[str, FactorSet],
    length: int,
    results: Path,
    adapters: Path | None = None,
) -> dict[str, float]:
    """The geometric mean of the held-out texts' perplexities under each set, by name.

    Reads `length` tokens of each text, or the recipe's `check_length` if that is less. The folder
    `adapters` has the sets' adapters. Measurements are kept in the file `results` and not repeated.
    """
    machine = recipe.machine
    length = min(length, recipe.check_length or length)
    read = texts.read(recipe.held_out, model_dir, length)
    weights_sha256 = model_directory.weights_sha256(model_dir)
    wanted = [
        evaluation.measurement(
            weights_sha256,
            machine.dtype,
            text,
            length,
            (length, length),
            Served(
                name,
                factor_set,
                adapters / factor_set.adapter.folder if adapters and factor_set.adapter else None,
            ),
        )
        for text in read
        for name, factor_set in sets.items()
    ]
    results.parent.mkdir(parents=True, exist_ok=True)
    evaluations = measuring.run(
        wanted, results, evaluation.Evaluation, model_dir, machine.device, machine.dtype
    )
    by_name: dict[str, list[float]] = {name: [] for name in sets}
    for result in evaluations:
        by_name[result.method].append(math.log(result.perplexity))
    return {name: math.exp(sum(logs) / len(logs)) for name, logs in by_name.items()}


def retrieval(recipe: Recipe, asked: RetrievalSection) -> dict[str, float]:
    """The share of facts that the finished model finds, by length.

    The lengths are that of each set and a short one. Results are kept in the output folder's
    `retrieval.jsonl`, which `evaluate report` reads as well.
    """
    from longrope_factors.evaluating.retrieval import scores, tasks
    from longrope_factors.evaluating.retrieval.measurement import measurements, short_length
    from longrope_factors.evaluating.retrieval.results import Asking

    machine, model_dir = recipe.machine, recipe.output / "model"
    chosen = [tasks.named(name) for name in asked.tasks]
    original = model_directory.identity_of(model_dir).original_max_position_embeddings
    ends = {factor_set.max_length for factor_set in schema.load(model_dir / FACTORS).sets}
    served = planned(model_dir, [OWN], None, sorted({short_length(original), *ends}))
    material = inputs.retrieved(recipe, asked)
    weights_sha256 = model_directory.weights_sha256(model_dir)
    wanted = measurements(material, weights_sha256, machine.dtype, chosen, served, asked.documents)
    output = recipe.output / "retrieval.jsonl"
    askings = measuring.run(wanted, output, Asking, model_dir, machine.device, machine.dtype)
    return {f"{length}": share for length, share in scores.averages(askings).items()}
