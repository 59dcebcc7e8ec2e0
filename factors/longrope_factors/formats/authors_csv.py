"""The LongRoPE authors' CSV: the factors of one set, one number per line, and nothing else.

Their code reads it with numpy.loadtxt and ',' as the delimiter. Their published files have one row
of d/2 numbers for each layer; all rows are the same.
"""

import re
from pathlib import Path

from longrope_factors.factor_file import bounds, numbers
from longrope_factors.factor_file.errors import FactorFileError
from longrope_factors.factor_file.files import text_files
from longrope_factors.factor_file.files.whole_file import replacing
from longrope_factors.factor_file.schema import FactorFile, FactorSet


def file_name(stem: str, factor_set: FactorSet) -> str:
    """The name of the CSV for a set of the factor file `stem`: NAME-LENGTH.csv."""
    return f"{stem}-{factor_set.max_length}.csv"


def write(factor_set: FactorSet, path: Path) -> None:
    """Write the set's factors, in digits that read back as the same numbers.

    Raises FactorFileError if the file cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_text("".join(f"{factor!r}\n" for factor in factor_set.factors))


def lost(factor_file: FactorFile, factor_set: FactorSet, name: str) -> str:
    """A sentence on what the CSV `name` lacks of this set, with the options of `import` for it."""
    adapter = f" and its adapter in {factor_set.adapter.folder}" if factor_set.adapter else ""
    return (
        f"{name} holds factors only: of {factor_file.model.name} at --length "
        f"{factor_set.max_length} --start-tokens {factor_set.start_tokens} --attention-factor "
        f"{factor_set.attention_factor!r}, without provenance{adapter}."
    )


def read(path: Path, rotary_dim: int) -> tuple[float, ...]:
    """The rotary_dim/2 factors of a CSV: one column, one row, or a row for each layer.

    Raises FactorFileError for another count, for text that is not a number within the bounds of a
    factor, and for rows that differ, because a factor set is one vector for all layers.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FactorFileError(f"{path}: cannot be read: {error.strerror}.") from None
    lines = re.split(r"\r\n|\r|\n", text_files.decoded(path, content))
    rows = [_numbers(path, row, line) for row, line in enumerate(lines, 1) if line.strip()]
    if all(len(row) == 1 for row in rows):
        rows = [tuple(number for row in rows for number in row)]
    counts = {len(row) for row in rows}
    if counts != {rotary_dim // 2}:
        raise FactorFileError(
            f"{path}: has {' or '.join(map(str, sorted(counts)))} numbers in a set; rotary "
            f"dimension {rotary_dim} needs {rotary_dim // 2}, in one column or one row a layer."
        )
    if len(set(rows)) > 1:
        raise FactorFileError(
            f"{path}: has different factors for each layer; a factor set is one vector for all "
            "layers."
        )
    return rows[0]


def _numbers(path: Path, row: int, line: str) -> tuple[float, ...]:
    factors = tuple(numbers.real(field) for field in line.split(","))
    if not all(map(bounds.FACTOR.hold, factors)):
        raise FactorFileError(
            f"{path}: line {row} is {line.strip()[:40]!r}; it should be numbers {bounds.FACTOR}, "
            "separated by commas."
        )
    return factors
