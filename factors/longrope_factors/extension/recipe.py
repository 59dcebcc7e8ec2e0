"""The recipe file: TOML, whose sections have the names of the commands' settings."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from longrope_factors.evaluating.retrieval import tasks
from longrope_factors.factor_file.errors import UsageError
from longrope_factors.factor_file.refusal import sentence
from longrope_factors.finetuning.settings import TrainingSettings
from longrope_factors.search.settings import Settings as SearchSettings
from longrope_factors.search.settings import SpaceSettings
from longrope_factors.settings import MachineSection, Section, document

Length = Annotated[int, Field(ge=2, le=2**31 - 1)]
# Not strict, because TOML has text and arrays where these have paths and tuples.
_Place = Annotated[Path, Field(strict=False)]
_Places = Annotated[tuple[_Place, ...], Field(strict=False, min_length=1)]


class RetrievalSection(Section):
    """[retrieval]: `longrope factors evaluate retrieval` as a last check, at all sets' lengths."""

    tasks: Annotated[tuple[str, ...], Field(strict=False, min_length=1)]
    form: Literal["plain", "chat"] = "plain"
    facts: Annotated[int, Field(ge=1, le=100)] = 10
    documents: Annotated[int, Field(ge=1)] = 1


class Machine(MachineSection):
    """[machine]: only the devices and dtypes that a fine-tune accepts as well."""

    device: Literal["cpu", "cuda"] | None = None
    dtype: Literal["bfloat16", "float32"] = "bfloat16"


class Recipe(Section):
    """A progressive extension; paths are relative to the recipe file.

    Factors are searched at `finetune_length`, and the weights are fine-tuned under them. Then, on
    the tuned weights, factors are searched for `target_length`, if there is one, and again for each
    of `short_lengths`. Each step is checked on the `held_out` texts, which no search and no
    training reads. If retrieval is trained, the first of them also chooses which weights are kept.
    Checks read the first `check_length` tokens of a held-out text, or the step's length if that is
    less. `second_search` and `short_search` hold the settings that differ from `search`.
    """

    model: _Place
    name: str | None = None
    output: _Place
    corpus: _Places
    held_out: _Places
    finetune_length: Length
    target_length: Length | None = None
    short_lengths: Annotated[tuple[Length, ...], Field(strict=False)] = ()
    check_length: Length | None = None
    search: SearchSettings = SearchSettings()
    space: SpaceSettings = SpaceSettings()
    finetune: TrainingSettings = TrainingSettings()
    second_search: SearchSettings = SearchSettings()
    short_search: SearchSettings = SearchSettings()
    retrieval: RetrievalSection | None = None
    machine: Machine = Machine()

    @property
    def steps(self) -> tuple[str, ...]:
        """The names of the steps in order; they are also the names of the steps' folders."""
        second = () if self.target_length is None else ("3-second-search",)
        short = (f"4-short-{length}" for length in sorted(self.short_lengths))
        last = () if self.retrieval is None else ("retrieval",)
        return ("1-search", "2-finetune", *second, *short, *last)

    @property
    def writes_adapter(self) -> bool:
        """Whether the result is an adapter beside the model's own weights."""
        return self.finetune.lora is not None and self.finetune.given.get("merge") is False


def load(path: Path) -> Recipe:
    """Read a recipe file.

    Raises UsageError, one sentence naming the field, if it is not a valid recipe.
    """
    content = document(path)
    try:
        recipe = Recipe.model_validate(content)
    except ValidationError as error:
        raise UsageError(f"{path}: {sentence(error, content)}.") from None
    folder = path.parent
    trained = {(folder / text).resolve() for text in recipe.corpus}
    if both := [text for text in recipe.held_out if (folder / text).resolve() in trained]:
        raise UsageError(f"{path}: {min(both)} is in corpus and in held_out; it should be in one.")
    if recipe.target_length is not None and recipe.target_length <= recipe.finetune_length:
        raise UsageError(
            f"{path}: target_length is {recipe.target_length}; it should be above the "
            f"finetune_length of {recipe.finetune_length}, or left out."
        )
    if any(length >= recipe.finetune_length for length in recipe.short_lengths):
        raise UsageError(
            f"{path}: short_lengths has {max(recipe.short_lengths)}; each should be below the "
            f"finetune_length of {recipe.finetune_length}."
        )
    windows = recipe.space.windows_of or 0
    if any(length <= windows for length in recipe.short_lengths):
        raise UsageError(
            f"{path}: short_lengths has {min(recipe.short_lengths)}; each should be above the "
            f"windows_of of {windows}."
        )
    if recipe.writes_adapter and (recipe.target_length or recipe.short_lengths):
        raise UsageError(
            f"{path}: merge is false, so the result is an adapter for finetune_length alone: "
            "target_length and short_lengths, which search on merged weights, should be left out."
        )
    for name in () if recipe.retrieval is None else recipe.retrieval.tasks:
        try:
            tasks.named(name)
        except UsageError as error:
            raise UsageError(f"{path}: retrieval.tasks: {error}") from None
    return recipe.model_copy(
        update={
            "model": folder / recipe.model,
            "output": folder / recipe.output,
            "corpus": tuple(folder / text for text in recipe.corpus),
            "held_out": tuple(folder / text for text in recipe.held_out),
        }
    )
