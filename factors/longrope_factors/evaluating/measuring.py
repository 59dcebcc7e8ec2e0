"""Make measurements one after another: each is saved at once, and none is made twice."""

import datetime
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic

from longrope_factors import __version__
from longrope_factors.evaluating import results
from longrope_factors.evaluating.results import R
from longrope_factors.factor_file import model_directory
from longrope_factors.factor_file.files import alone, json_lines
from longrope_factors.factor_file.schema import FactorSet
from longrope_factors.models import compute, loading
from longrope_factors.models.adapted import with_adapter
from longrope_factors.models.loading import LoadedModel

# The length at which attention costs as much as everything else (SmolLM2-135M). It is used only to
# estimate the remaining time.
_EVEN = 8192

Place = tuple[tuple[Any, ...], str]


@dataclass(frozen=True)
class Measurement(Generic[R]):
    """A measurement that a run wants: the `key` of its result, and how to make it.

    The model reads `windows` sequences of `window` tokens, with the adapter in the folder `adapter`
    if there is one. `make` takes the model and a function to call after each decoder layer.
    """

    key: tuple[Any, ...]
    method: str
    title: str
    window: int
    windows: int
    make: Callable[[LoadedModel, Callable[[], None]], R]
    adapter: Path | None = None

    @property
    def place(self) -> Place:
        """What finds its result among those of a file: the key, and the method's name."""
        return self.key, self.method

    @property
    def cost(self) -> float:
        """The time that it takes, in units of the time for a single token."""
        return self.windows * self.window * (1 + self.window / _EVEN)


def run(
    wanted: Sequence[Measurement[R]],
    output: Path,
    kind: type[R],
    model_dir: Path,
    device: str | None,
    dtype: str,
) -> list[R]:
    """The results in the order of `wanted`, with the methods' names from there.

    Results with the model's tokenizer that are already in the file `output` are not measured again,
    nor are those of versions that did not write the tokenizer down. The model is loaded only if one
    is missing. Each new result is appended at once. A result that stands there under the name of
    another method with the same rotation is repeated under its own. Raises UsageError if `output`
    has anything but results or another run is at work on it, and OSError if it cannot be written,
    all before loading.
    """
    tokenizer_sha256 = model_directory.tokenizer_sha256(model_dir)
    stored = _stored(output, kind, tokenizer_sha256)
    if any(measurement.place not in stored for measurement in wanted):
        output.touch()  # an error if there is no such folder
        with alone.at_work_on(output):
            json_lines.begin(output)
            stored = _stored(output, kind, tokenizer_sha256)
            _complete(stored, wanted, output, partial(loading.load, model_dir, device, dtype))
    return [stored[measurement.place] for measurement in wanted]


def _stored(output: Path, kind: type[R], tokenizer_sha256: str) -> dict[Place, R]:
    """The results in the file with this tokenizer, or from versions that did not write it down."""
    return {
        (result.key, result.method): result
        for result in results.read(output, kind)
        if result.tokenizer_sha256 in (tokenizer_sha256, None)
    }


def _complete(
    stored: dict[Place, R],
    wanted: Sequence[Measurement[R]],
    output: Path,
    load: Callable[[], LoadedModel],
) -> None:
    """Adds what is missing to `stored` and to the file."""
    keys = {key for key, _ in stored}
    missing: dict[tuple[Any, ...], Measurement[R]] = {}
    for measurement in wanted:
        if measurement.key not in keys:
            # Two methods may be the same rotation.
            missing.setdefault(measurement.key, measurement)
    if missing:
        _make(list(missing.values()), load(), output, stored)
    done = {key: result for (key, _), result in stored.items()}
    for measurement in wanted:
        if measurement.place not in stored:
            renamed = done[measurement.key].model_copy(update={"method": measurement.method})
            results.append(output, renamed)
            stored[measurement.place] = renamed


def common_fields(
    loaded: LoadedModel, factor_set: FactorSet, method: str, length: int, started: float
) -> dict[str, Any]:
    """The fields of `Result` for a measurement that began at time.monotonic() `started`."""
    return {
        "model": loaded.identity.name,
        "weights_sha256": loaded.weights_sha256,
        "tokenizer_sha256": loaded.tokenizer_sha256,
        "dtype": loaded.dtype,
        "device": loaded.model.device.type,
        "length": length,
        "method": method,
        "fingerprint": factor_set.fingerprint,
        "seconds": round(time.monotonic() - started, 1),
        "peak_memory_bytes": results.peak_memory(),
        "date": datetime.date.today().isoformat(),
        "tool_version": __version__,
    }


def _make(
    missing: list[Measurement[R]],
    loaded: LoadedModel,
    output: Path,
    stored: dict[Place, R],
) -> None:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    layers = len(loaded.model.base_model.layers)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)  # because --json uses stdout
    if note := compute.advice(loaded.dtype, loaded.model.device.type):
        console.print(note)
    # A layer of a long text takes seconds, so the remaining time is estimated over the last ten
    # minutes instead of rich's 30 seconds.
    with Progress(*columns, console=console, speed_estimate_period=600) as progress:
        bar = progress.add_task("", total=sum(measurement.cost for measurement in missing))
        for number, measurement in enumerate(missing, 1):
            progress.update(bar, description=f"{number}/{len(missing)} {measurement.title}")
            step = measurement.cost / (measurement.windows * layers)
            with with_adapter(loaded, measurement.adapter):
                result = measurement.make(loaded, partial(progress.advance, bar, step))
            stored[measurement.place] = result
            results.append(output, result)
