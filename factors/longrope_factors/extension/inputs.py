"""Checks that a recipe's texts and model serve all of its steps, before the first of them."""

from longrope_factors.evaluating.retrieval import filler, tasks
from longrope_factors.evaluating.retrieval.measurement import Material as Retrieved
from longrope_factors.evaluating.retrieval.measurement import short_length
from longrope_factors.extension.recipe import Recipe, RetrievalSection
from longrope_factors.factor_file import model_directory
from longrope_factors.factor_file.errors import UsageError
from longrope_factors.finetuning import jobs
from longrope_factors.finetuning.jobs import Material
from longrope_factors.finetuning.settings import Settings as FinetuneSettings
from longrope_factors.models import texts, tokenizers
from longrope_factors.search import documents


def check(recipe: Recipe, finetune: FinetuneSettings) -> Material:
    """Read every text as the steps after the first search will; that search has read its own.

    Returns what the fine-tune reads. Raises UsageError, naming the text or the task, if one is too
    short or cannot be used, or is in the corpus and held out, and for a model that no training can
    extend.
    """
    original = model_directory.identity_of(recipe.model).original_max_position_embeddings
    longest = recipe.target_length or recipe.finetune_length
    if recipe.target_length is not None and recipe.space.windows_of is None:
        corpus = texts.read(recipe.corpus, recipe.model, longest)
        documents.windows(corpus, longest, recipe.space.windows)
    least = min(longest, recipe.check_length or longest)
    held_out = texts.read(recipe.held_out, recipe.model, least)
    material = jobs.material(finetune, original)
    for path, text in zip(recipe.held_out, held_out, strict=True):
        if material.corpus.has(text.sha256):
            raise UsageError(
                f"{path}: has the content of a text of corpus; a text of held_out should be one "
                "that no step reads."
            )
    if recipe.retrieval is not None:
        asked = retrieved(recipe, recipe.retrieval)
        for name in recipe.retrieval.tasks:
            asked.fitted(tasks.named(name), short_length(original), 0)
    return material


def retrieved(recipe: Recipe, asked: RetrievalSection) -> Retrieved:
    """What the last check's documents are made from, for the model that the recipe extends."""
    from longrope_factors.evaluating.retrieval.prompts import Prompts

    prompts = Prompts(tokenizers.of(recipe.model), asked.form)
    books = filler.of_books(list(recipe.held_out[1:]))
    return Retrieved(prompts, books, asked.facts, recipe.finetune.seed or 0)
