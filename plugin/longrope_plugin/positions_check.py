"""Checks, once a model is loaded, that only our rotary layers read positions.

Positions reach the model packed with a factor set, and our layers unpack them. Anything else that
reads them (another rotation, learned positions, or an attention that is scaled by position) would
take them for positions far beyond the window and silently give wrong results.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from longrope_plugin.compat import hooks
from longrope_plugin.rotation.packing import pack
from longrope_plugin.rotation.rotary import LongRoPERotaryEmbedding
from longrope_plugin.rotation.transformers_rotary import TransformersRotaryEmbedding

OURS = (LongRoPERotaryEmbedding, TransformersRotaryEmbedding)
_TOKENS = 2


def check(runner: Any) -> None:
    """Runs two tokens through a model runner's model and watches what reads their positions.

    Raises ValueError, a sentence, if anything other than our layers reads them, or if none of our
    layers does.
    """
    with torch.device(runner.device):
        positions = pack(torch.arange(_TOKENS), torch.zeros(_TOKENS, dtype=torch.int64))
        tokens = torch.zeros(_TOKENS, dtype=torch.int64)
    rows = runner.model_config.mrope_num_dims if runner.model_config.uses_mrope else None
    if rows is not None:
        positions = positions.repeat(rows, 1)
    watch = _Watch(runner.get_model(), positions)
    with watch.modules(), watch:
        hooks.run_model(runner, tokens, positions)
    name = runner.vllm_config.model_config.model
    if watch.others:
        layer, module = watch.others[0]
        raise ValueError(
            f"{name} reads positions in {layer or 'its root'} ({type(module).__name__}), beside "
            "its longrope layers: it cannot be served with per-request factor sets."
        )
    if not watch.ours:
        raise ValueError(
            f"No layer of {name} is rotated by longrope, though its config says so: it cannot be "
            "served with per-request factor sets."
        )


class _Watch(TorchDispatchMode):
    """Notes every operation that reads `positions`, and the module that it belongs to.

    Making a view of the positions is not a reading; computing anything from them is.
    """

    def __init__(self, model: nn.Module, positions: torch.Tensor) -> None:
        super().__init__()
        self.ours = 0  # readings by our layers
        self.others: list[tuple[str, nn.Module]] = []
        self._memory = positions.untyped_storage().data_ptr()
        self._names = {module: name for name, module in model.named_modules()}
        self._within: list[nn.Module] = [model]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(map(self._is_positions, tree_iter((args, kwargs)))) and not self._is_view(result):
            module = self._within[-1]
            if isinstance(module, OURS):
                self.ours += 1
            else:
                self.others.append((self._names.get(module, ""), module))
        return result

    @contextmanager
    def modules(self) -> Iterator[None]:
        """Keeps track of the module that is running."""
        entered = nn.modules.module.register_module_forward_pre_hook(
            lambda module, _: self._within.append(module)
        )
        left = nn.modules.module.register_module_forward_hook(
            lambda module, *_: self._within.pop() and None, always_call=True
        )
        try:
            yield
        finally:
            entered.remove()
            left.remove()

    def _is_positions(self, value: Any) -> bool:
        return (
            isinstance(value, torch.Tensor)
            and value.layout == torch.strided
            and value.untyped_storage().data_ptr() == self._memory
        )

    def _is_view(self, result: Any) -> bool:
        tensors = [value for value in tree_iter(result) if isinstance(value, torch.Tensor)]
        return bool(tensors) and all(map(self._is_positions, tensors))
