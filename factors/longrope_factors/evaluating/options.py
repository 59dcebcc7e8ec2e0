"""Options that the evaluations share."""

from pathlib import Path
from typing import Annotated

import typer

from longrope_factors.models.compute import Dtype

ModelOption = Annotated[Path, typer.Option(metavar="DIR", help="Model directory (safetensors).")]
LengthOption = Annotated[
    list[int], typer.Option(min=2, max=2**31 - 1, help="Tokens to read; may be repeated.")
]
OutputOption = Annotated[Path, typer.Option("-o", "--output", help="Results file, JSON Lines.")]
MethodOption = Annotated[
    list[str] | None,
    typer.Option(
        help="original, pi, ntk, yarn, or own for a longrope model's own sets; may be repeated."
    ),
]
FactorsOption = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE", help="Factor file whose set for the length is measured; may be repeated."
    ),
]
DeviceOption = Annotated[
    str | None,
    typer.Option(help="cpu, cuda or cuda:N. Default: a GPU if there is one."),
]
DtypeOption = Annotated[Dtype, typer.Option(help="Dtype that the model computes in.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")]
PlotOption = Annotated[Path | None, typer.Option(metavar="PNG", help="Plot the results.")]
