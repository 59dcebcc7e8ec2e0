"""A fine-tune, checked as far as possible before the weights are loaded."""

import datetime
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from longrope_factors import __version__
from longrope_factors.factor_file import model_directory, schema
from longrope_factors.factor_file.adapters import adapter_files as adapters
from longrope_factors.factor_file.errors import UsageError
from longrope_factors.factor_file.files.whole_file import replacing
from longrope_factors.factor_file.schema import Adapter, FactorFile, FactorSet, ModelIdentity
from longrope_factors.finetuning import attention, devices, held_out, trainable
from longrope_factors.finetuning.data import batch, documents, exercises, questions
from longrope_factors.finetuning.data.documents import Corpus
from longrope_factors.finetuning.data.sequences import Mixture
from longrope_factors.finetuning.held_out import HeldOut
from longrope_factors.finetuning.journal import Step
from longrope_factors.finetuning.settings import Settings
from longrope_factors.models import loading, tokenizers

RECORD = "finetune.json"
# The number of exercises that are made to check that they fit into a window.
_TRIED = 8
# With `distill`, this share of the text windows has no gaps, as the untuned teacher reads them.
_GAPLESS = 0.5
# Settings that do not change a run's numbers, or that are recorded by content instead of path.
_UNRECORDED = ("model", "factors", "corpus", "output", "device", "checkpoint_every")


@dataclass(frozen=True)
class Job:
    """Settings together with the content of the files that they name.

    Long sequences are trained under `long_set`, short documents under `short_set`, the original
    set. `start` is the set whose adapter training continues from, if any. `dtype` is that of the
    settings or the device's default. `record` identifies the run; its values are those that JSON
    can express.
    """

    settings: Settings
    identity: ModelIdentity
    long_set: FactorSet
    short_set: FactorSet
    start: FactorSet | None
    factor_file: FactorFile
    corpus: Corpus
    tokenizer: Any
    dtype: str
    held_out: HeldOut | None
    record: dict[str, Any]

    @property
    def mixture(self) -> Mixture:
        """How this run's sequences are drawn."""
        return _mixture(self.settings, self.identity.original_max_position_embeddings)


class Material(NamedTuple):
    """What a fine-tune reads: the corpus, the tokenizer that read it, and the held-out text."""

    tokenizer: Any
    corpus: Corpus
    held_out: HeldOut | None


def checked(settings: Settings, read: Material | None = None) -> Job:
    """Check the settings against the files that they name.

    `read` is what `material` returned for them, if it was called before. Raises UsageError, one
    sentence, for a model without rotary embedding or weights, factors that are of another model or
    do not cover the length, an adapter that training cannot continue from, a length below the
    original one, a text that is not UTF-8, a corpus that is too short, and an output folder that
    has another run or other files.
    """
    base = model_directory.base_of(settings.model)
    factor_file = base.load(settings.factors)
    base = base.extended_by(factor_file)
    identity = base.identity
    original = identity.original_max_position_embeddings
    if settings.length < original:
        raise UsageError(
            f"--length {settings.length} is an extension ratio below 1: it should be at least the "
            f"original length, {original}."
        )
    if settings.length > factor_file.max_length:
        raise UsageError(
            f"{settings.factors}: covers {factor_file.max_length} tokens, "
            f"fewer than the {settings.length} of --length."
        )
    model_directory.weights(settings.model)
    index = factor_file.select(settings.length)
    long_set = factor_file.sets[index]
    start = _start(settings, factor_file.sets[: index + 1])
    if any(factor_set.adapter for factor_set in factor_file.sets):
        adapters.check(factor_file, settings.factors, settings.model)
    tokenizer, corpus, held = read or material(settings, original)
    dtype = settings.dtype or devices.dtype(settings.device)
    record = {
        **{name: value for name, value in settings.model_dump().items() if name not in _UNRECORDED},
        "model": identity.name,
        "weights_sha256": model_directory.weights_sha256(settings.model),
        "tokenizer_sha256": model_directory.tokenizer_sha256(settings.model),
        "factors": long_set.fingerprint,
        "start": start and start.fingerprint,
        "corpus": [text.model_dump() for text in corpus.texts],
        "window": settings.window_tokens,
        "learning_rate": settings.peak_rate,
        "exercises": list(questions.NAMES) if settings.retrieval_share else [],
        "dtype": dtype,
        "held_out": held and held.text.model_dump(),
        "check_every": settings.check_interval,
        "check_length": held and held.length,
    }
    job = Job(
        settings=settings,
        identity=identity,
        long_set=long_set,
        short_set=base.factor_set("original", original),
        start=start,
        factor_file=factor_file,
        corpus=corpus,
        tokenizer=tokenizer,
        dtype=dtype,
        held_out=held,
        record=record,
    )
    is_finished(job)
    return job


