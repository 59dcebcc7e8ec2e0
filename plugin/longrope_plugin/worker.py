"""The worker process of a longrope model: named by `parallel_config.worker_cls`."""

from typing import Any

from longrope_plugin import adapters, model_runner, positions_check
from longrope_plugin.compat import hooks
from longrope_plugin.rotation import rotary, transformers_rotary
from longrope_plugin.selection import Selection

ADAPTERS_ON_A_CPU = "longrope_plugin.grouped_adapters.GroupedAdapters"


class LongRoPEWorker(hooks.platform_worker()):  # type: ignore[misc]
    """The platform's own worker, whose model rotates by factor sets on either model runner."""

    def init_device(self) -> None:
        """Builds the model runner, with factor sets."""
        if self._applies_adapters_on_a_cpu():
            hooks.use_punica_wrapper(ADAPTERS_ON_A_CPU)
        super().init_device()
        if not self.use_v2_model_runner:
            model_runner.add_factor_sets(self.model_runner)

    def load_model(self, *args: Any, **kwargs: Any) -> None:
        """Loads the model; raises ValueError if anything in it but our layers reads positions.

        A worker that joins a running engine (elastic expert parallelism) does not look for that,
        because the other workers would have to take part.
        """
        selection = Selection.from_vllm_config(self.vllm_config)
        assert selection is not None
        self.factor_sets = selection.factor_file.sets
        parameters = self.model_config.hf_text_config.rope_parameters
        hooks.replace_rotary_embedding(rotary.LayerMaker(selection.factor_file, parameters))
        super().load_model(*args, **kwargs)
        if self.use_v2_model_runner:
            from longrope_plugin import model_state  # needs Triton, as V2 does

            model_state.add_factor_sets(self.model_runner.model_state)
        transformers_rotary.replace_rotary_modules(
            self.model_runner.get_model(), selection.factor_file, self.model_config.dtype
        )
        if self._applies_adapters_on_a_cpu():
            from longrope_plugin import grouped_adapters, plain_twin  # need vLLM's parts for CPUs

            model = self.model_runner.get_model()
            grouped = grouped_adapters.number_layers(model, self.vllm_config)
            if grouped is not None:
                plain_twin.run_plain_steps(model, self.vllm_config, lambda: bool(grouped.groups))
        if not kwargs.get("load_dummy_weights"):
            positions_check.check(self.model_runner)

    def sleep(self, level: int = 1) -> None:
        """Frees the device's memory; raises ValueError if adapters of ours would be lost."""
        if level == 2 and self._has_adapters_of_sets():
            raise ValueError(
                "Sleep at level 2 discards the adapters of the factor sets, which vLLM would not "
                "load again: wake the engine up, and let it sleep at level 1."
            )
        super().sleep(level)

    def reload_weights(self, *args: Any, **kwargs: Any) -> None:
        """Replaces the weights; raises ValueError if adapters of ours were trained on the old."""
        if self._has_adapters_of_sets():
            raise ValueError(f"Weights are to be loaded anew, but {adapters.FOR_THESE_WEIGHTS}")
        super().reload_weights(*args, **kwargs)

    def _has_adapters_of_sets(self) -> bool:
        return any(factor_set.adapter is not None for factor_set in self.factor_sets)

    def _applies_adapters_on_a_cpu(self) -> bool:
        from vllm.platforms import current_platform

        return self.vllm_config.lora_config is not None and current_platform.is_cpu()
