"""A model as it ships: the starting point of an extension."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from longrope_factors.factor_file import methods, schema
from longrope_factors.factor_file.errors import FactorFileError
from longrope_factors.factor_file.methods import Rescaling
from longrope_factors.factor_file.refusal import sentence
from longrope_factors.factor_file.schema import FactorFile, FactorSet, Method, ModelIdentity

# Relative: a file made elsewhere or by another release may differ in the last digits.
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Base:
    """A model's identity and its own rotation up to its original length.

    `own` is relative to plain RoPE; for most models all its factors are 1. It is the rotation of
    the original set, and the factors of a method or a search are multiplied by it.
    """

    identity: ModelIdentity
    own: Rescaling

    @property
    def is_plain(self) -> bool:
        """Whether the model rotates by plain RoPE."""
        return self.own == methods.original(self.identity, 1.0)

    def factor_set(self, method: Method, max_length: int) -> FactorSet:
        """The factor set of an analytic method, on top of the model's own rotation.

        The extension ratio is relative to the original length. Raises FactorFileError for a ratio
        below 1 and for factors outside the format's bounds.
        """
        made = methods.factor_set(method, self.identity, max_length)
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

        Its original sets must have the model's own rotation: factors made for plain RoPE do not
        fit a model whose config scales its rotation, and vice versa.
        """
        schema.check_model(factor_file, self.identity, path)
        for index, factor_set in enumerate(factor_file.sets):
            if factor_set.provenance.method != "original":
                continue
            where = f"{path}: sets[{index}] (max_length {factor_set.max_length}), an original set"
            own = (*self.own.factors, self.own.attention_factor)
            in_file = (*factor_set.factors, factor_set.attention_factor)
            names = [f"factors[{pair}]" for pair in range(len(self.own.factors))]
            for name, theirs, ours in zip([*names, "attention_factor"], in_file, own, strict=True):
                if abs(theirs - ours) > _TOLERANCE * ours:
                    raise FactorFileError(
                        f"{where}: {name} is {theirs:.9g}, but the model's own rotation has "
                        f"{ours:.9g} by its config's rope parameters."
                    )
            if factor_set.start_tokens and not self.is_plain:
                raise FactorFileError(
                    f"{where}: start_tokens is {factor_set.start_tokens}; it should be 0, because "
                    "start tokens rotate by plain RoPE and this model never does."
                )
