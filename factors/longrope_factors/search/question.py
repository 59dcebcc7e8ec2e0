"""Plan a search before loading weights: check the settings, prepare documents, space and seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from longrope_factors.factor_file import hf, methods, model_directory, schema
from longrope_factors.factor_file.base import Base
from longrope_factors.factor_file.errors import UsageError
from longrope_factors.factor_file.methods import Rescaling
from longrope_factors.factor_file.schema import (
    CorpusText,
    FactorFile,
    FactorSet,
    Method,
    ModelIdentity,
)
from longrope_factors.models import texts
from longrope_factors.models.reference import frequencies
from longrope_factors.search import documents
from longrope_factors.search.documents import Document
from longrope_factors.search.evolving.genome import Genome
from longrope_factors.search.evolving.shape import (
    Covering,
    Critical,
    Monotone,
    Piecewise,
    Shape,
    theoretical_critical_pair,
)
from longrope_factors.search.evolving.space import START_TOKENS, Space, relative
from longrope_factors.search.settings import Settings, SpaceSettings

_SEEDS: tuple[Method, ...] = ("pi", "ntk", "yarn")
# Upper bound of the factors over the extension ratio (arXiv 2402.13753, Table 1).
_HEADROOM = 1.25


@dataclass(frozen=True)
class Question:
    """What to search for: the factors of which model, at which length, on which texts.

    The searched factors are relative to the model's own rotation. In a second search, `base` is the
    set that the model was fine-tuned with: the searched factors are then relative to its factors,
    and the extension ratio to its max_length. `starts` are known sets that become seeds too, such
    as the long sets when short sets are searched again. `name` is the model's name in the factor
    file; the default is its folder's name.
    """

    model_dir: Path
    length: int
    corpus: tuple[Path, ...]
    space: SpaceSettings = field(default_factory=SpaceSettings)
    base: FactorSet | None = None
    starts: tuple[FactorSet, ...] = ()
    dtype: str = "bfloat16"
    name: str | None = None


@dataclass(frozen=True)
class Plan:
    """A question and all that follows from it; `seeds` are by name.

    `settings` is what the factor file records, and the log besides the tokenizer's hash.
    """

    question: Question
    evolution: Settings
    base: Base
    space: Space
    seeds: dict[str, Genome]
    plain: Genome
    documents: list[Document]
    corpus: tuple[CorpusText, ...]
    settings: dict[str, Any]

    @property
    def identity(self) -> ModelIdentity:
        """The model's identity."""
        return self.base.identity


def plan(question: Question, evolution: Settings) -> Plan:
    """Check the question and prepare its search.

    Raises UsageError or FactorFileError, in one sentence, if the search is not possible.
    """
    model = model_directory.base_of(question.model_dir, question.name)
    identity, own = model.identity, model.own
    model_directory.weights(question.model_dir)
    from_length = (
        question.base.max_length
        if question.base is not None
        else identity.original_max_position_embeddings
    )
    ratio = question.length / from_length
    if ratio < 1 and not question.starts:
        raise UsageError(
            f"--length {question.length} is an extension ratio below 1: it should be at least "
            f"{from_length}, or --start-from should name the sets to start from."
        )
    read = texts.read(question.corpus, question.model_dir, _tokens(question))
    reference = own if question.base is None else question.base
    base = reference.factors
    ratio = max(ratio, 1.0)
    starts = tuple(relative(factor_set, base) for factor_set in question.starts)
    largest = max([ratio, *(max(start.factors) for start in starts)])
    upper = question.space.max_factor or _HEADROOM * largest
    total = max(question.length / identity.original_max_position_embeddings, 1.0)
    may_start = question.space.search_start_tokens and model.is_plain
    space = Space(
        base=base,
        upper=upper,
        step=question.space.step,
        shape=_shape(question, model, ratio, largest),
        # Start tokens rotate by plain RoPE; a model with a scaled rotation never did.
        start_tokens=START_TOKENS if may_start else (0,),
        attention=_attention(question.space.attention_factor, model, total),
    )
    seeds = {
        name: space.genome(
            _bounded(start, upper),
            factor_set.start_tokens if factor_set.start_tokens in space.start_tokens else 0,
        )
        for name, factor_set, start in zip(
            _named(question.starts), question.starts, starts, strict=True
        )
    } | {
        method: space.genome(
            _bounded(_on_top(methods.rescale(method, identity, ratio), reference), upper)
        )
        for method in _SEEDS
    }
    return Plan(
        question=question,
        evolution=evolution,
        base=model,
        space=space,
        seeds=seeds,
        plain=Genome(
            tuple(mine / other for mine, other in zip(own.factors, base, strict=True)),
            0,
            own.attention_factor,
        ),
        documents=_documents(question, read, evolution.seed),
        corpus=tuple(CorpusText(name=text.name, sha256=text.sha256) for text in read),
        settings=_recorded(question, evolution, model, space, read),
    )


def _named(starts: Sequence[FactorSet]) -> list[str]:
    """A name for each set to start from, numbered if several have one method and length."""
    names = [f"{start.provenance.method} {start.max_length}" for start in starts]
    return [
        name if names.count(name) == 1 else f"{name} ({number})"
        for number, name in enumerate(names, 1)
    ]


