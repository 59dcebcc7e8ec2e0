"""The analytic method that measured best at each length, as a factor file."""

import math

from longrope_factors.evaluating.evaluation import Evaluation
from longrope_factors.factor_file import methods, schema
from longrope_factors.factor_file.base import Base
from longrope_factors.factor_file.errors import UsageError
from longrope_factors.factor_file.schema import CorpusText, FactorFile, FactorSet


def best_measured(evaluations: list[Evaluation], base: Base, lengths: list[int]) -> FactorFile:
    """A factor file with, for each length, the analytic method of the lowest perplexity.

    The original length gets the original set. Over several texts, a method's perplexity is their
    geometric mean; only methods that were measured on the same texts, each as one window, are
    compared. The plain model's becomes `perplexity_before`. Raises UsageError for a length without
    measurements.
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
    for each in evaluations:
        if each.length == each.window == length and each.fingerprint in candidates:
            measured.setdefault(each.fingerprint, {})[each.corpus_sha256] = each
    texts = {frozenset(by_text) for by_text in measured.values()}
    if len(texts) != 1 or len({(each.weights_sha256, each.dtype) for each in evaluations}) != 1:
        raise UsageError(
            f"Length {length} should have every method measured on the same texts and weights, "
            "in one dtype."
        )
    means = {
        fingerprint: math.exp(
            sum(math.log(each.perplexity) for each in by_text.values()) / len(by_text)
        )
        for fingerprint, by_text in measured.items()
    }
    best = min(means, key=lambda fingerprint: means[fingerprint])
    plain = base.factor_set("original", length).fingerprint
    chosen = candidates[best]
    names = ", ".join(candidates[each].provenance.method for each in means)
    provenance = chosen.provenance.model_copy(
        update={
            "source": f"{chosen.provenance.source}; best measured of {names}",
            "date": max(each.date for each in measured[best].values()),
            "corpus": tuple(
                CorpusText(name=each.corpus, sha256=each.corpus_sha256)
                for each in measured[best].values()
            ),
            "evaluations": sum(map(len, measured.values())),
            "perplexity_before": means.get(plain),
            "perplexity_after": means[best],
        }
    )
    return chosen.model_copy(update={"provenance": provenance})
