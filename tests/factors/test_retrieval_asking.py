"""Questions about a context that is read once, against the same tokens read at once."""

import random
from dataclasses import replace

import pytest
import torch
from longrope_factors.evaluating.retrieval import asking, attention, reading
from longrope_factors.evaluating.retrieval.asking import Question, Said
from longrope_factors.factor_file import methods
from longrope_factors.factor_file.schema import FactorSet
from longrope_factors.models import loading, perplexity
from longrope_factors.models.loading import LoadedModel
from longrope_factors.models.rotation import rotated_by

from tests.factors import finetuning

RANDOM = random.Random(0)


def tokens(count: int) -> list[int]:
    return [RANDOM.randrange(2, 100) for _ in range(count)]


CONTEXT = tokens(90)
QUESTIONS = [Question(tokens(n), tokens(m)) for n, m in ((1, 1), (5, 3), (12, 1), (2, 9), (7, 4))]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    model = finetuning.tiny_model(tmp_path_factory.mktemp("asking") / "model")
    return loading.load(model, "cpu", "float32")


@pytest.fixture(scope="module")
def factor_set(loaded: LoadedModel) -> FactorSet:
    return methods.factor_set("yarn", loaded.identity, 128)


def alone(loaded: LoadedModel, factor_set: FactorSet, question: Question) -> Said:
    """The answer by one forward pass over everything, without a cache."""
    ids = [*CONTEXT, *question.token_ids, *question.answer_ids]
    start = len(CONTEXT) + len(question.token_ids) - 1
    logits = perplexity.logits_from(loaded.model, ids, start, factor_set, loaded.identity)
    *said, next_id = logits.argmax(dim=-1).tolist()
    loss = torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(question.answer_ids)).item()
    return Said(said == list(question.answer_ids), loss, next_id)


def generated(loaded: LoadedModel, factor_set: FactorSet, question: Question) -> tuple[int, ...]:
    """What transformers' greedy decoding says, without an end-of-text token."""
    ids = torch.tensor([[*CONTEXT, *question.token_ids]])
    with rotated_by(loaded.model, factor_set, loaded.identity):
        said = loaded.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=question.most,
            do_sample=False,
            pad_token_id=1,
        )
    return tuple(token_id for token_id in said[0, ids.shape[1] :].tolist() if token_id != 1)


def assert_same(ours: list[Said], theirs: list[Said]) -> None:
    assert [replace(answer, loss=0.0) for answer in ours] == [
        replace(answer, loss=0.0) for answer in theirs
    ]
    assert [answer.loss for answer in ours] == pytest.approx(
        [answer.loss for answer in theirs], rel=1e-4, abs=1e-4
    )


@pytest.mark.parametrize(
    ("chunk", "rows", "together"),
    [(1000, 1000, 1000), (32, 5, 1000), (7, 3, 10), (89, 1, 1), (1, 1, 1000)],
)
def test_answers_are_those_of_one_pass(
    chunk: int,
    rows: int,
    together: int,
    loaded: LoadedModel,
    factor_set: FactorSet,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reading, "_CHUNK", chunk)
    monkeypatch.setattr(attention, "_ROWS", rows)
    monkeypatch.setattr(asking, "_TOGETHER", together)
    # One of them as the model would answer it.
    likeliest = generated(loaded, factor_set, replace(QUESTIONS[2], most=2))
    questions = [*QUESTIONS, replace(QUESTIONS[2], answer_ids=likeliest)]
    expected = [alone(loaded, factor_set, question) for question in questions]
    assert [answer.exact for answer in expected] == [False] * 5 + [True]
    assert_same(asking.answers(loaded, factor_set, CONTEXT, questions), expected)