def material(settings: Settings, original: int) -> Material:
    """The texts of a run for a model of this original length.

    Raises UsageError, one sentence, for a text that is not UTF-8, texts that are too short, a
    held-out text that is one of the corpus, prompts that cannot be made, and a model whose
    attention does not reach over the length.
    """
    attention.check(loading.config_of(settings.model), settings.length)
    tokenizer = tokenizers.of(settings.model)
    longest = settings.whole_tokens if settings.full_share else settings.window_tokens
    corpus = documents.read(settings.corpus, tokenizer, settings.separator, longest)
    if settings.passkey_share:
        # Check that the shortest prompt that the run may draw can be made.
        batch.passkey(tokenizer, min(original + 1, settings.length), original, (0,))
    held = _held_out(settings, corpus, tokenizer, original)
    if settings.retrieval_share:
        _check_exercises(settings, corpus, tokenizer, original)
    return Material(tokenizer, corpus, held)


def _mixture(settings: Settings, original: int) -> Mixture:
    return Mixture(
        length=settings.length,
        short_length=original,
        window=settings.window_tokens,
        whole=settings.whole_tokens,
        gapless=_GAPLESS if settings.distill else 0.0,
        mixed=settings.mixed,
        full_share=settings.full_share,
        retrieval_share=settings.retrieval_share,
        passkey_share=settings.passkey_share,
        packed=settings.context_parallel == 1,
        seed=settings.seed,
    )


def _start(settings: Settings, sets: Sequence[FactorSet]) -> FactorSet | None:
    """The set whose adapter training under the last of `sets` continues from.

    It is that set's own, or else that of the next lower set which has one of the same form:
    progressive extension (LongRoPE, arXiv 2402.13753, section 3.3).
    """
    *lower, long_set = sets
    adapted = [factor_set for factor_set in lower if factor_set.adapter is not None]
    if adapted and not settings.writes_adapter:
        raise UsageError(
            f"{settings.factors}: the set of {adapted[0].max_length} tokens has an adapter for "
            "weights that the result would not have: train an adapter, with --lora and no --merge."
        )
    own = long_set.adapter
    if own is None:
        return next((found for found in reversed(adapted) if _has_form(found, settings)), None)
    if not _has_form(long_set, settings):
        raise UsageError(
            f"{settings.factors}: the set of {long_set.max_length} tokens has an adapter of rank "
            f"{own.rank} and scale {own.scale:g}; training goes on from it with --lora {own.rank} "
            f"and the scale {trainable.SCALE:g}, or starts from a set without one."
        )
    return long_set


def _has_form(factor_set: FactorSet, settings: Settings) -> bool:
    """Whether the set's adapter has the form that this run trains."""
    adapter = factor_set.adapter
    return adapter is not None and (adapter.rank, adapter.scale) == (settings.lora, trainable.SCALE)


