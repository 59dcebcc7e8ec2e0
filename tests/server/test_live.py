"""`longrope serve` as a user runs it: the embedded model, over HTTP, with the openai SDK."""

import asyncio
from typing import Any

import httpx
import openai
import pytest
from longrope_server.front_end.factor_set.answer import HEADER

from tests.server.test_readme import LESS, document
from tests.serving import Server

MODEL = "smollm2-135m"
# Over 8,192 tokens. README's example asks about the same, and finds it in the prefix cache.
LONG = document(LESS)
SHORT = "What is the capital of Japan?"


@pytest.fixture
def server(embedded_server: Server) -> str:
    return embedded_server.url


@pytest.fixture
async def client(server: str) -> Any:
    async with openai.AsyncOpenAI(base_url=f"{server}/v1", api_key="none", timeout=500) as client:
        yield client


async def chat(client: openai.AsyncOpenAI, text: str) -> tuple[str, int, dict[str, Any]]:
    """What was said, the header, and usage."""
    raw = await client.chat.completions.with_raw_response.create(
        model=MODEL,
        messages=[{"role": "user", "content": text}],
        max_tokens=12,
        temperature=0,
    )
    answer = raw.parse()
    assert answer.usage is not None
    said = answer.choices[0].message.content or ""
    return said, int(raw.headers[HEADER]), answer.usage.model_dump()


