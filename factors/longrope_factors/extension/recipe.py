"""What a plan file says: TOML, each section with the names of the command that it stands for."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from longrope_factors.evaluating.retrieval import tasks
from longrope_factors.factor_file.errors import UsageError
from longrope_factors.factor_file.files import text_files
from longrope_factors.factor_file.refusal import sentence
from longrope_factors.finetuning.settings import TrainingSettings
from longrope_factors.search.settings import Settings as SearchSettings
from longrope_factors.search.settings import SpaceSettings
from longrope_factors.settings import MachineSection, Section

Length = Annotated[int, Field(ge=2, le=2**31 - 1)]
# TOML has text and arrays.
_Place = Annotated[Path, Field(strict=False)]
_Places = Annotated[tuple[_Place, ...], Field(strict=False, min_length=1)]


class RetrievalSection(Section):
    """`longrope factors evaluate retrieval`: the last check, at every set's length."""

    tasks: Annotated[tuple[str, ...], Field(strict=False, min_length=1)]
    form: Literal["plain", "chat"] = "plain"
    facts: Annotated[int, Field(ge=1, le=100)] = 10
    documents: Annotated[int, Field(ge=1)] = 1


class Machine(MachineSection):
    """[machine]: what a fine-tune takes as well."""

    device: Literal["cpu", "cuda"] | None = None
    dtype: Literal["bfloat16", "float32"] = "bfloat16"


class Recipe(Section):
    """A progressive extension; paths are relative to the file that says it.

    Factors are searched at `finetune_length` and the weights fine-tuned there; with a
    `target_length`, factors for it are searched on those weights; at each of `short_lengths`, they
    are searched again. `held_out` texts, which no search and no training reads, check each step;
    where retrieval is trained, the first of them also chooses the weights that are kept.
    Checks read the first `check_length` tokens of a held-out text, or as many as a step is for.
    `second_search` and `short_search` are what differs from `search` there.
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
        """The names of its steps, which are those of their folders, in order."""
        second = () if self.target_length is None else ("3-second-search",)
        short = (f"4-short-{length}" for length in sorted(self.short_lengths))
        last = () if self.retrieval is None else ("retrieval",)
        return ("1-search", "2-finetune", *second, *short, *last)

    @property
    def writes_adapter(self) -> bool:
        """Whether it ends with an adapter beside the model's own weights."""
        return self.finetune.lora is not None and self.finetune.given.get("merge") is False


def load(path: Path) -> Recipe:
    """Read a plan file; UsageError, one sentence naming the field, for one that says no recipe."""
    try:
        document = tomllib.loads(text_files.decoded(path, path.read_bytes()))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: is not TOML: {error}.") from None
    try:
        recipe = Recipe.model_validate(document)
    except ValidationError as error:
        raise UsageError(f"{path}: {sentence(error, document)}.") from None
    both = set(recipe.corpus) & set(recipe.held_out)
    if both:
        raise UsageError(f"{path}: {min(both)} is in corpus and in held_out; it should be in one.")
    if recipe.target_length is not None and recipe.target_length <= recipe.finetune_length:
        raise UsageError(
            f"{path}: target_length is {recipe.target_length}; it should be above the "
            f"finetune_length of {recipe.finetune_length}, or left out."
        )
    if any(each >= recipe.finetune_length for each in recipe.short_lengths):
        raise UsageError(
            f"{path}: short_lengths has {max(recipe.short_lengths)}; each should be below the "
            f"finetune_length of {recipe.finetune_length}."
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
    folder = path.parent
    return recipe.model_copy(
        update={
            "model": folder / recipe.model,
            "output": folder / recipe.output,
            "corpus": tuple(folder / each for each in recipe.corpus),
            "held_out": tuple(folder / each for each in recipe.held_out),
        }
    )
