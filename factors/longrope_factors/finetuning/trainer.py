"""The steps of a fine-tune: the model, its optimiser, and the place in the data."""

import contextlib
import itertools
import time
from collections.abc import Iterator, Sequence
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

from longrope_factors.factor_file.errors import UsageError
from longrope_factors.finetuning import attention, devices, held_out, trainable
from longrope_factors.finetuning.data import batch, sequences
from longrope_factors.finetuning.data.batch import Batch
from longrope_factors.finetuning.data.sequences import Kind
from longrope_factors.finetuning.job import Job
from longrope_factors.finetuning.journal import Step
from longrope_factors.finetuning.loss import Learner, Lesson
from longrope_factors.finetuning.schedule import learning_rate
from longrope_factors.finetuning.watcher import Watcher
from longrope_factors.models import loading, perplexity, rotation
from longrope_factors.models.loading import LoadedModel

# YaRN's, which LongRoPE compares with and does not change: arXiv 2309.00071, section 4.1.
_BETAS, _WEIGHT_DECAY = (0.9, 0.95), 0.0
_CLIP = 1.0
_KINDS: tuple[Kind, ...] = ("long", "short", "passkey", "retrieval")
# As many as keep the device busy.
_TOKENS_OF_A_PASS = {"cuda": 16384, "cpu": 512}
_FULL = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)


