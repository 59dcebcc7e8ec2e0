"""The steps of a fine-tune: the model, its optimiser, and the position in the data."""

import contextlib
import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from longrope_factors.factor_file.adapters import adapter_files
from longrope_factors.factor_file.errors import UsageError
from longrope_factors.finetuning import attention, devices, held_out, trainable
from longrope_factors.finetuning.data import loader, sequences
from longrope_factors.finetuning.data.batch import Batch
from longrope_factors.finetuning.data.sequences import Kind
from longrope_factors.finetuning.jobs import Job
from longrope_factors.finetuning.journal import Step
from longrope_factors.finetuning.loss import UNTRAINED, Learner, Lesson
from longrope_factors.finetuning.schedule import learning_rate
from longrope_factors.finetuning.watcher import Watcher
from longrope_factors.models import loading, perplexity, rotation
from longrope_factors.models.loading import LoadedModel

# From YaRN (arXiv 2309.00071, section 4.1), which LongRoPE compares with and does not change.
_BETAS, _WEIGHT_DECAY = (0.9, 0.95), 0.0
_CLIP = 1.0
_KINDS: tuple[Kind, ...] = ("long", "short", "passkey", "retrieval")
# Enough tokens in a forward pass to keep the device busy.
_TOKENS_OF_A_PASS = {"cuda": 16384, "cpu": 512}
# Making the sequences of a step takes half as long as a GPU needs to train on them.
_LOADERS = {"cuda": 4}
_FULL = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)