async def streamed_chat(client: openai.AsyncOpenAI, text: str) -> tuple[str, int, dict[str, Any]]:
    """The same as `chat`, streamed."""
    raw = await client.chat.completions.with_raw_response.create(
        model=MODEL,
        messages=[{"role": "user", "content": text}],
        max_tokens=12,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    said, usage = "", None
    async for chunk in raw.parse():
        said += "".join(choice.delta.content or "" for choice in chunk.choices)
        usage = chunk.usage or usage
    assert usage is not None
    return said, int(raw.headers[HEADER]), usage.model_dump()


def only(limit: int) -> dict[str, Any]:
    return {"started": limit, "finished": limit, "promoted": False}


async def test_short_and_long_questions_at_once_get_their_own_sets(
    client: openai.AsyncOpenAI,
) -> None:
    alone = await chat(client, SHORT)
    long, *short = await asyncio.gather(
        chat(client, LONG), chat(client, SHORT), streamed_chat(client, SHORT)
    )
    for said, started, usage in (alone, *short):
        assert said == "The capital of Japan is Tokyo."
        assert started == 8192
        assert usage["factor_set"] == only(8192)
    for _, started, usage in (long, await streamed_chat(client, LONG)):
        assert usage["prompt_tokens"] > 8_192
        assert started == 32768
        assert usage["factor_set"] == only(32768)


@pytest.mark.slow
async def test_an_answer_that_outgrows_its_set_says_so(client: openai.AsyncOpenAI) -> None:
    # The head of the long chat above: what is recomputed after promotion is in the prefix cache.
    chat = {"messages": [{"role": "user", "content": LONG}]}
    prompt = (await _post(client, "/tokenize", chat))["tokens"][:8180]
    raw = await client.completions.with_raw_response.create(
        model=MODEL,
        prompt=prompt,
        max_tokens=20,
        temperature=0,
        extra_body={"ignore_eos": True},
        stream=True,
        stream_options={"include_usage": True},
    )
    assert int(raw.headers[HEADER]) == 8192
    chunks = [chunk async for chunk in raw.parse()]
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.completion_tokens == 20
    assert usage.model_dump()["factor_set"] == {
        "started": 8192,
        "finished": 32768,
        "promoted": True,
    }


async def test_the_responses_api_says_it_too(client: openai.AsyncOpenAI) -> None:
    raw = await client.responses.with_raw_response.create(
        model=MODEL, input=SHORT, max_output_tokens=8
    )
    assert raw.headers[HEADER] == "8192"
    usage = raw.parse().usage
    assert usage is not None
    assert usage.model_dump()["factor_set"] == only(8192)

    stream = await client.responses.with_raw_response.create(
        model=MODEL, input=SHORT, max_output_tokens=8, stream=True
    )
    assert stream.headers[HEADER] == "8192"
    events = [event async for event in stream.parse()]
    assert events[0].type == "response.created"
    # Since 0.33, vLLM calls an answer incomplete that was cut off.
    assert events[-1].type in ("response.completed", "response.incomplete")
    assert events[-1].response.usage.model_dump()["factor_set"] == only(8192)


async def test_several_prompts_and_samples_are_one_answer(client: openai.AsyncOpenAI) -> None:
    raw = await client.completions.with_raw_response.create(
        model=MODEL, prompt=["One, two,", "A, B,"], n=2, max_tokens=4
    )
    answer = raw.parse()
    assert len(answer.choices) == 4
    assert raw.headers[HEADER] == "8192"
    assert answer.usage is not None
    assert answer.usage.model_dump()["factor_set"] == only(8192)


async def test_a_beam_search_is_one_answer(server: str) -> None:
    question = {"role": "user", "content": SHORT}
    body = {"use_beam_search": True, "n": 2, "max_tokens": 5, "temperature": 0}
    for path, asked in (
        ("/v1/completions", {"prompt": "One, two,"}),
        ("/v1/chat/completions", {"messages": [question]}),
    ):
        async with httpx.AsyncClient(base_url=server, timeout=300) as plain:
            answer = await plain.post(path, json={"model": MODEL, **asked, **body})
        assert answer.status_code == 200, answer.text
        assert answer.headers[HEADER] == "8192"
        assert len(answer.json()["choices"]) == 2
        assert answer.json()["usage"]["factor_set"] == only(8192)


async def test_chats_in_a_batch_are_one_answer(server: str) -> None:
    chats = [[{"role": "user", "content": text}] for text in (SHORT, "Name a colour.")]
    body = {"model": MODEL, "messages": chats, "max_tokens": 5}
    async with httpx.AsyncClient(base_url=server, timeout=300) as plain:
        answer = await plain.post("/v1/chat/completions/batch", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers[HEADER] == "8192"
    assert answer.json()["usage"]["factor_set"] == only(8192)


async def test_the_served_sets_are_listed(client: openai.AsyncOpenAI) -> None:
    listed = await client.get("/factors", cast_to=dict[str, Any])
    assert listed["selection"] == "length"
    limits = [factor_set["max_length"] for factor_set in listed["sets"]]
    assert limits == [8192, 32768]
    assert listed["max_model_len"] == limits[-1]
    assert all(factor_set["provenance"]["method"] for factor_set in listed["sets"])


async def test_vllms_own_routes_are_as_they_were(client: openai.AsyncOpenAI, server: str) -> None:
    models = await client.models.list()
    assert [card.id for card in models.data] == [MODEL, "HuggingFaceTB/SmolLM2-135M-Instruct"]
    assert (await _post(client, "/tokenize", {"prompt": "hi"}))["tokens"] == [6004]
    with pytest.raises(openai.NotFoundError) as refused:
        await client.completions.create(model="other", prompt="hi")
    assert HEADER not in refused.value.response.headers


async def _post(client: openai.AsyncOpenAI, path: str, body: dict[str, Any]) -> dict[str, Any]:
    root = str(client.base_url).removesuffix("/v1/")
    return await client.post(f"{root}{path}", body={"model": MODEL, **body}, cast_to=dict[str, Any])


async def test_messages_that_vllm_stumbles_over_are_the_clients_error(server: str) -> None:
    output = {"type": "function_call_output", "id": "1", "status": "incomplete"}
    part = {"type": "input_text", "text": "", "prompt_cache_breakpoint": None}
    strange = {**output, "call_id": None, "created_by": None, "output": [part, part]}
    body = {"input": [strange], "max_output_tokens": 8}
    async with httpx.AsyncClient(base_url=server, timeout=60) as plain:
        answer = await plain.post("/v1/responses", json=body)
    assert answer.status_code == 400
    assert "request cannot be read" in answer.json()["error"]["message"]


async def test_an_api_that_the_model_does_not_have_is_not_there(server: str) -> None:
    async with httpx.AsyncClient(base_url=server) as plain:
        assert "/v1/systemone" not in (await plain.get("/openapi.json")).json()["paths"]
        assert (await plain.post("/v1/systemone", json={})).status_code == 404
