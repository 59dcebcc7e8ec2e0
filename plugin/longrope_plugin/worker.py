"""The worker process of a longrope model: named by `parallel_config.worker_cls`."""

from typing import Any

from longrope_plugin import compat
from longrope_plugin.model_runner import add_factor_sets


class LongRoPEWorker(compat.platform_worker()):  # type: ignore[misc]
    """The platform's own worker, whose model rotates with factor sets on either model runner."""

    def init_device(self) -> None:
        """Builds the model runner, with factor sets."""
        compat.replace_rotary_embedding()
        compat.replace_model_state()
        super().init_device()
        if self.use_v2_model_runner:
            return
        if self.device.type != "cpu" and not self.model_config.enforce_eager:
            raise ValueError(
                "Model Runner V1 replays CUDA graphs with positions that hold no factor set: "
                "use V2 (unset VLLM_USE_V2_MODEL_RUNNER) or --enforce-eager."
            )
        add_factor_sets(self.model_runner)

    def load_model(self, *args: Any, **kwargs: Any) -> None:
        """Loads the model; raises ValueError if longrope is not its only rotary embedding."""
        super().load_model(*args, **kwargs)
        for name, module in self.model_runner.get_model().named_modules():
            if isinstance(module, compat.RotaryEmbeddingBase):  # ours is none
                raise ValueError(
                    f"Layer {name} of {self.model_config.model} is a "
                    f"{type(module).__name__}: a model that mixes longrope with another rotary "
                    "embedding cannot be served with per-request factor sets."
                )
