import asyncio
from collections.abc import AsyncGenerator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from longrope_server.answer import Answer, current_answer
from longrope_server.observe import observed, prompt_length
from vllm.sampling_params import RequestOutputKind, SamplingParams

from tests.server.models import Selection

SELECTION = Selection(8, 16, 32)


def output(*sequences: Sequence[int], prompt: Sequence[int] = ()) -> Any:
    return SimpleNamespace(
        prompt_token_ids=list(prompt),
        outputs=[
            SimpleNamespace(index=index, token_ids=list(tokens))
            for index, tokens in enumerate(sequences)
        ],
        metrics=None,
        finished=False,
    )


class Engine:
    def __init__(self, *outputs: Any) -> None:
        self.outputs = outputs
        self.closed = False

    async def generate(self, *args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        try:
            for each in self.outputs:
                yield each
        finally:
            self.closed = True


def answer_of(engine: Engine, prompt: Any, kind: RequestOutputKind) -> Answer:
    async def run() -> Answer:
        answer = Answer()
        current_answer.set(answer)
        parameters = SamplingParams(max_tokens=20, output_kind=kind)
        outputs = observed(engine.generate, SELECTION)(prompt, parameters, "id")
        assert [each async for each in outputs] == list(engine.outputs)
        return answer

    return asyncio.run(run())


TOKENS = {"type": "token", "prompt_token_ids": [1] * 5}


@pytest.mark.parametrize(
    ("kind", "outputs"),
    [
        (RequestOutputKind.DELTA, [output([1, 2, 3]), output([4]), output([5])]),
        (RequestOutputKind.CUMULATIVE, [output([1, 2, 3]), output([1, 2, 3, 4, 5])]),
        (RequestOutputKind.FINAL_ONLY, [output([1, 2, 3, 4, 5])]),
    ],
)
def test_tokens_are_counted_in_each_kind_of_output(
    kind: RequestOutputKind, outputs: list[Any]
) -> None:
    answer = answer_of(Engine(*outputs), TOKENS, kind)
    assert answer.requests[0].generated == {0: 5}
    assert answer.factor_set() == {"started": 8, "finished": 16, "promoted": True}


def test_the_longest_of_several_sequences_counts() -> None:
    engine = Engine(output([1], [1]), output([2], [2, 3, 4, 5]))
    answer = answer_of(engine, TOKENS, RequestOutputKind.DELTA)
    assert answer.requests[0].generated == {0: 2, 1: 5}
    assert answer.factor_set() == {"started": 8, "finished": 16, "promoted": True}


def test_a_prompt_that_only_the_engine_can_count() -> None:
    engine = Engine(output([1], prompt=[1] * 10))
    answer = answer_of(engine, "some text", RequestOutputKind.DELTA)
    assert answer.factor_set() == {"started": 16, "finished": 16, "promoted": False}


def test_the_set_is_known_before_the_first_output() -> None:
    async def run() -> None:
        answer = Answer()
        current_answer.set(answer)
        observed(Engine().generate, SELECTION)(TOKENS, SamplingParams(), "id")
        assert answer.started == 8

    asyncio.run(run())


def test_outside_of_an_http_call_nothing_is_noted() -> None:
    engine = Engine()
    outputs = observed(engine.generate, SELECTION)(TOKENS, SamplingParams(), "id")
    assert outputs.__name__ == "generate"


def test_a_caller_that_stops_early_closes_the_engines_generator() -> None:
    engine = Engine(output([1]), output([2]))

    async def run() -> None:
        current_answer.set(Answer())
        outputs = observed(engine.generate, SELECTION)(TOKENS, SamplingParams(), "id")
        await anext(outputs)
        await outputs.aclose()
        assert engine.closed

    asyncio.run(run())


@pytest.mark.parametrize(
    ("prompt", "length"),
    [
        (TOKENS, 5),
        ({"type": "embeds", "prompt_embeds": [[0.0], [0.0]]}, 2),
        ({"type": "enc_dec", "decoder_prompt": TOKENS}, 5),
        (SimpleNamespace(prompt_token_ids=[1, 2]), 2),
        (SimpleNamespace(prompt_token_ids=None), None),
        ("text", None),
    ],
)
def test_prompt_length(prompt: Any, length: int | None) -> None:
    assert prompt_length(prompt) == length