class Trainer:
    """Model, optimiser and place in the data: what is between a job and its steps."""

    def __init__(self, job: Job, accelerator: Accelerator) -> None:
        settings = job.settings
        self._job, self._accelerator = job, accelerator
        loaded = loading.load(settings.model, str(accelerator.device), job.dtype)
        self._model = loaded.model
        # Refuses a model whose rotation cannot be set, or that makes its logits otherwise than we.
        few = max(job.corpus.documents, key=len)[:4].tolist()
        perplexity.logits_from(self._model, few, 0, job.long_set, job.identity)
        attention.use_in(self._model)
        torch.manual_seed(settings.seed)
        self._tuned = trainable.prepare(self._model, settings)
        if job.start is not None:
            trainable.start(self._tuned, job.start)
        self._best: dict[str, Any] | None = None
        learner = Learner(self._model, getattr(torch, job.dtype))
        optimizer = torch.optim.AdamW(
            [each for each in learner.parameters() if each.requires_grad],
            lr=settings.peak_rate,
            betas=_BETAS,
            weight_decay=_WEIGHT_DECAY,
        )
        # DDP would keep the buffers of the model's own rotary module in step, which come and go.
        with rotation.rotated_by(self._model, job.long_set, job.identity):
            self._learner, self._optimizer = accelerator.prepare(learner, optimizer)
        self._learner.train()
        groups = accelerator.num_processes // settings.context_parallel
        self._groups, self._group = groups, accelerator.process_index // settings.context_parallel

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds; all processes must ask for it together."""
        learner, optimizer = self._learner, self._optimizer.optimizer
        return {
            "model": self.weights(),
            "best": self._best,
            "optimizer": get_optimizer_state_dict(learner, optimizer, options=_FULL),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all(),
        }

    def weights(self) -> dict[str, Any]:
        """What is trained, by its names in the model; all processes must ask for it together."""
        model = get_model_state_dict(self._learner, options=_FULL)
        return {name.removeprefix("model."): value for name, value in model.items()}

    @property
    def best(self) -> dict[str, Any] | None:
        """The weights of the best check yet, as `weights` has them; None where there was none."""
        return None if self._best is None else self._best["weights"]

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        learner, optimizer = self._learner, self._optimizer.optimizer
        options = StateDictOptions(full_state_dict=True, strict=False)
        model = {f"model.{name}": value for name, value in state["model"].items()}
        set_model_state_dict(learner, model, options=options)
        set_optimizer_state_dict(learner, optimizer, state["optimizer"], options=options)
        self._best = state["best"]
        torch.set_rng_state(state["random"])
        torch.cuda.set_rng_state_all(state["random_cuda"][: torch.cuda.device_count()])

    def steps(self, done: int, watcher: Watcher) -> Iterator[Step]:
        """Train the steps after the first `done`, giving each when it is done."""
        settings = self._job.settings
        documents = self._job.corpus.documents
        planned = sequences.sequences([len(each) for each in documents], self._job.mixture)
        planned = itertools.islice(planned, done * settings.batch, None)
        for index in range(done, settings.steps):
            started = time.monotonic()
            of_step = list(itertools.islice(planned, settings.batch))
            mine = [
                batch.of(each, documents, self._job.tokenizer, self._job.mixture)
                for each in of_step[self._group :: self._groups]
            ]
            step = self._step(index, mine, watcher, started)
            interval = settings.check_interval
            if interval and (step.step % interval == 0 or step.step == settings.steps):
                step = self._checked(step)
            yield step

    def _step(self, index: int, batches: Sequence[Batch], watcher: Watcher, started: float) -> Step:
        settings, accelerator = self._job.settings, self._accelerator
        rate = learning_rate(index, settings.steps, settings.warmup, settings.peak_rate)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        counts = [(float(each.weights.sum()), len(each.token_ids)) for each in batches]
        local = torch.tensor(counts, dtype=torch.float64, device=accelerator.device).sum(0)
        # Processes that share a sequence count it each.
        weight, tokens = (accelerator.reduce(local) / settings.context_parallel).tolist()
        sums = torch.zeros(len(_KINDS) + 1, 2, device=accelerator.device)
        passes = self._passes(batches)
        for place, of_pass in enumerate(passes):
            last = place == len(passes) - 1
            synced = contextlib.nullcontext() if last else accelerator.no_sync(self._learner)
            with synced:
                # Gradients are averaged over the processes, and should be summed.
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
        """The step with what is found after it; its weights are kept if they find most."""
        held, accelerator = self._job.held_out, self._accelerator
        assert held is not None
        self._model.gradient_checkpointing_disable()  # it makes transformers forget what was read
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
        """Sequences of one rotation together, as many as a forward pass takes."""
        most = _TOKENS_OF_A_PASS.get(self._accelerator.device.type, 0)
        if self._job.settings.context_parallel > 1:
            most = 0  # processes share out one sequence at a time
        passes: list[list[Batch]] = []
        tokens = 0
        # Those of one kind are as long, mostly, and attention is faster where they are neighbours.
        for each in sorted(batches, key=lambda batch: _KINDS.index(batch.kind)):
            tokens += len(each.token_ids)
            if not passes or tokens > most or passes[-1][0].is_short != each.is_short:
                passes.append([])
                tokens = len(each.token_ids)
            passes[-1].append(each)
        return passes

    def _backward(self, batches: Sequence[Batch], scale: float) -> torch.Tensor:
        """Add the gradient of sequences of one rotation, from one pass.

        Gives [1 + kinds, 2]: sum and count of the losses, of all and by kind.
        """
        job, device = self._job, self._accelerator.device
        factor_set = job.short_set if batches[0].is_short else job.long_set
        weights = np.concatenate([each.weights for each in batches])
        counted = [
            np.concatenate([each.counted * (each.kind == kind) for each in batches])
            for kind in _KINDS
        ]
        tensors = [
            torch.as_tensor(array, dtype=dtype, device=device)[None]
            for array, dtype in (
                (np.concatenate([each.token_ids for each in batches]), torch.long),
                (np.concatenate([each.positions for each in batches]), torch.long),
                (np.concatenate([each.labels for each in batches]), torch.long),
                *((array, torch.float32) for array in (weights, *counted)),
            )
        ]
        lengths = tuple(length for each in batches for length in each.document_lengths)
        lesson = self._lesson(batches, tensors[0]) if job.settings.distill else None
        self._recompute_layers(len(weights))
        with (
            self._sharing(tensors),
            rotation.rotated_by(self._model, factor_set, job.identity),
        ):
            ids, positions, labels, *rows = tensors
            losses = self._learner(ids, positions, labels, lengths, lesson)
            weighted = (losses * rows[0][0]).sum()
            self._accelerator.backward(weighted * scale)
        counts = torch.cat(rows)
        return torch.stack([counts @ losses.detach(), counts.sum(1)], dim=1)

    def _lesson(self, batches: Sequence[Batch], ids: torch.Tensor) -> Lesson | None:
        """What the model without its adapter says of plain text [1, n] that it can read."""
        job = self._job
        readable = job.identity.original_max_position_embeddings
        where = np.concatenate(
            [each.plain & (max(each.document_lengths) <= readable) for each in batches]
        )
        if not where.any():
            return None
        lengths = tuple(length for each in batches for length in each.document_lengths)
        positions = torch.cat([torch.arange(length, device=ids.device) for length in lengths])
        with (
            torch.no_grad(),
            self._tuned.disable_adapter(),
            rotation.rotated_by(self._model, job.short_set, job.identity),
        ):
            hidden = self._learner(ids, positions[None], None, lengths)
        return Lesson(hidden, torch.as_tensor(where, device=ids.device))

    def _recompute_layers(self, tokens: int) -> None:
        """Have the layers of a pass of so many tokens computed again in the backward pass, or not.

        Kept activations are some 16 numbers for each of the hidden and 6 for each of the MLP's
        (counted for a Llama with LoRA); they may take a quarter of the device's memory.
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
        """Cut the tensors [1, n] in place into this process's share of the sequence."""
        if self._job.settings.context_parallel == 1:
            return contextlib.nullcontext()
        # A share is a multiple of two pieces long, one early and one late.
        pieces = 2 * self._job.settings.context_parallel
        padding = -tensors[0].shape[1] % pieces
        tensors[:] = [torch.nn.functional.pad(each, (0, padding)) for each in tensors]
        return self._accelerator.maybe_context_parallel(
            buffers=tensors, buffer_seq_dims=[1] * len(tensors), no_restore_buffers=set(tensors)
        )
