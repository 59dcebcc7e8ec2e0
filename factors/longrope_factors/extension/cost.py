"""The cost of a recipe in floating-point operations, computed before anything runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from longrope_factors.evaluating.retrieval.tasks import named
from longrope_factors.extension.recipe import Recipe
from longrope_factors.factor_file import hf_fields
from longrope_factors.factor_file.architectures import completed
from longrope_factors.finetuning import held_out
from longrope_factors.search import documents
from longrope_factors.search.settings import Settings as SearchSettings

# In forward passes: one forward, two for backward, one more for gradient checkpointing.
_TRAINING = 4


@dataclass(frozen=True)
class Cost:
    """A part of a step: `readings` of `length` tokens each, and the operations they take."""

    step: str
    what: str
    length: int
    readings: int
    flops: float


def estimated(recipe: Recipe, config: Mapping[str, Any]) -> list[Cost]:
    """The highest cost of each step of the recipe; racing makes searches cheaper."""
    texts, held_out_texts = len(recipe.corpus), len(recipe.held_out)
    windows = recipe.space.windows

    def search(step: str, length: int, differing: SearchSettings, seeds: int) -> list[Cost]:
        settings = SearchSettings(**(recipe.search.given | differing.given))
        children = settings.mutations + settings.crossovers
        candidates = 1 + settings.population + settings.iterations * children
        readings, read = candidates * texts * windows, length
        if recipe.space.windows_of is not None:
            readings, read = readings * documents.WINDOWS, recipe.space.windows_of
        return [
            cost(step, "search", read, readings),
            cost(step, "check", checked(length), (seeds + 1) * held_out_texts),
        ]

    def checked(length: int) -> int:
        return min(length, recipe.check_length or length)

    def cost(step: str, what: str, length: int, readings: int, times: int = 1) -> Cost:
        flops = readings * times * forward_flops(config, length)
        return Cost(step, what, length, readings, flops)

    tuning, tuned = recipe.finetune, recipe.finetune_length
    sequences = tuning.steps * tuning.batch
    window = tuning.window or tuned
    whole, longest = round(sequences * tuning.full_share), tuning.full_length or tuned
    training = _TRAINING + tuning.distill  # the teacher needs one forward pass
    costs = [
        *search("1-search", tuned, SearchSettings(), 3),
        cost("2-finetune", "train", window, sequences - whole, training),
        *([cost("2-finetune", "train", longest, whole, training)] if whole else []),
        cost("2-finetune", "check", checked(tuned), 2 * held_out_texts),
    ]
    if tuning.retrieval_share:
        checks = -(-tuning.steps // tuning.steps_between_checks)
        readings = checks * held_out.DOCUMENTS
        costs.append(cost("2-finetune", "questions", tuning.check_length or tuned, readings))
    if recipe.target_length is not None:
        costs += search("3-second-search", recipe.target_length, recipe.second_search, 3)
    for length in recipe.short_lengths:
        costs += search(f"4-short-{length}", length, recipe.short_search, 6)
    if recipe.retrieval is not None:
        # In tasks with one fact per document, every fact costs a reading.
        facts = [
            recipe.retrieval.facts if named(task).alone else 1 for task in recipe.retrieval.tasks
        ]
        asked = sum(facts) * recipe.retrieval.documents
        for length in sorted({tuned, recipe.target_length or tuned}):
            costs.append(cost("retrieval", "check", length, asked))
    return costs


def forward_flops(config: Mapping[str, Any], length: int) -> float:
    """Operations for reading `length` tokens: two per weight and token, plus causal attention.

    Raises FactorFileError naming a field that neither the config nor its architecture has.
    """
    values = completed(config)

    def size(field: str) -> int:
        return hf_fields.length(values.get(field), field)

    hidden, layers, heads = map(size, ("hidden_size", "num_hidden_layers", "num_attention_heads"))
    head_dim = values.get("head_dim") or hidden // heads
    key_value = (values.get("num_key_value_heads") or heads) * head_dim
    attention = hidden * heads * head_dim * 2 + hidden * key_value * 2
    mlp = 3 * hidden * size("intermediate_size")
    weights = layers * (attention + mlp) + hidden * size("vocab_size")
    return float(2 * weights * length + 2 * layers * heads * head_dim * length**2)
