"""The worker process of a longrope model: named by `parallel_config.worker_cls`."""

from typing import Any

from longrope_plugin import compat, model_runner


class LongRoPEWorker(compat.platform_worker()):  # type: ignore[misc]
    """The platform's own worker, whose model rotates with factor sets on either model runner."""

    def init_device(self) -> None:
        """Builds the model runner, with factor sets."""
        compat.replace_rotary_embedding()
        super().init_device()
        if not self.use_v2_model_runner:
            model_runner.add_factor_sets(self.model_runner)

    def load_model(self, *args: Any, **kwargs: Any) -> None:
        """Loads the model; raises ValueError if longrope is not its only rotary embedding."""
        super().load_model(*args, **kwargs)
        if self.use_v2_model_runner:
            from longrope_plugin import model_state  # needs Triton, as V2 does

            model_state.add_factor_sets(self.model_runner.model_state)
        for name, module in self.model_runner.get_model().named_modules():
            if isinstance(module, compat.RotaryEmbeddingBase):  # ours is none
                raise ValueError(
                    f"Layer {name} of {self.model_config.model} is a "
                    f"{type(module).__name__}: a model that mixes longrope with another rotary "
                    "embedding cannot be served with per-request factor sets."
                )
