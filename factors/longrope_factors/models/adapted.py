"""A loaded model that runs with a factor set's adapter, as requests of that set are served."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from longrope_factors.models.loading import LoadedModel


@contextlib.contextmanager
def with_adapter(loaded: LoadedModel, folder: Path | None) -> Iterator[None]:
    """While open, the model runs with the adapter in `folder`, computed in the model's own dtype.

    None leaves the model's own weights, and so does the end. `adapter.check` should have passed.
    """
    if folder is None:
        yield
        return
    from peft import PeftModel

    # In place: loaded.model has the adapter's layers until they are unloaded.
    adapted = PeftModel.from_pretrained(loaded.model, folder, autocast_adapter_dtype=False)
    adapted.eval()
    try:
        yield
    finally:
        adapted.unload()
