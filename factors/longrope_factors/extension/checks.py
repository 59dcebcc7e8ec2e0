"""What a step's check measures: perplexity on texts that nothing else read, and facts found."""

import math
from functools import partial
from pathlib import Path

from longrope_factors.evaluating import evaluation, measuring
from longrope_factors.evaluating.contenders import OWN, Served, planned
from longrope_factors.extension.recipe import Recipe, RetrievalSection
from longrope_factors.factor_file import model_directory, schema
from longrope_factors.factor_file.schema import FactorSet
from longrope_factors.finetuning.output import FACTORS
from longrope_factors.models import loading, texts


def perplexities(
    recipe: Recipe,
    model_dir: Path,
    sets: dict[str, FactorSet],
    length: int,
    results: Path,
    adapters: Path | None = None,
) -> dict[str, float]:
    """Geometric mean of the held-out texts' perplexities, by set, on `length` tokens or fewer.

    A set's adapter is in the folder `adapters`. Each measurement is kept in the file `results` and
    not made again.
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
    load = partial(loading.load, model_dir, machine.device, machine.dtype)
    found = measuring.run(wanted, results, evaluation.Evaluation, load)
    by_name: dict[str, list[float]] = {name: [] for name in sets}
    for each in found:
        by_name[each.method].append(math.log(each.perplexity))
    return {name: math.exp(sum(logs) / len(logs)) for name, logs in by_name.items()}


def retrieval(recipe: Recipe, asked: RetrievalSection) -> dict[str, float]:
    """The shares of facts that the finished model finds at each set's length, and at a short one.

    Results are kept in the output folder's `retrieval.jsonl`, for `evaluate report` as well.
    """
    from transformers import AutoTokenizer

    from longrope_factors.evaluating.retrieval import filler, scores, tasks
    from longrope_factors.evaluating.retrieval.measurement import (
        Material,
        measurements,
        short_length,
    )
    from longrope_factors.evaluating.retrieval.prompts import Prompts
    from longrope_factors.evaluating.retrieval.results import Asking

    machine, model_dir = recipe.machine, recipe.output / "model"
    chosen = [tasks.named(name) for name in asked.tasks]
    original = model_directory.identity_of(model_dir).original_max_position_embeddings
    ends = {each.max_length for each in schema.load(model_dir / FACTORS).sets}
    served = planned(model_dir, [OWN], None, sorted({short_length(original), *ends}))
    prompts = Prompts(AutoTokenizer.from_pretrained(model_dir), asked.form)
    books = filler.of_books(list(recipe.held_out[1:]))
    material = Material(prompts, books, asked.facts, recipe.finetune.seed or 0)
    weights_sha256 = model_directory.weights_sha256(model_dir)
    wanted = measurements(material, weights_sha256, machine.dtype, chosen, served, asked.documents)
    load = partial(loading.load, model_dir, machine.device, machine.dtype)
    found = measuring.run(wanted, recipe.output / "retrieval.jsonl", Asking, load)
    return {f"{length}": share for length, share in scores.averages(found).items()}
