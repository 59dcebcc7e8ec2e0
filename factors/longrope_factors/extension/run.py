"""A recipe from its first step to its result."""

from collections.abc import Iterator

from longrope_factors.extension.recipe import Recipe
from longrope_factors.extension.result import assemble
from longrope_factors.extension.steps import Checked, Extension
from longrope_factors.factor_file import schema
from longrope_factors.factor_file.errors import UsageError
from longrope_factors.models import compute


def run(recipe: Recipe, until: str | None = None) -> Iterator[Checked]:
    """Run the recipe up to the step named `until`, giving each when it is done and checked.

    Every step keeps what it did: a recipe that was killed anywhere goes on there when it is run
    again. It ends with a model directory that has every set that was found. Raises UsageError, one
    sentence, for a step that cannot run or whose check fails; the next one is not begun then.
    """
    if until not in (None, *recipe.steps):
        raise UsageError(f"--until {until} is none of the steps {', '.join(recipe.steps)}.")
    for checked in _run(recipe):
        yield checked
        if checked.name == until:
            return


def _run(recipe: Recipe) -> Iterator[Checked]:
    from longrope_factors.finetuning import output, progress, training

    compute.check_here(recipe.machine.device)
    extension = Extension(recipe)
    planned = extension.first_plan()
    settings = extension.finetune_settings()
    found = extension.run_search(planned, extension.first, None)
    yield extension.check_search("1-search", planned, found, extension.first)
    with progress.shown(settings) as watcher:
        training.run(settings, watcher)
    yield extension.check_finetune(found)
    # The same sets, with a note of how the weights were trained.
    found = schema.load(extension.finetuned / output.FACTORS)
    if recipe.target_length is not None:
        planned = extension.second_plan(found)
        found = extension.run_search(planned, extension.second, found)
        yield extension.check_search("3-second-search", planned, found, extension.second)
    long_sets = found
    for length in sorted(recipe.short_lengths):
        planned = extension.short_plan(length, long_sets)
        folder = recipe.output / f"4-short-{length}"
        found = extension.run_search(planned, folder, found)
        yield extension.check_search(f"4-short-{length}", planned, found, folder)
    assemble(extension.tuned_model, found, extension.finetuned, extension.model)
    checked = extension.check_retrieval()
    if checked is not None:
        yield checked
