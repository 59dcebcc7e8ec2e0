"""The record of a document that a model was asked about."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Strict

from longrope_factors.evaluating.results import Result
from longrope_factors.evaluating.retrieval.prompts import Form


class Answer(BaseModel):
    """One question's outcome: which of its `answers`, at which `depths`, were `found`.

    They are found in what greedy decoding `said`. `exact` means that it begins with exactly the
    expected answers, followed by another word. `loss` is their mean loss in nats per token.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, ser_json_inf_nan="constants"
    )

    question: str
    answers: Annotated[tuple[str, ...], Strict(False)]
    depths: Annotated[tuple[float, ...], Strict(False)]
    found: Annotated[tuple[bool, ...], Strict(False)]
    exact: bool
    loss: float
    said: str


class Asking(Result):
    """The answers of one model to all questions about one document, under one factor set.

    The document is number `document` for its task, length and seed, with about `facts` facts.
    `tokens` is the length of its longest prompt, including room for the answer. If its filler is
    from books, `filler_sha256` is their hash.
    """

    task: str
    form: Form
    facts: int
    document: int
    seed: int
    filler_sha256: str | None
    tokens: int
    answers: Annotated[tuple[Answer, ...], Strict(False)]

    @property
    def key(self) -> tuple[Any, ...]:
        """Weights and dtype, rotation, and what determines the prompts."""
        return (
            *(self.weights_sha256, self.dtype, self.fingerprint, self.task, self.form),
            *(self.length, self.facts, self.document, self.seed, self.filler_sha256),
        )
