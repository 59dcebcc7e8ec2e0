"""Choose the analytic method that measured best at each length."""

import math

from longrope_factors.evaluating.evaluation import Evaluation
from longrope_factors.factor_file import methods, schema
from longrope_factors.factor_file.base import Base
from longrope_factors.factor_file.errors import UsageError
from longrope_factors.factor_file.schema import CorpusText, FactorFile, FactorSet


def best_measured(evaluations: list[Evaluation], base: Base, lengths: list[int]) -> FactorFile:
    """A factor file that has, for each length, the analytic method with the lowest perplexity.

    The original length gets the original set. On several texts, a method's perplexity is their
    geometric mean. All methods must have been measured on the same texts, each read as one window.
    The plain model's perplexity becomes `perplexity_before`. Raises UsageError for a length whose
    measurements cannot be compared.
    """
    original = base.identity.original_max_position_embeddings
    sets = [
        base.factor_set("original", length)
        if length == original
        else _best(evaluations, base, length)
        for length in sorted(lengths)
    ]
    return schema.build(base.identity, sets)


def _best(evaluations: list[Evaluation], base: Base, length: int) -> FactorSet:
    candidates = {
        factor_set.fingerprint: factor_set
        for factor_set in (base.factor_set(method, length) for method in methods.METHODS)
    }
    measured: dict[str, dict[str, Evaluation]] = {}
    for evaluation in evaluations:
        if (
            evaluation.length == evaluation.window == length
            and evaluation.fingerprint in candidates
        ):
            by_text = measured.setdefault(evaluation.fingerprint, {})
            by_text[evaluation.corpus_sha256] = evaluation
    texts = {frozenset(by_text) for by_text in measured.values()}
    models = {(evaluation.weights_sha256, evaluation.dtype) for evaluation in evaluations}
    if len(texts) != 1 or len(models) != 1:
        raise UsageError(
            f"Length {length} should have every method measured on the same texts and weights, "
            "in one dtype."
        )
    means = {
        fingerprint: math.exp(
            sum(math.log(evaluation.perplexity) for evaluation in by_text.values()) / len(by_text)
        )
        for fingerprint, by_text in measured.items()
    }
    best = min(means, key=lambda fingerprint: means[fingerprint])
    plain = base.factor_set("original", length).fingerprint
    chosen = candidates[best]
    names = ", ".join(candidates[fingerprint].provenance.method for fingerprint in means)
    provenance = chosen.provenance.model_copy(
        update={
            "source": f"{chosen.provenance.source}; best measured of {names}",
            "date": max(evaluation.date for evaluation in measured[best].values()),
            "corpus": tuple(
                CorpusText(name=evaluation.corpus, sha256=evaluation.corpus_sha256)
                for evaluation in measured[best].values()
            ),
            "evaluations": sum(map(len, measured.values())),
            "perplexity_before": means.get(plain),
            "perplexity_after": means[best],
        }
    )
    return chosen.model_copy(update={"provenance": provenance})
