"""A model as it ships: the starting point of an extension."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from longrope_factors.factor_file import methods, schema
from longrope_factors.factor_file.errors import FactorFileError
from longrope_factors.factor_file.files.strict_json import shown
from longrope_factors.factor_file.methods import Rescaling
from longrope_factors.factor_file.refusal import sentence
from longrope_factors.factor_file.schema import FactorFile, FactorSet, Method, ModelIdentity

# Relative: a file made elsewhere or by another release may differ in the last digits.
_TOLERANCE = 1e-6


class Scaling(NamedTuple):
    """How a config scales a model's rotation already.

    rope_type and the object that says it, `rope_scaling` or `rope_parameters`. original: the window
    before scaling, in tokens, where the same weights can be served without it; else None.
    """

    rope_type: str
    where: str
    original: int | None

    def __str__(self) -> str:
        kind = f"rope_type {shown(self.rope_type)} in {self.where}"
        return f"its config scales its rotation already ({kind})"


@dataclass(frozen=True)
class Base:
    """A model's identity and its own rotation up to its original length.

    `own` is relative to plain RoPE; for most models all its factors are 1. It is the rotation of
    the original set, and the factors of a method or a search are multiplied by it. `scaling` is
    what the config says of it, where it is not plain.
    """

    identity: ModelIdentity
    own: Rescaling
    scaling: Scaling | None = field(default=None, compare=False)

    @property
    def is_plain(self) -> bool:
        """Whether the model rotates by plain RoPE."""
        return self.own == methods.original(self.identity, 1.0)

    @property
    def note(self) -> str | None:
        """A sentence for people who make factors on a scaled rotation; None for a plain one."""
        if self.scaling is None:
            return None
        window = self.identity.original_max_position_embeddings
        return (
            f"The factors go on from the model's own rotation up to {window} tokens: "
            f"{self.scaling}."
        )

    @property
    def unscaled(self) -> "Base | None":
        """The same weights without their config's scaling; None where they cannot be served so."""
        if self.scaling is None or self.scaling.original is None:
            return None
        identity = self.identity.model_copy(
            update={"original_max_position_embeddings": self.scaling.original}
        )
        return Base(identity, methods.original(identity, 1.0))

    def factor_set(self, method: Method, max_length: int, truncate: bool = False) -> FactorSet:
        """The factor set of an analytic method, on top of the model's own rotation.

        The extension ratio is relative to the original length; `truncate` is for `methods.yarn`.
        Raises FactorFileError for a ratio below 1 and for factors outside the format's bounds.
        """
        made = methods.factor_set(method, self.identity, max_length, truncate)
        extended = {
            **made.model_dump(),
            "factors": self.multiplied(made.factors),
            "attention_factor": made.attention_factor * self.own.attention_factor,
        }
        try:
            return FactorSet.model_validate(extended)
        except ValidationError as error:
            raise FactorFileError(
                f"{method} to {max_length} tokens: {sentence(error, extended)}."
            ) from None

    def multiplied(self, relative: tuple[float, ...]) -> tuple[float, ...]:
        """`relative` times the model's own factors: relative to plain RoPE, as in the format."""
        return tuple(factor * own for factor, own in zip(relative, self.own.factors, strict=True))

    def load(self, path: Path | str) -> FactorFile:
        """Read a factor file and check that it was made for this model.

        Raises FactorFileError as `schema.load` and `check` do.
        """
        factor_file = schema.load(path)
        self.check(factor_file, path)
        return factor_file

    def check(self, factor_file: FactorFile, path: Path | str) -> None:
        """Raise FactorFileError unless the file at `path` was made for this model.

        Its original sets must have the model's own rotation, and its analytic ones must extend it:
        factors made for plain RoPE do not fit a model whose config scales its rotation, and vice
        versa. The exception is a file that `replaces_scaling`.
        """
        self.extended_by(factor_file)._check(factor_file, path)

    def extended_by(self, factor_file: FactorFile) -> "Base":
        """What the file's sets extend: this base, or the unscaled one if it `replaces_scaling`."""
        if self.replaces_scaling(factor_file):
            assert self.unscaled is not None
            return self.unscaled
        return self

    def replaces_scaling(self, factor_file: FactorFile) -> bool:
        """Whether a file for the unscaled weights has the config's own rotation as one of its sets.

        That set serves the config's window then, as the config would, and the shorter sets serve
        shorter requests. So it is with Qwen: its config has plain RoPE, its users put YaRN into it.
        """
        unscaled, window = self.unscaled, self.identity.original_max_position_embeddings
        if unscaled is None or factor_file.max_length < window:
            return False
        original = unscaled.identity.original_max_position_embeddings
        if factor_file.model.original_max_position_embeddings != original:
            return False
        own = factor_file.sets[factor_file.select(window)]
        return own.start_tokens == 0 and _difference(own, self.own) is None

    def _check(self, factor_file: FactorFile, path: Path | str) -> None:
        try:
            schema.check_model(factor_file, self.identity, path)
        except FactorFileError as error:
            # Scaling changes the window, and neither theta nor the rotary dimension.
            of_window = ".original_max_position_embeddings is" in str(error)
            raise (self._with_scaling(error) if of_window else error) from None
        for index, factor_set in enumerate(factor_file.sets):
            where = f"{path}: sets[{index}] (max_length {factor_set.max_length})"
            if factor_set.provenance.method == "original":
                self._check_original(factor_set, where)
            elif factor_set.provenance.method in methods.METHODS:
                self._check_analytic(factor_set, where)

    def _check_original(self, factor_set: FactorSet, where: str) -> None:
        where = f"{where}, an original set"
        if (difference := _difference(factor_set, self.own)) is not None:
            name, theirs, ours = difference
            raise self._with_scaling(
                FactorFileError(
                    f"{where}: {name} is {theirs:.9g}, but the model's own rotation has "
                    f"{ours:.9g} by its config's rope parameters."
                )
            )
        if factor_set.start_tokens and not self.is_plain:
            raise FactorFileError(
                f"{where}: start_tokens is {factor_set.start_tokens}; it should be 0, because "
                "start tokens rotate by plain RoPE and this model never does."
            )

    def _check_analytic(self, factor_set: FactorSet, where: str) -> None:
        """The attention factor may be another: people choose it by measuring."""
        method, attention = factor_set.provenance.method, factor_set.attention_factor
        if factor_set.max_length < self.identity.original_max_position_embeddings:
            return
        differences = []
        for truncate in (False, True):
            made = self.factor_set(method, factor_set.max_length, truncate)
            difference = _difference(factor_set, Rescaling(made.factors, attention))
            if difference is None:
                return
            differences.append(difference)
        name, theirs, ours = differences[0]
        raise self._with_scaling(
            FactorFileError(
                f"{where}, a set by {method}: {name} is {theirs:.9g}, but {method} makes it "
                f"{ours:.9g} from the model's own rotation."
            )
        )

    def _with_scaling(self, error: FactorFileError) -> FactorFileError:
        """The error and what explains it: that the model's config scales its rotation."""
        if self.scaling is None:
            return error
        return FactorFileError(
            f"{str(error).removesuffix('.')}, because {self.scaling}: to serve factors made for "
            f"the plain rotation, remove rope_type and its fields from {self.scaling.where}."
        )


def _difference(factor_set: FactorSet, other: Rescaling) -> tuple[str, float, float] | None:
    """The name of the first number that differs, the set's and the other's; None without one."""
    theirs = (*factor_set.factors, factor_set.attention_factor)
    ours = (*other.factors, other.attention_factor)
    names = [f"factors[{pair}]" for pair in range(len(other.factors))]
    for name, one, two in zip([*names, "attention_factor"], theirs, ours, strict=True):
        if abs(one - two) > _TOLERANCE * two:
            return name, one, two
    return None
