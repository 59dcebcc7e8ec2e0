"""Measurements made one after another, each written down at once, none made twice."""

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
from longrope_factors.factor_file.schema import FactorSet
from longrope_factors.models.adapted import with_adapter
from longrope_factors.models.loading import LoadedModel

# Where attention costs as much as everything else (SmolLM2-135M): only the time left needs it.
_EVEN = 8192


@dataclass(frozen=True)
class Measurement(Generic[R]):
    """One that a run wants: the `key` of its result, and how to get it.

    The model reads `windows` sequences of `window` tokens, with the adapter in the folder `adapter`
    where there is one; `make` takes the model and what to call after each decoder layer.
    """

    key: tuple[Any, ...]
    method: str
    title: str
    window: int
    windows: int
    make: Callable[[LoadedModel, Callable[[], None]], R]
    adapter: Path | None = None

    @property
    def cost(self) -> float:
        """Time that it takes, in units of one token alone."""
        return self.windows * self.window * (1 + self.window / _EVEN)


def run(
    wanted: Sequence[Measurement[R]],
    output: Path,
    kind: type[R],
    load: Callable[[], LoadedModel],
) -> list[R]:
    """The results in the order of `wanted`, with the method's name as it is called there.

    Those in the file `output` already are not measured again, and the model is loaded only where
    one is missing. Each new result is appended at once. Raises UsageError where `output` holds
    anything else, OSError where it cannot be written, both before loading.
    """
    done = {each.key: each for each in results.read(output, kind)}
    missing: dict[tuple[Any, ...], Measurement[R]] = {}
    for each in wanted:
        if each.key not in done:
            missing.setdefault(each.key, each)  # two methods may be the same rotation
    if missing:
        output.open("a").close()
        _make(list(missing.values()), load(), output, done)
    return [done[each.key].model_copy(update={"method": each.method}) for each in wanted]


def common_fields(
    loaded: LoadedModel, factor_set: FactorSet, method: str, length: int, started: float
) -> dict[str, Any]:
    """The fields of `Result` for a measurement that began at time.monotonic() `started`."""
    return {
        "model": loaded.identity.name,
        "weights_sha256": loaded.weights_sha256,
        "dtype": str(loaded.model.dtype).removeprefix("torch."),
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
    done: dict[tuple[Any, ...], R],
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
    # On stderr, because --json has stdout for itself. A layer of a long text takes seconds: the
    # time left is estimated over the last ten minutes, not rich's half a minute.
    with Progress(*columns, console=Console(stderr=True), speed_estimate_period=600) as progress:
        bar = progress.add_task("", total=sum(each.cost for each in missing))
        for number, each in enumerate(missing, 1):
            progress.update(bar, description=f"{number}/{len(missing)} {each.title}")
            step = each.cost / (each.windows * layers)
            with with_adapter(loaded, each.adapter):
                done[each.key] = each.make(loaded, partial(progress.advance, bar, step))
            results.append(output, done[each.key])