@pytest.mark.parametrize("together", [1000, 20, 1])
def test_decoding_is_greedy(
    together: int,
    loaded: LoadedModel,
    factor_set: FactorSet,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asking, "_TOGETHER", together)
    questions = [
        replace(question, most=most)
        for question, most in zip(QUESTIONS, (8, 1, 0, 3, 12), strict=True)
    ]
    expected = [generated(loaded, factor_set, question) for question in questions if question.most]
    answers = asking.answers(loaded, factor_set, CONTEXT, questions)
    assert [
        said.said_ids for said, question in zip(answers, questions, strict=True) if question.most
    ] == expected
    assert answers[2].said_ids == ()


def test_what_is_said_ends_at_the_end_of_text(
    loaded: LoadedModel, factor_set: FactorSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    question = replace(QUESTIONS[1], most=12)
    said = generated(loaded, factor_set, question)
    end = said[5]
    monkeypatch.setattr(loaded.model.generation_config, "eos_token_id", [3, end])
    (answer,) = asking.answers(loaded, factor_set, CONTEXT, [question])
    assert answer.said_ids == said[: said.index(end)]


def test_what_is_said_ends_where_it_is_enough(loaded: LoadedModel, factor_set: FactorSet) -> None:
    question = replace(QUESTIONS[1], most=12)
    said = generated(loaded, factor_set, question)
    enough = replace(question, is_enough=lambda ids: len(ids) == 4)
    exact = replace(enough, answer_ids=said[:4])
    answers = asking.answers(loaded, factor_set, CONTEXT, [question, enough, exact])
    assert [answer.said_ids for answer in answers] == [said, said[:4], said[:4]]
    assert answers[2].exact


def test_the_model_is_left_as_it_was(loaded: LoadedModel, factor_set: FactorSet) -> None:
    before = perplexity.perplexity(loaded.model, CONTEXT, None, loaded.identity, 100)
    theirs = loaded.model.config._attn_implementation
    asking.answers(loaded, factor_set, CONTEXT, QUESTIONS)
    assert loaded.model.config._attn_implementation == theirs == "sdpa"
    after = perplexity.perplexity(loaded.model, CONTEXT, None, loaded.identity, 100)
    assert after.tolist() == before.tolist()


@pytest.mark.parametrize("chunk", [1000, 30, 1])
def test_layers_are_counted_once(
    chunk: int, loaded: LoadedModel, factor_set: FactorSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_CHUNK", chunk)
    calls: list[None] = []
    asking.answers(loaded, factor_set, CONTEXT, QUESTIONS, lambda: calls.append(None))
    assert len(calls) == len(loaded.model.base_model.layers)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sliding_window": 100}, "sliding window of 100 tokens"),
        ({"layer_types": ["full_attention", "chunked_attention"]}, "chunked_attention"),
        (
            {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 64},
            "sliding window of 64",
        ),
    ],
)
def test_models_that_do_not_see_everything_are_refused(
    changes: dict[str, object],
    words: str,
    loaded: LoadedModel,
    factor_set: FactorSet,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in changes.items():
        monkeypatch.setattr(loaded.model.config, name, value, raising=False)
    with pytest.raises(ValueError, match=words):
        asking.answers(loaded, factor_set, CONTEXT, QUESTIONS)


def test_a_window_that_sees_everything(
    loaded: LoadedModel, factor_set: FactorSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = asking.answers(loaded, factor_set, CONTEXT, QUESTIONS)
    monkeypatch.setattr(loaded.model.config, "sliding_window", 200, raising=False)
    assert asking.answers(loaded, factor_set, CONTEXT, QUESTIONS) == expected


def test_bfloat16(loaded: LoadedModel, factor_set: FactorSet) -> None:
    half = loading.load(loaded.directory, "cpu", "bfloat16")
    expected = asking.answers(loaded, factor_set, CONTEXT, QUESTIONS)
    answers = asking.answers(half, factor_set, CONTEXT, QUESTIONS)
    for ours, theirs in zip(answers, expected, strict=True):
        assert ours.loss == pytest.approx(theirs.loss, rel=0.1)
