"""What a step's check measures: perplexity of factor sets on texts that nothing else read."""

import math
from functools import partial
from pathlib import Path

from longrope_factors import evaluation, loading, measuring, texts
from longrope_factors.contenders import Served
from longrope_factors.extension.recipe import Recipe
from longrope_factors.schema import FactorSet


def perplexities(
    recipe: Recipe, model_dir: Path, sets: dict[str, FactorSet], length: int, results: Path
) -> dict[str, float]:
    """Geometric mean of the held-out texts' perplexities on `length` tokens, by set.

    Each measurement is kept in the file `results` and not made again.
    """
    machine = recipe.machine
    read = texts.read(recipe.held_out, model_dir, length)
    weights_sha256 = loading.weights_sha256(model_dir)
    wanted = [
        evaluation.measurement(
            weights_sha256,
            machine.dtype,
            text,
            length,
            (length, length),
            Served(name, factor_set, None),
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
