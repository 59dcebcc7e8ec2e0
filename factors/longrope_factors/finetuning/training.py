"""Run a fine-tune from its settings to its result; it resumes where an earlier run stopped."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from safetensors import SafetensorError

from longrope_factors.factor_file.errors import UsageError
from longrope_factors.factor_file.files import alone
from longrope_factors.finetuning import checkpoint, curve, devices, jobs, journal, output
from longrope_factors.finetuning.jobs import Job, Material
from longrope_factors.finetuning.journal import Step
from longrope_factors.finetuning.settings import Settings
from longrope_factors.finetuning.trainer import Trainer
from longrope_factors.finetuning.watcher import Watcher
from longrope_factors.models import compute

LOSSES, CURVE, CHECKPOINTS = "loss.jsonl", "loss.png", "checkpoints"


@dataclass(frozen=True)
class Result:
    """A finished fine-tune: its folder and its steps."""

    output: Path
    steps: list[Step]


def run(
    settings: Settings, watcher: Watcher | None = None, material: Material | None = None
) -> Result:
    """Fine-tune as `settings` say, from the last checkpoint of the same run if there is one.

    `material` is what `jobs.material` returned for these settings, if it was read before. A run
    that was killed at any point resumes and reaches the same result. Raises UsageError, one
    sentence: before the weights are loaded, for what `jobs.checked` checks and for another run at
    work in the folder; later, for a model that cannot be trained, a checkpoint that cannot be read
    or written, and a loss that is not finite.
    """
    compute.check_here(settings.device)  # accelerate would use the CPU if there is no GPU
    watcher = watcher or Watcher()
    job = jobs.checked(settings, material)
    folder = settings.output
    if jobs.is_finished(job):
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)  # a killed run may have left them
        return Result(folder, journal.read(folder / LOSSES))
    accelerator = devices.accelerator(settings)
    if not accelerator.is_main_process:
        return _trained(job, accelerator, watcher)
    folder.mkdir(parents=True, exist_ok=True)
    with alone.at_work_on(folder):
        return _trained(job, accelerator, watcher)


def _trained(job: Job, accelerator: Accelerator, watcher: Watcher) -> Result:
    settings, folder, main = job.settings, job.settings.output, accelerator.is_main_process
    accelerator.wait_for_everyone()  # until all of them have seen that the folder is free
    if main:
        jobs.write_record(job, finished=False)
    trainer = Trainer(job, accelerator)
    # Every process loads the checkpoint; after that, the main process shortens the log.
    saved = checkpoint.load(folder / CHECKPOINTS, watcher.warn if main else lambda _: None)
    done = 0
    if saved is not None:
        done, state = saved
        trainer.load(state)
    accelerator.wait_for_everyone()
    if main:
        watcher.begin(journal.truncate(folder / LOSSES, done))
    for step in trainer.steps(done, watcher):
        if main:
            journal.append(folder / LOSSES, step)
            watcher.step(step)
        if step.step % settings.checkpoint_every == 0 or step.step == settings.steps:
            state = trainer.state()
            if main:
                checkpoint.save(folder / CHECKPOINTS, step.step, state)
            accelerator.wait_for_everyone()
    weights = trainer.weights() if trainer.best is None else trainer.best
    if main:
        _finish(job, weights, watcher)
    accelerator.wait_for_everyone()
    return Result(folder, journal.read(folder / LOSSES))


def _finish(job: Job, trained: dict[str, Any], watcher: Watcher) -> None:
    folder = job.settings.output
    steps = journal.read(folder / LOSSES)
    kept = journal.best(steps)
    try:
        lost = output.write(job, trained, kept)
    except SafetensorError as error:
        raise UsageError(
            f"{folder}: the weights cannot be written ({error}); the last checkpoint is kept."
        ) from None
    for sentence in lost:
        watcher.warn(sentence)
    curve.draw(steps, f"{job.identity.name}, {job.settings.length:,} tokens", folder / CURVE)
    jobs.write_record(job, finished=True, kept=kept)
    shutil.rmtree(folder / CHECKPOINTS)
