"""A loaded model with a factor set's adapter, as vLLM serves requests of that set."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from longrope_factors.models.loading import LoadedModel


@contextlib.contextmanager
def with_adapter(loaded: LoadedModel, folder: Path | None) -> Iterator[None]:
    """While open, the model runs with the adapter in `folder`, computed in the model's own dtype.

    Afterwards, and if `folder` is None, it has its own weights. Call `adapter.check` first.
    """
    if folder is None:
        yield
        return
    from peft import PeftModel

    # peft works in place: loaded.model has the adapter's layers until they are unloaded.
    adapted = PeftModel.from_pretrained(loaded.model, folder, autocast_adapter_dtype=False)
    adapted.eval()
    try:
        yield
    finally:
        adapted.unload()