class Trainer:
    """Trains a job's model step by step: holds the model, optimiser and position in the data."""

    def __init__(self, job: Job, accelerator: Accelerator) -> None:
        settings = job.settings
        self._job, self._accelerator = job, accelerator
        loaded = loading.load(settings.model, str(accelerator.device), job.dtype)
        self._model = loaded.model
        # Refuses a model whose rotation cannot be set, or that computes its logits differently.
        few = max(job.corpus.documents, key=len)[:4].tolist()
        perplexity.logits_from(self._model, few, 0, job.long_set, job.identity)
        attention.use_in(self._model, settings.length)
        torch.manual_seed(settings.seed)
        self._tuned = trainable.prepare(self._model, settings)
        if job.start is not None and job.start.adapter is not None:
            folder = adapter_files.folder(job.start.adapter, settings.factors)
            trainable.start(self._tuned, folder)
        self._best: dict[str, Any] | None = None
        learner = Learner(self._model, getattr(torch, job.dtype))
        self._trained = {
            name
            for name, parameter in learner.named_parameters(remove_duplicate=False)
            if parameter.requires_grad
        }
        optimizer = torch.optim.AdamW(
            [parameter for parameter in learner.parameters() if parameter.requires_grad],
            lr=settings.peak_rate,
            betas=_BETAS,
            weight_decay=_WEIGHT_DECAY,
        )
        # Otherwise DDP would synchronise the buffers of the model's own rotary module, which is
        # replaced while the model runs.
        with rotation.rotated_by(self._model, job.long_set, job.identity):
            self._learner, self._optimizer = accelerator.prepare(learner, optimizer)
        self._learner.train()
        groups = accelerator.num_processes // settings.context_parallel
        self._groups, self._group = groups, accelerator.process_index // settings.context_parallel

    def state(self) -> dict[str, Any]:
        """The content of a checkpoint; all processes must call this together."""
        learner, optimizer = self._learner, self._optimizer.optimizer
        return {
            "model": self.weights(),
            "best": self._best,
            "optimizer": get_optimizer_state_dict(learner, optimizer, options=_FULL),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all(),
        }

    def weights(self) -> dict[str, Any]:
        """The trained tensors by name in the model; all processes must call this together."""
        model = get_model_state_dict(self._learner, options=_FULL)
        # torch leaves frozen weights out, but not the second name of one that is tied.
        return {
            name.removeprefix("model."): value
            for name, value in model.items()
            if name in self._trained
        }

    @property
    def best(self) -> dict[str, Any] | None:
        """The weights of the best check so far, as `weights` returns them; None before a check."""
        return None if self._best is None else self._best["weights"]

    def load(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        learner, optimizer = self._learner, self._optimizer.optimizer
        options = StateDictOptions(full_state_dict=True, strict=False)
        model = {f"model.{name}": value for name, value in state["model"].items()}
        set_model_state_dict(learner, model, options=options)
        set_optimizer_state_dict(learner, optimizer, state["optimizer"], options=options)
        self._best = state["best"]
        torch.set_rng_state(state["random"])
        torch.cuda.set_rng_state_all(state["random_cuda"][: torch.cuda.device_count()])

    def steps(self, done: int, watcher: Watcher) -> Iterator[Step]:
        """Train the steps after the first `done`; yields each step when it is done."""
        settings = self._job.settings
        batches = iter(self._batches(done))
        for index in range(done, settings.steps):
            started = time.monotonic()
            step = self._step(index, next(batches), watcher, started)
            interval = settings.check_interval
            if interval and (step.step % interval == 0 or step.step == settings.steps):
                step = self._checked(step)
            yield step

    def _batches(self, done: int) -> Iterable[list[Batch]]:
        """This process's batches of each step after the first `done`."""
        job, size = self._job, self._job.settings.batch
        documents = job.corpus.documents
        planned = sequences.sequences([len(document) for document in documents], job.mixture)
        left = list(itertools.islice(planned, done * size, job.settings.steps * size))
        return loader.of_steps(
            left[self._group :: self._groups],
            documents,
            job.tokenizer,
            job.mixture,
            size=size // self._groups,
            workers=_LOADERS.get(self._accelerator.device.type, 0),
        )

    def _step(self, index: int, batches: Sequence[Batch], watcher: Watcher, started: float) -> Step:
        settings, accelerator = self._job.settings, self._accelerator
        rate = learning_rate(index, settings.steps, settings.warmup, settings.peak_rate)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        counts = [(float(sequence.weights.sum()), len(sequence.token_ids)) for sequence in batches]
        local = torch.tensor(counts, dtype=torch.float64, device=accelerator.device).sum(0)
        # A sequence is counted by every process that shares it.
        weight, tokens = (accelerator.reduce(local) / settings.context_parallel).tolist()
        sums = torch.zeros(len(_KINDS) + 1, 2, device=accelerator.device)
        passes = self._passes(batches)
        for place, of_pass in enumerate(passes):
            last = place == len(passes) - 1
            synced = contextlib.nullcontext() if last else accelerator.no_sync(self._learner)
            with synced:
                # Gradients are averaged over the processes, but should be summed.
                sums += self._backward(of_pass, accelerator.num_processes / weight)
            watcher.sequences(self._groups * len(of_pass))
        norm = accelerator.clip_grad_norm_(self._learner.parameters(), _CLIP)
        sums = accelerator.reduce(sums)
        loss, *by_kind = [total / count if count else None for total, count in sums.tolist()]
        if loss is None or not torch.isfinite(norm):
            raise UsageError(
                f"The gradient of step {index + 1} is not finite (loss {loss}): a lower "
                "--learning-rate may help; the checkpoints before it are kept."
            )
        self._optimizer.step()
        self._optimizer.zero_grad()
        return Step(
            step=index + 1,
            loss=loss,
            **dict(zip(_KINDS, by_kind, strict=True)),
            gradient_norm=float(norm),
            learning_rate=rate,
            tokens=int(tokens),
            seconds=round(time.monotonic() - started, 3),
        )

    def _checked(self, step: Step) -> Step:
        """The step with the outcome of its check; keeps the weights if they are the best so far."""
        held, accelerator = self._job.held_out, self._accelerator
        assert held is not None
        self._model.gradient_checkpointing_disable()  # with it, transformers has no KV cache
        self._model.eval()
        device = accelerator.device.type
        dtype = getattr(torch, self._job.dtype)
        with torch.autocast(device, dtype, dtype != torch.float32):
            outcomes = held_out.asked(
                LoadedModel(self._model, self._job.identity, self._job.settings.model),
                self._job.long_set,
                held.documents[accelerator.process_index :: accelerator.num_processes],
            )
        self._model.train()
        counts = [len(outcomes), *(sum(column) for column in zip(*outcomes, strict=True))]
        sums = torch.zeros(3, dtype=torch.float64, device=accelerator.device)
        sums[: len(counts)] = torch.tensor(counts, dtype=torch.float64)
        count, found, loss = accelerator.reduce(sums).tolist()
        step = replace(step, found=found / count, held_out=loss / count)
        if self._best is None or step.score > tuple(self._best["score"]):
            weights = {name: tensor.clone() for name, tensor in self.weights().items()}
            self._best = {"score": step.score, "weights": weights}
        return step

    def _passes(self, batches: Sequence[Batch]) -> list[list[Batch]]:
        """Group sequences of the same rotation into forward passes of limited size."""
        most = _TOKENS_OF_A_PASS.get(self._accelerator.device.type, 0)
        if self._job.settings.context_parallel > 1:
            most = 0  # the processes share one sequence at a time
        passes: list[list[Batch]] = []
        tokens = 0
        # Sequences of a kind are mostly equally long, and attention is faster for such neighbours.
        for sequence in sorted(batches, key=lambda sequence: _KINDS.index(sequence.kind)):
            tokens += len(sequence.token_ids)
            if not passes or tokens > most or passes[-1][0].is_short != sequence.is_short:
                passes.append([])
                tokens = len(sequence.token_ids)
            passes[-1].append(sequence)
        return passes

    def _backward(self, batches: Sequence[Batch], scale: float) -> torch.Tensor:
        """Run one pass over sequences of the same rotation, and add their gradient.

        Returns [1 + kinds, 2]: the weighted sum of the losses and the sum of their weights, first
        for all tokens as they are trained, then by kind as they are reported.
        """
        job, device = self._job, self._accelerator.device
        factor_set = job.short_set if batches[0].is_short else job.long_set
        weights = np.concatenate([sequence.weights for sequence in batches])
        labels = np.concatenate([sequence.labels for sequence in batches])
        counted = [
            np.concatenate([sequence.counted * (sequence.kind == kind) for sequence in batches])
            for kind in _KINDS
        ]
        tensors = [
            torch.as_tensor(array, dtype=dtype, device=device)[None]
            for array, dtype in (
                (np.concatenate([sequence.token_ids for sequence in batches]), torch.long),
                (np.concatenate([sequence.positions for sequence in batches]), torch.long),
                (np.where(weights > 0, labels, UNTRAINED), torch.long),
                *((array, torch.float32) for array in (weights, *counted)),
            )
        ]
        lengths = tuple(length for sequence in batches for length in sequence.document_lengths)
        lesson = self._lesson(batches, tensors[0], lengths) if job.settings.distill else None
        self._recompute_layers(len(weights))
        with (
            self._sharing(tensors),
            rotation.rotated_by(self._model, factor_set, job.identity),
        ):
            ids, positions, targets, *rows = tensors
            losses = self._learner(ids, positions, targets, lengths, lesson)
            weighted = (losses * rows[0][0]).sum()
            self._accelerator.backward(weighted * scale)
        counts = torch.cat(rows)
        return torch.stack([counts @ losses.detach(), counts.sum(1)], dim=1)

    def _lesson(
        self, batches: Sequence[Batch], ids: torch.Tensor, lengths: tuple[int, ...]
    ) -> Lesson | None:
        """The lesson of the model without its adapter for the plain text [1, n] that it can read.

        None if there is no such text.
        """
        job = self._job
        readable = job.identity.original_max_position_embeddings
        where = np.concatenate(
            [sequence.plain & (max(sequence.document_lengths) <= readable) for sequence in batches]
        )
        if not where.any():
            return None
        positions = torch.cat([torch.arange(length, device=ids.device) for length in lengths])
        with (
            torch.no_grad(),
            self._tuned.disable_adapter(),
            rotation.rotated_by(self._model, job.short_set, job.identity),
        ):
            hidden = self._learner(ids, positions[None], None, lengths)
        return Lesson(hidden, torch.as_tensor(where, device=ids.device))

    def _recompute_layers(self, tokens: int) -> None:
        """Choose whether the backward pass of `tokens` tokens recomputes the layers.

        If it does not, activations are kept: in each layer and for each token, about 16 numbers per
        hidden unit and 6 per unit of the MLP (counted for a Llama with LoRA). They may take a
        quarter of the device's memory.
        """
        config, device = self._model.config.get_text_config(), self._accelerator.device
        hidden = config.hidden_size
        inner = getattr(config, "intermediate_size", 4 * hidden)
        numbers = tokens * config.num_hidden_layers * (16 * hidden + 6 * inner)
        size = getattr(torch, self._job.dtype).itemsize
        shared = self._job.settings.context_parallel > 1
        if shared or numbers * size > devices.memory(device.type) / 4:
            self._model.gradient_checkpointing_enable({"use_reentrant": False})
        else:
            self._model.gradient_checkpointing_disable()

    def _sharing(self, tensors: list[torch.Tensor]) -> contextlib.AbstractContextManager[None]:
        """Cut the tensors [1, n], in place, to this process's share of the sequence."""
        if self._job.settings.context_parallel == 1:
            return contextlib.nullcontext()
        # A share is two pieces of equal length, one early and one late in the sequence.
        pieces = 2 * self._job.settings.context_parallel
        padding = -tensors[0].shape[1] % pieces
        tensors[:] = [torch.nn.functional.pad(tensor, (0, padding)) for tensor in tensors]
        return self._accelerator.maybe_context_parallel(
            buffers=tensors, buffer_seq_dims=[1] * len(tensors), no_restore_buffers=set(tensors)
        )