def _tokens(question: Question) -> int:
    """The number of tokens of one document.

    Raises UsageError if the short windows are not shorter than the length.
    """
    window = question.space.windows_of
    if window is None:
        return question.length
    if window >= question.length:
        raise UsageError(
            f"--windows-of is {window}; it should be below the {question.length} of "
            "--length, or left out."
        )
    return window * documents.WINDOWS


def _documents(question: Question, read: list[texts.Text], seed: int) -> list[Document]:
    tokens = _tokens(question)
    prepared = documents.prepared(
        read, question.model_dir, tokens, question.space.windows, question.space.objective, seed
    )
    window = question.space.windows_of
    if window is None:
        return prepared
    return [documents.skipping_to(question.length, document, window, seed) for document in prepared]


def _on_top(rescaling: Rescaling, reference: Rescaling | FactorSet) -> Rescaling:
    """`rescaling` times the attention factor of what it rescales; its factors stay relative."""
    return Rescaling(rescaling.factors, rescaling.attention_factor * reference.attention_factor)


def _bounded(rescaling: Rescaling, upper: float) -> Rescaling:
    factors = tuple(min(factor, upper) for factor in rescaling.factors)
    return Rescaling(factors, rescaling.attention_factor)


def _shape(question: Question, model: Base, ratio: float, largest: float) -> Shape:
    """The shape; `largest` is the ratio or the largest factor of the sets to start from."""
    match question.space.shape:
        case "monotone":
            return Monotone()
        case "covering":
            _check_reached(question.space, ratio)
            return Covering(_critical_pair(model), ratio)
        case "piecewise":
            _check_reached(question.space, largest)
            return Piecewise(largest)
        case "critical":
            pairs = model.identity.rotary_dim // 2
            pair = question.space.critical_pair
            if pair is None:
                pair = min(max(_critical_pair(model), 1), pairs - 1)
            if not 1 <= pair < pairs:
                raise UsageError(
                    f"critical_pair is {pair}; it should be from 1 to {pairs - 1}, because the "
                    f"model has {pairs} dimension pairs."
                )
            return Critical(pair, fixed=question.space.critical_pair is not None)


def _check_reached(space: SpaceSettings, factor: float) -> None:
    """Raise UsageError if `factor`, which the shape gives to pairs, is above max_factor."""
    if space.max_factor is not None and space.max_factor < factor:
        raise UsageError(
            f"max_factor is {space.max_factor:g}; with shape {space.shape} it should be at least "
            f"{factor:g}, which the last pairs have there, or left out."
        )


def _critical_pair(model: Base) -> int:
    return theoretical_critical_pair(
        (frequencies(model.identity) / np.array(model.own.factors)).tolist(),
        model.identity.original_max_position_embeddings,
    )


def _attention(
    wanted: float | Literal["search"] | None, model: Base, total: float
) -> tuple[float, float]:
    """The range of the attention factor at extension ratio `total` from the original length."""
    own = model.own.attention_factor
    if wanted == "search":
        # With twice YaRN's coefficient, the range reaches well beyond every method's value.
        return own, own * max(1.0 + 0.2 * math.log(total), 1.05)
    if wanted is None:
        original = model.identity.original_max_position_embeddings
        wanted = own * hf.attention_factor(total, original)
    return wanted, wanted


def _recorded(
    question: Question, evolution: Settings, model: Base, space: Space, read: list[texts.Text]
) -> dict[str, Any]:
    base = question.base
    if base is None and not model.is_plain:
        base = model.factor_set("original", model.identity.original_max_position_embeddings)
    # Without iterations, because a search may be resumed with more of them.
    chosen = {name: value for name, value in evolution.model_dump().items() if name != "iterations"}
    return {
        "weights_sha256": model_directory.weights_sha256(question.model_dir),
        "corpus_sha256": [text.sha256 for text in read],
        "length": question.length,
        "windows": question.space.windows,
        **({} if question.space.windows_of is None else {"windows_of": question.space.windows_of}),
        "objective": question.space.objective,
        "shape": question.space.shape,
        "critical_pair": question.space.critical_pair,
        "step": space.step,
        "max_factor": space.upper,
        "start_tokens": list(space.start_tokens),
        "attention_factor": list(space.attention),
        "base": None if base is None else base.fingerprint,
        "start_from": [factor_set.fingerprint for factor_set in question.starts],
        "dtype": question.dtype,
        **chosen,
    }


def file_of(found: FactorSet, plan_: Plan, kept: FactorFile | None) -> FactorFile:
    """A factor file with the found set and the other sets of `kept`.

    If `kept` is None, the original set is the other one, unless the found set replaces it.
    """
    base = plan_.base if kept is None else plan_.base.extended_by(kept)
    original = base.identity.original_max_position_embeddings
    if kept is not None:
        others = [other for other in kept.sets if other.max_length != found.max_length]
    elif found.max_length > original:
        others = [base.factor_set("original", original)]
    else:
        others = []
    return schema.build(
        base.identity, sorted([*others, found], key=lambda factor_set: factor_set.max_length)
    )
