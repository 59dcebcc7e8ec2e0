"""Check whether a model in training finds facts in texts of real length, in words it is not taught.

Perplexity does not show which weights find facts, and small models lose this ability again when
they are trained for longer. So a run keeps the weights that find most facts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from longrope_factors.evaluating.retrieval import filler, niah, words
from longrope_factors.evaluating.retrieval.documents import Document, Task, different
from longrope_factors.evaluating.retrieval.filler import Filler
from longrope_factors.evaluating.retrieval.fitting import Fitted
from longrope_factors.evaluating.retrieval.measurement import Material
from longrope_factors.evaluating.retrieval.prompts import Form, Prompts
from longrope_factors.factor_file.errors import UsageError
from longrope_factors.factor_file.files import text_files
from longrope_factors.factor_file.schema import CorpusText, FactorSet
from longrope_factors.models import texts
from longrope_factors.models.loading import LoadedModel

# Plain text, and the model's chat template if it has one.
_FORMS: tuple[Form, ...] = ("plain", "chat")
DOCUMENTS = len(_FORMS)  # read in each check
_FACTS = 10
# Evaluations start at lower seeds, so their documents differ from these.
_FIRST_SEED = 1_000_000


def _make(random: Random, units: int, depths: Sequence[float], filler: Filler) -> Document:
    keys = different(len(depths), lambda: words.pair(random))
    facts = [
        niah.Fact(key, words.number(random), depth) for key, depth in zip(keys, depths, strict=True)
    ]
    text = niah.placed(facts, filler.take(units, random), filler.joint)
    return Document(niah.text(text, of_one=True), tuple(niah.asked([fact]) for fact in facts))


# Numbers of keys in a book, as in RULER's niah_multikey_1 but with more keys in each text. At short
# lengths, small models can do this task, and hardly any other, right to the last digit.
_ONE_BY_ONE = Task("held_out", _make, said=16, reads_corpus=True)


@dataclass(frozen=True)
class HeldOut:
    """Documents of at most `length` tokens from `text`, with questions; made once for each run."""

    length: int
    text: CorpusText
    documents: tuple[Fitted, ...]


def prepare(path: Path, tokenizer: Any, length: int, seed: int) -> HeldOut:
    """Make documents with facts in the text at `path`.

    Raises UsageError if the text is not UTF-8 or the length (check_length) is too short.
    """
    _, sha256 = texts.content(path)
    books = filler.of_books([path])
    documents = []
    for number, form in enumerate(_FORMS):
        prompts = Prompts(tokenizer, form if tokenizer.chat_template else "plain")
        material = Material(prompts, books, _FACTS, _FIRST_SEED + seed)
        try:
            documents.append(material.fitted(_ONE_BY_ONE, length, number))
        except UsageError as error:
            raise UsageError(f"check_length {length}: {error}") from None
    text = CorpusText(name=text_files.readable(path.stem), sha256=sha256)
    return HeldOut(length, text, tuple(documents))


def asked(
    loaded: LoadedModel, factor_set: FactorSet, documents: Sequence[Fitted]
) -> list[tuple[bool, float]]:
    """The outcome of each question about `documents` with the model's present weights.

    An outcome is whether greedy decoding gives exactly the answer, and the answer's mean loss in
    nats per token.
    """
    from longrope_factors.evaluating.retrieval import asking

    outcomes = []
    for fitted in documents:
        questions = [asking.Question(question, answer) for question, answer in fitted.tails]
        said = asking.answers(loaded, factor_set, fitted.context_ids, questions)
        outcomes += [(answer.exact, answer.loss) for answer in said]
    return outcomes
