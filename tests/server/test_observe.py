import asyncio
import inspect
from collections.abc import AsyncGenerator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from longrope_server.front_end import metrics
from longrope_server.front_end.admission.admission import current_place
from longrope_server.front_end.factor_set.answer import Answer, current_answer
from longrope_server.front_end.factor_set.observe import ASKING, observed, prompt_length
from longrope_server.front_end.key_limits import KeyLimits
from longrope_server.keys.key_file import Key
from vllm.engine.protocol import EngineClient
from vllm.outputs import PoolingRequestOutput
from vllm.pooling_params import PoolingParams
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


def vector(prompt: Sequence[int] = (), error: Any = None) -> PoolingRequestOutput[Any]:
    return PoolingRequestOutput("id", None, list(prompt), 0, finished=True, error=error)


class Engine:
    def __init__(self, *outputs: Any) -> None:
        self.outputs = outputs
        self.closed = False
        self.priorities: list[int] = []

    def encode(
        self, prompt: Any, pooling_params: Any, request_id: str, lora_request: Any = None
    ) -> AsyncGenerator[Any, None]:
        return self.generate(prompt, pooling_params, request_id)

    async def generate(
        self, prompt: Any, sampling_params: Any, request_id: str, *, priority: int = 0
    ) -> AsyncGenerator[Any, None]:
        self.priorities.append(priority)
        try:
            for engine_output in self.outputs:
                yield engine_output
        finally:
            self.closed = True


def answer_of(engine: Engine, prompt: Any, kind: RequestOutputKind) -> Answer:
    async def run() -> Answer:
        answer = Answer()
        current_answer.set(answer)
        parameters = SamplingParams(max_tokens=20, output_kind=kind)
        outputs = observed(engine.generate, SELECTION)(prompt, parameters, "id")
        assert [engine_output async for engine_output in outputs] == list(engine.outputs)
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


def test_every_method_of_the_engine_that_takes_a_prompt_is_noted() -> None:
    takers = [
        name
        for name, method in vars(EngineClient).items()
        if inspect.isfunction(method) and "prompt" in inspect.signature(method).parameters
    ]
    assert takers == list(ASKING)


class Place:
    """What an HTTP request's place is told."""

    def __init__(self) -> None:
        self.told: list[int | str] = []

    async def tokenised(self, tokens: int) -> None:
        self.told.append(tokens)

    def asks(self) -> None:
        self.told.append("asks")

    def computed(self, tokens: int) -> None:
        self.told.append(-tokens)


def ended(limit: int, reason: str) -> float:
    return metrics.REQUESTS.labels(str(limit), reason)._value.get()


@pytest.mark.parametrize("keywords", [False, True])
@pytest.mark.parametrize(("length", "limit"), [(1, 8), (8, 8), (9, 16), (16, 16), (32, 32)])
def test_a_prompt_for_a_vector(length: int, limit: int, keywords: bool) -> None:
    prompt = {"type": "token", "prompt_token_ids": [1] * length}
    prompts = metrics.PROMPT_TOKENS.labels(str(limit))._value
    before, tokens_before = ended(limit, "stop"), prompts.get()

    async def run() -> None:
        current_answer.set(answer := Answer())
        current_place.set(place := Place())  # type: ignore[arg-type]
        encode = observed(Engine(output := vector([1] * length)).encode, SELECTION)
        outputs = (
            encode(request_id="id", prompt=prompt, pooling_params=PoolingParams())
            if keywords
            else encode(prompt, PoolingParams(), "id")
        )
        assert answer.started == limit
        assert [engine_output async for engine_output in outputs] == [output]
        assert answer.requests[0].has_answered
        assert answer.factor_set() == {"started": limit, "finished": limit, "promoted": False}
        assert place.told == [length, "asks", -length]

    asyncio.run(run())
    assert ended(limit, "stop") == before + 1
    assert prompts.get() == tokens_before + length


def test_a_vector_takes_no_room_for_a_token() -> None:
    asked: list[tuple[int, int | None]] = []

    class Reserving(Selection):
        def start(self, prompt_tokens: int, max_tokens: int | None) -> int:
            asked.append((prompt_tokens, max_tokens))
            return super().start(prompt_tokens, max_tokens)

    async def run() -> None:
        current_answer.set(Answer())
        observed(Engine().encode, Reserving(8))(TOKENS, PoolingParams(), "id")
        observed(Engine().generate, Reserving(8))(TOKENS, SamplingParams(max_tokens=3), "id")

    asyncio.run(run())
    assert asked == [(5, 0), (5, 3)]


def test_a_vector_that_failed_is_counted_as_an_error() -> None:
    before = ended(8, "error")

    async def run() -> None:
        current_answer.set(Answer())
        encode = observed(Engine(vector(error="no room")).encode, SELECTION)
        assert [engine_output async for engine_output in encode(TOKENS, PoolingParams(), "id")]

    asyncio.run(run())
    assert ended(8, "error") == before + 1


def test_a_session_is_served_under_the_largest_set() -> None:
    async def spoken() -> AsyncGenerator[Any, None]:
        yield TOKENS

    engine = Engine(output([1], prompt=[1] * 3))
    answer = answer_of(engine, spoken(), RequestOutputKind.DELTA)
    assert answer.factor_set() == {"started": 32, "finished": 32, "promoted": False}


def test_a_model_without_sets_has_its_vectors_counted_too() -> None:
    counted = metrics.REQUESTS.labels(metrics.NO_SET, "stop")._value
    before = counted.get()

    async def run() -> None:
        current_answer.set(answer := Answer())
        encode = observed(Engine(vector()).encode, None)
        assert [engine_output async for engine_output in encode(TOKENS, PoolingParams(), "id")]
        assert answer.factor_set() is None

    asyncio.run(run())
    assert counted.get() == before + 1


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


def test_a_request_is_never_more_urgent_than_its_key() -> None:
    engine = Engine(output([1]))

    async def ask(key: Key | None, **asked: int) -> None:
        answer = Answer()
        answer.key = key
        current_answer.set(answer)
        generate = observed(engine.generate, SELECTION, KeyLimits(["tiny"]))
        assert [
            engine_output
            async for engine_output in generate(TOKENS, SamplingParams(), "id", **asked)
        ]

    async def ask_all() -> None:
        for key in (None, Key("alice", b""), Key("patient", b"", priority=10)):
            await ask(key)
            for asked in (-5, 20):
                await ask(key, priority=asked)

    asyncio.run(ask_all())
    assert engine.priorities == [0, -5, 20, 0, 0, 20, 10, 10, 20]