def _held_out(settings: Settings, corpus: Corpus, tokenizer: Any, original: int) -> HeldOut | None:
    if settings.held_out is None:
        return None
    length = settings.check_length
    if length is None:
        # Even with the smallest model, a CPU takes minutes for 16k tokens, and fewer are enough.
        slow = not devices.is_gpu(settings.device)
        length = min(settings.length, original * 3 // 2) if slow else settings.length
    prepared = held_out.prepare(settings.held_out, tokenizer, length, settings.seed)
    if corpus.has(prepared.text.sha256):
        raise UsageError(
            f"{settings.held_out}: is a text of --corpus; --held-out should be one that is not "
            "trained on."
        )
    return prepared


def _check_exercises(settings: Settings, corpus: Corpus, tokenizer: Any, original: int) -> None:
    """Raise UsageError if the run's exercises cannot be made."""
    if not tokenizer.is_fast:
        raise UsageError(
            f"{settings.model}: --retrieval-share needs a tokenizer that tells which "
            "characters a token stands for; this one is not from the tokenizers library "
            "(tokenizer.json)."
        )
    budget = batch.least_exercise(_mixture(settings, original))
    for index in range(_TRIED):
        exercises.draw(tokenizer, corpus.documents, budget, (index,))


def is_finished(job: Job) -> bool:
    """Whether the output folder already holds this run's result.

    Raises UsageError if the folder holds other files or another run; for the latter, it names the
    first setting that differs.
    """
    output = job.settings.output
    path = output / RECORD
    if not path.exists():
        # A run that was killed while it wrote its record leaves a hidden file.
        if output.exists() and any(not entry.name.startswith(".") for entry in output.iterdir()):
            raise UsageError(f"{output}: holds other files; -o should be a new folder.")
        return False
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        settings, finished = record["settings"], record["finished"]
        # Versions up to 0.2.0 did not record the tokenizer.
        settings.setdefault("tokenizer_sha256", job.record["tokenizer_sha256"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(f"{path}: is not the record of a fine-tune.") from None
    for name, value in job.record.items():
        if settings.get(name) != value:
            raise UsageError(
                f"{output}: holds a run with another {name} ({json.dumps(settings.get(name))}, not "
                f"{json.dumps(value)}); use the settings of that run, or name a new folder with -o."
            )
    return bool(finished)


def write_record(job: Job, finished: bool, kept: Step | None = None) -> None:
    """Claim the output folder for this run, or record that its result is complete.

    `kept` is the step whose weights are the result, if a check chose it.
    """
    record: dict[str, Any] = {"settings": job.record, "finished": finished}
    if kept is not None:
        record["kept"] = {"step": kept.step, "found": kept.found, "held_out": kept.held_out}
    with replacing(job.settings.output / RECORD) as path:
        path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def result_factors(job: Job, adapter: Adapter | None, kept: Step | None) -> FactorFile:
    """The factor file of the result: the trained set and the sets below it.

    `kept` is the step whose weights are the result, if a check chose it.
    With an `adapter`, the trained set gets it. The sets below, whose own adapters are copied into
    folders named by `lower_adapter`, stay as they were; the original set comes first. Without an
    adapter, all sets are for the fine-tuned weights and have none; after a mixed run, the original
    set, which was trained too, comes first. Perplexities that were measured with other weights are
    left out.
    """
    settings, original = job.settings, job.identity.original_max_position_embeddings
    sets = list(job.factor_file.sets[: job.factor_file.select(settings.length)])
    how = _how(job, kept)
    if adapter is not None:
        if job.long_set.max_length > original and all(
            factor_set.max_length > original for factor_set in sets
        ):
            sets.insert(0, job.short_set)
        tuned = _noted(job.long_set, f"adapter {_since(job)} under this set: {how}")
        tuned = tuned.model_copy(update={"adapter": adapter})
        return schema.build(job.factor_file.model, [*map(_copied, sets), tuned])
    if settings.mixed and job.long_set.max_length > original:
        longer = [factor_set for factor_set in sets if factor_set.max_length > original]
        sets = [job.short_set, *longer]
    noted = []
    for factor_set in [*sets, job.long_set]:
        trained = factor_set is job.long_set or (settings.mixed and factor_set is job.short_set)
        under = "under this set" if trained else "under the longest set"
        whole = factor_set.model_copy(update={"adapter": None})
        noted.append(_noted(whole, f"weights fine-tuned {under}: {how}"))
    return schema.build(job.factor_file.model, noted)


def lower_adapter(factor_set: FactorSet) -> str:
    """The folder that a result keeps the adapter of a set below the trained one in."""
    return f"adapter-{factor_set.max_length}"


def _copied(factor_set: FactorSet) -> FactorSet:
    if factor_set.adapter is None:
        return factor_set
    adapter = factor_set.adapter.model_copy(update={"folder": lower_adapter(factor_set)})
    return factor_set.model_copy(update={"adapter": adapter})


def _since(job: Job) -> str:
    if job.start is None:
        return "trained"
    if job.start is job.long_set:
        return "trained on"
    return f"of the {job.start.max_length} tokens' set trained on"


def _how(job: Job, kept: Step | None) -> str:
    settings = job.settings
    several = "s" if settings.batch > 1 else ""
    steps = f"{settings.steps} steps of {settings.batch}"
    sequences = f"{steps} sequence{several} of {settings.length} tokens"
    if settings.positions == "skip":
        sequences = (
            f"{steps} window{several} of {settings.window_tokens} tokens"
            f" at positions skipped up to {settings.length}"
        )
    parts = [
        "in full" if settings.lora is None else f"by LoRA of rank {settings.lora}",
        sequences,
        f"texts {' '.join(text.name for text in job.corpus.texts)}",
        f"learning rate {settings.peak_rate:g}",
    ]
    if settings.full_share:
        whole = f"of {settings.whole_tokens} tokens, whole"
        parts.append(f"{settings.full_share:g} of the sequences {whole}")
    if settings.mixed:
        parts.append(f"{settings.mixed:g} of the tokens in short documents")
    if settings.passkey_share:
        parts.append(f"{settings.passkey_share:g} of the sequences passkey prompts")
    if settings.retrieval_share:
        kinds = "; ".join(questions.NAMES)
        parts.append(f"{settings.retrieval_share:g} of the sequences retrieval exercises ({kinds})")
    if settings.distill:
        parts.append("plain text taught by the untuned model")
    if kept is not None and job.held_out is not None:
        parts.append(
            f"weights of step {kept.step}, which answered {kept.found:.2f} of the questions about "
            f"{job.held_out.length} tokens of {job.held_out.text.name}"
        )
    return ", ".join(parts)


def _noted(factor_set: FactorSet, note: str) -> FactorSet:
    provenance = factor_set.provenance.model_copy(
        update={
            "source": f"{factor_set.provenance.source}; {note}",
            "date": datetime.date.today().isoformat(),
            "tool_version": __version__,
            "perplexity_before": None,
            "perplexity_after": None,
        }
    )
    return factor_set.model_copy(update={"provenance": provenance})
