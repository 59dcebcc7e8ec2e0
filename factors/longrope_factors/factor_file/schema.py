"""The factor file, formats `longrope-factors/1` and `/2`: ordered factor sets for one model.

`/2` is `/1` with adapters; it is written only if a set has one.
"""

import bisect
import datetime
import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    Strict,
    ValidationError,
    field_validator,
    model_validator,
)

from longrope_factors.factor_file import bounds
from longrope_factors.factor_file.errors import FactorFileError as FactorFileError
from longrope_factors.factor_file.errors import UsageError
from longrope_factors.factor_file.files import strict_json
from longrope_factors.factor_file.files.strict_json import shown
from longrope_factors.factor_file.files.whole_file import replacing
from longrope_factors.factor_file.refusal import place_in_words, sentence

FORMAT, FORMAT_WITH_ADAPTERS = "longrope-factors/1", "longrope-factors/2"

Method = Literal["original", "pi", "ntk", "yarn", "longrope", "longrope2", "published"]
ANALYTIC: tuple[Method, ...] = ("original", "pi", "ntk", "yarn")
Text = Annotated[str, Field(min_length=1)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Length = Annotated[int, Field(ge=1, le=bounds.LONGEST)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Factor = Annotated[float, Field(ge=bounds.FACTOR.least, le=bounds.FACTOR.greatest)]
AttentionFactor = Annotated[
    float, Field(ge=bounds.ATTENTION_FACTOR.least, le=bounds.ATTENTION_FACTOR.greatest)
]
Theta = Annotated[float, Field(ge=bounds.THETA.least, le=bounds.THETA.greatest)]
Rank = Annotated[int, Field(ge=1, le=bounds.RANK)]
Scale = Annotated[float, Field(allow_inf_nan=False)]


class _Record(BaseModel):
    # protected_namespaces is empty because the format has a field `model`; pydantic reserves
    # names that begin with model_.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=())


class ModelIdentity(_Record):
    """What a model must be for the factors to fit it; the name is for people only."""

    name: Text
    architecture: Text
    rotary_dim: Annotated[int, Field(ge=2, le=bounds.ROTARY_DIM, multiple_of=2)]
    rope_theta: Theta
    original_max_position_embeddings: Annotated[int, Field(ge=2, le=bounds.LONGEST)]


class CorpusText(_Record):
    """One text that a search or an evaluation read."""

    name: Text
    sha256: Sha256


class Provenance(_Record):
    """Where a factor set's numbers came from; None means unknown or not applicable.

    `search` holds a search's settings, `evaluations` how many candidates it measured.
    `perplexity_before` is the plain model's at the set's max_length, `perplexity_after` that under
    this set; over several texts of `corpus`, their geometric mean.
    """

    method: Method
    source: Text
    date: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    tool_version: Text
    search: dict[str, JsonValue] | None = None
    seed: int | None = None
    corpus: Annotated[tuple[CorpusText, ...], Strict(False)] | None = None
    evaluations: Annotated[int, Field(ge=0)] | None = None
    perplexity_before: PositiveFloat | None = None
    perplexity_after: PositiveFloat | None = None

    @field_validator("date")
    @classmethod
    def _is_a_day(cls, date: str) -> str:
        try:
            datetime.date.fromisoformat(date)
        except ValueError:
            raise ValueError("it should be a day of the calendar as YYYY-MM-DD") from None
        return date


class Adapter(_Record):
    """LoRA weights that requests of a factor set run with, in the form of peft's save_pretrained.

    `folder` is relative to the factor file's folder, with `/` between its parts. `sha256` is that
    of its adapter_model.safetensors, `base_sha256` that of the weights it was trained on, as
    `model_directory.weights_sha256` gives it. The product of its matrices is multiplied by `scale`,
    lora_alpha / rank (LoRA, arXiv 2106.09685, section 4.1).
    """

    folder: Text
    sha256: Sha256
    rank: Rank
    scale: Scale
    base_sha256: Sha256

    @field_validator("folder")
    @classmethod
    def _is_beside_the_factor_file(cls, folder: str) -> str:
        path = PurePosixPath(folder)
        if path.is_absolute() or ".." in path.parts or not folder.isprintable() or "\\" in folder:
            raise ValueError(
                "it should be a path relative to the factor file's folder, with / between its "
                "parts and without '..'"
            )
        return folder


class FactorSet(_Record):
    """One vector of rescale factors and the longest sequence that it serves.

    Dimension pair i turns by n * theta^(-2i/d) / factors[i] at position n, or by the original
    angle where n < start_tokens (n_hat); cos and sin are multiplied by attention_factor.
    LongRoPE, arXiv 2402.13753, equation 3. A set without an adapter is for the model's own weights.
    """

    max_length: Length
    factors: Annotated[tuple[Factor, ...], Strict(False)]
    start_tokens: Annotated[int, Field(ge=0, le=bounds.LONGEST)]
    attention_factor: AttentionFactor
    adapter: Adapter | None = None
    provenance: Provenance

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that identify the rotation and the adapter.

        They do not depend on max_length or on the adapter's folder.
        """
        adapter = self.adapter and (
            *(self.adapter.sha256, self.adapter.rank),
            self.adapter.scale.hex(),
        )
        return _fingerprint(self.factors, self.start_tokens, self.attention_factor, adapter)


class FactorFile(_Record):
    """Factor sets of one model, ascending by max_length."""

    format: Literal["longrope-factors/1", "longrope-factors/2"]
    model: ModelIdentity
    sets: Annotated[tuple[FactorSet, ...], Strict(False), Field(min_length=1)]

    @model_validator(mode="after")
    def _sets_fit_model_and_ascend(self) -> Self:
        pairs = self.model.rotary_dim // 2
        for index, factor_set in enumerate(self.sets):
            where = f"sets[{index}] (max_length {factor_set.max_length})"
            count = len(factor_set.factors)
            if count != pairs:
                raise ValueError(
                    f"{where}: factors has {count} numbers, "
                    f"but rotary_dim {self.model.rotary_dim} needs {pairs}"
                )
            if index and factor_set.max_length <= self.sets[index - 1].max_length:
                raise ValueError(
                    f"{where}: max_length should be greater than the "
                    f"{self.sets[index - 1].max_length} of the set before it"
                )
            if factor_set.adapter is not None and self.format == FORMAT:
                raise ValueError(
                    f"{where}: adapter needs format {shown(FORMAT_WITH_ADAPTERS)}, "
                    f"but the file's is {shown(FORMAT)}"
                )
        return self

    @property
    def max_length(self) -> int:
        """The longest sequence that any set serves, in tokens."""
        return self.sets[-1].max_length

    @property
    def is_analytic(self) -> bool:
        """Whether formulas gave all of its factors, and no set has an adapter."""
        return all(
            factor_set.provenance.method in ANALYTIC and factor_set.adapter is None
            for factor_set in self.sets
        )

    def select(self, length: int) -> int:
        """Index of the smallest set that covers a sequence of `length` tokens.

        A length equal to a set's max_length fits that set. Raises UsageError if no set fits.
        """
        if length < 1:
            raise UsageError(
                f"A sequence of {length} tokens has no factor set: it should have at least 1 token."
            )
        if length > self.max_length:
            raise UsageError(
                f"A sequence of {length} tokens is longer than {self.max_length}, "
                "the max_length of the last factor set."
            )
        return bisect.bisect_left(self.sets, length, key=lambda factor_set: factor_set.max_length)


def load(path: Path | str) -> FactorFile:
    """Read and check a factor file.

    Raises FactorFileError: one sentence naming the file, the set and the field.
    """
    path = Path(path)
    document = strict_json.read(path)
    if not isinstance(document, dict):
        raise FactorFileError(f"{path}: should be a JSON object, not {shown(document)}.")
    if "format" in document and document["format"] not in (FORMAT, FORMAT_WITH_ADAPTERS):
        raise FactorFileError(
            f"{path}: format is {shown(document['format'])}, but this version reads "
            f"{shown(FORMAT)} and {shown(FORMAT_WITH_ADAPTERS)} only."
        )
    if (non_finite := strict_json.first_non_finite(document)) is not None:
        place, value = non_finite
        where = place_in_words(place, document)
        raise FactorFileError(f"{path}: {where} is {shown(value)}; it should be a finite number.")
    return _validated(document, str(path))


def build(model: ModelIdentity, sets: tuple[FactorSet, ...] | list[FactorSet]) -> FactorFile:
    """A factor file of these sets; raises FactorFileError if they do not fit together."""
    return _validated({"format": _format(sets), "model": model, "sets": sets}, model.name)


def save(factor_file: FactorFile, path: Path | str) -> None:
    """Write `factor_file`, replacing what is at `path` in one step.

    Fields that are None (unknown) are left out. Raises FactorFileError if it cannot be written.
    """
    text = dumps(factor_file)
    with replacing(Path(path), make_folder=False) as temporary:
        temporary.write_text(text, encoding="utf-8")


def dumps(factor_file: FactorFile) -> str:
    """The text of a factor file: stable and indented, with many factors on a line.

    It has the lowest format version that can express the file.
    """
    content = factor_file.model_dump(mode="json", exclude_none=True)
    return strict_json.formatted({**content, "format": _format(factor_file.sets)}, 0) + "\n"


def check_model(factor_file: FactorFile, identity: ModelIdentity, path: Path | str) -> None:
    """Raise FactorFileError unless the file at `path` was made for a model like `identity`.

    A file of analytic sets alone fits every architecture, because its numbers follow from the other
    fields and from nothing that was trained or searched. `base.Base.check` also compares its
    original and analytic sets with the model's own rotation.
    """
    for field in (
        *(() if factor_file.is_analytic else ("architecture",)),
        "rotary_dim",
        "rope_theta",
        "original_max_position_embeddings",
    ):
        in_file, in_model = getattr(factor_file.model, field), getattr(identity, field)
        if in_file != in_model:
            raise FactorFileError(
                f"{path}: model.{field} is {shown(in_file)}, "
                f"but the model {shown(identity.name)} has {shown(in_model)}."
            )


def json_schema() -> dict[str, Any]:
    """The format as JSON Schema (draft 2020-12), which cannot express the counts and the order."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": FORMAT_WITH_ADAPTERS,
        **FactorFile.model_json_schema(),
    }


# Cached by content, not on the instance: a copy with other factors needs another fingerprint.
@lru_cache
def _fingerprint(
    factors: tuple[float, ...],
    start_tokens: int,
    attention_factor: float,
    adapter: tuple[str, int, str] | None,
) -> str:
    content = [
        *([factor.hex() for factor in factors], start_tokens, attention_factor.hex()),
        *(adapter or ()),
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _format(sets: Sequence[FactorSet]) -> str:
    return FORMAT_WITH_ADAPTERS if any(factor_set.adapter for factor_set in sets) else FORMAT


def _validated(document: dict[str, Any], source: str) -> FactorFile:
    try:
        return FactorFile.model_validate(document)
    except ValidationError as error:
        raise FactorFileError(f"{source}: {sentence(error, document)}.") from None
