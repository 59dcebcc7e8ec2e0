"""Run a recipe from its first step to its result."""

from collections.abc import Iterator

from longrope_factors.extension.recipe import Recipe
from longrope_factors.extension.result import assemble
from longrope_factors.extension.steps import Checked, Extension
from longrope_factors.factor_file import schema
from longrope_factors.factor_file.errors import UsageError
from longrope_factors.models import compute


def run(recipe: Recipe, until: str | None = None) -> Iterator[Checked]:
    """Run the recipe up to the step named `until`; yields each step once it is done and checked.

    Every step saves its progress, so a recipe that was killed resumes where it stopped when it is
    run again. The result is a model directory with every set that was found. Raises UsageError, one
    sentence, if a step cannot run or its check fails; the next step is not started then.
    """
    if until not in (None, *recipe.steps):
        raise UsageError(f"--until {until} is not one of the steps {', '.join(recipe.steps)}.")
    for checked in _run(recipe):
        yield checked
        if checked.name == until:
            return


def _run(recipe: Recipe) -> Iterator[Checked]:
    from longrope_factors.extension import inputs
    from longrope_factors.finetuning import output, progress, training

    compute.check_here(recipe.machine.device)
    extension = Extension(recipe)
    planned = extension.first_plan()
    settings = extension.finetune_settings()
    material = inputs.check(recipe, settings)
    factor_file = extension.run_search(planned, extension.first, None)
    yield extension.check_search("1-search", planned, factor_file, extension.first)
    with progress.shown(settings) as watcher:
        training.run(settings, watcher, material)
    yield extension.check_finetune(factor_file)
    # The same sets, whose provenance now says how the weights were trained.
    factor_file = schema.load(extension.finetuned / output.FACTORS)
    if recipe.target_length is not None:
        planned = extension.second_plan(factor_file)
        factor_file = extension.run_search(planned, extension.second, factor_file)
        yield extension.check_search("3-second-search", planned, factor_file, extension.second)
    long_sets = factor_file
    for length in sorted(recipe.short_lengths):
        planned = extension.short_plan(length, long_sets)
        folder = recipe.output / f"4-short-{length}"
        factor_file = extension.run_search(planned, folder, factor_file)
        yield extension.check_search(f"4-short-{length}", planned, factor_file, folder)
    assemble(extension.tuned_model, factor_file, extension.finetuned, extension.model)
    checked = extension.check_retrieval()
    if checked is not None:
        yield checked
