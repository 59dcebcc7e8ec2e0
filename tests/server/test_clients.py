"""Unmodified clients against a live `longrope serve`, and the commands of docs/clients.md."""

import asyncio
import json
import math
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import httpx2
import openai
import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from longrope_server.front_end.factor_set.answer import HEADER
from longrope_server.front_end.openai_error import Refusal
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion, ChatCompletionToolParam
from pydantic import BaseModel, ConfigDict, SecretStr
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from tests.server.clients import document
from tests.serving import Server

MODEL = "smollm2-135m"
QUESTION: Any = [{"role": "user", "content": "What is the capital of Japan?"}]
WEATHER: Any = [{"role": "user", "content": "What is the weather in Paris?"}]
ANSWER = "The capital of Japan is Tokyo."
FIRST_SET = {"started": 8192, "finished": 8192, "promoted": False}

PRINTED = {
    "openai": rf"8192 {re.escape(ANSWER)}",
    "openai-stream": re.escape(f"{ANSWER} {FIRST_SET}"),
    "openai-structured": r"name='\w+' age=\d+\n\d{1,2} [A-Z][a-z]+ \d{4}",
    "openai-tools": r'get_weather \{"city": "Paris", "unit": "(celsius|fahrenheit)"\}',
    "langchain": rf"{re.escape(ANSWER)}\nname='\w+' age=\d+\n{{'city': 'Paris'}}",
}
LM_EVAL = {"lm-eval-data", "topics.yaml", "lm-eval", "lm-eval-remote", "lm-eval-ruler"}
BENCH = {"bench", "bench-completions", "bench-chat"}


class Person(BaseModel):
    """A person."""

    name: str
    age: int


class Weather(BaseModel):
    """The arguments of the tool."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    city: str
    unit: Literal["celsius", "fahrenheit"]


TOOL: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": Weather.model_json_schema(),
    },
}
NAMED: Any = {"type": "function", "function": {"name": "get_weather"}}


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"It is sunny in {city}."


@pytest.fixture
def server(embedded_server: Server) -> str:
    return embedded_server.url


@pytest.fixture
def client(server: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server}/v1", api_key="none", timeout=300) as client:
        yield client


@pytest.fixture
def model(server: str) -> ChatOpenAI:
    return ChatOpenAI(
        base_url=f"{server}/v1",
        api_key=SecretStr("none"),
        model=MODEL,
        temperature=0,
        max_completion_tokens=100,
    )


def chat(client: openai.OpenAI, messages: Any = QUESTION, **more: Any) -> ChatCompletion:
    given = {"max_tokens": 100, "temperature": 0, **more}
    answer = client.chat.completions.create(model=MODEL, messages=messages, **given)
    assert isinstance(answer, ChatCompletion)
    return answer


def factor_set(usage: CompletionUsage | None) -> Any:
    assert usage is not None
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    return usage.model_dump()["factor_set"]


def test_a_block_of_the_document_is_run_by_a_test() -> None:
    assert set(document.blocks()) == {"serve", *PRINTED, *LM_EVAL, *BENCH}


@pytest.mark.parametrize("name", PRINTED)
def test_a_snippet_of_the_document_prints_what_is_said(
    name: str, server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    document.run_python(name, server)
    assert re.fullmatch(PRINTED[name], capsys.readouterr().out.strip())


def test_a_chat_says_its_text_its_end_and_its_factor_set(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=QUESTION, max_tokens=20, temperature=0
    )
    assert raw.headers[HEADER] == "8192"
    answer = raw.parse()
    assert answer.choices[0].message.content == ANSWER
    assert answer.choices[0].finish_reason == "stop"
    assert factor_set(answer.usage) == FIRST_SET


async def test_an_async_client_asks_many_at_once(server: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{server}/v1", api_key="none") as client:
        asked = [
            client.chat.completions.create(
                model=MODEL, messages=QUESTION, max_tokens=20, temperature=0
            )
            for _ in range(6)
        ]
        answers = await asyncio.gather(*asked)
    assert {answer.choices[0].message.content for answer in answers} == {ANSWER}


def test_a_streamed_chat_ends_once_and_then_says_its_usage(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model=MODEL,
            messages=QUESTION,
            max_tokens=5,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    choices = [choice for chunk in chunks for choice in chunk.choices]
    assert "".join(choice.delta.content or "" for choice in choices) == "The capital of Japan is"
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["length"]
    assert choices[-1].finish_reason == "length"
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert chunks[-1].choices == []
    assert factor_set(chunks[-1].usage) == FIRST_SET
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_a_streamed_completion_ends_once_and_then_says_its_usage(client: openai.OpenAI) -> None:
    prompt = "The capital of Japan is"
    whole = client.completions.create(model=MODEL, prompt=prompt, max_tokens=4, temperature=0)
    chunks = list(
        client.completions.create(
            model=MODEL,
            prompt=prompt,
            max_tokens=4,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    choices = [choice for chunk in chunks for choice in chunk.choices]
    assert "".join(choice.text for choice in choices) == whole.choices[0].text
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["length"]
    assert chunks[-1].choices == []
    assert factor_set(chunks[-1].usage) == FIRST_SET


def test_a_tool_that_the_model_may_call_gets_a_valid_answer(client: openai.OpenAI) -> None:
    choice = chat(client, WEATHER, tools=[TOOL], tool_choice="auto", max_tokens=40).choices[0]
    if choice.message.tool_calls:
        assert choice.finish_reason == "tool_calls"
        check_calls(choice.message.tool_calls)
    else:
        assert choice.finish_reason in ("stop", "length")
        assert choice.message.content


@pytest.mark.parametrize("tool_choice", ["required", NAMED], ids=["required", "named"])
def test_a_forced_tool_gets_arguments_of_its_schema(
    client: openai.OpenAI, tool_choice: Any
) -> None:
    choice = chat(client, WEATHER, tools=[TOOL], tool_choice=tool_choice).choices[0]
    assert choice.finish_reason in ("stop", "tool_calls")
    check_calls(choice.message.tool_calls)


def check_calls(calls: Any) -> None:
    assert calls
    for call in calls:
        assert call.id
        assert call.type == "function"
        assert call.function.name == "get_weather"
        Weather.model_validate_json(call.function.arguments)


def test_a_streamed_tool_call_adds_up_to_arguments_of_its_schema(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model=MODEL,
        messages=WEATHER,
        tools=[TOOL],
        tool_choice=NAMED,
        max_tokens=100,
        temperature=0,
    ) as stream:
        message = stream.get_final_completion().choices[0].message
    check_calls(message.tool_calls)


def test_a_pydantic_model_is_a_response_format(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(
        model=MODEL,
        messages=[{"role": "user", "content": "Make up a person."}],
        response_format=Person,
        max_tokens=60,
        temperature=0,
    )
    assert isinstance(answer.choices[0].message.parsed, Person)
    assert answer.choices[0].finish_reason == "stop"


def test_a_regex_and_a_choice_bind_the_answer(client: openai.OpenAI) -> None:
    regex = {"structured_outputs": {"regex": r"\d{4}-\d{2}-\d{2}"}}
    said = chat(client, max_tokens=20, extra_body=regex).choices[0].message.content
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", said or "")
    answer = client.completions.create(
        model=MODEL,
        prompt="Madrid is in",
        max_tokens=8,
        extra_body={"structured_outputs": {"choice": ["Japan", "Spain"]}},
    )
    assert answer.choices[0].text in ("Japan", "Spain")


def test_the_log_probabilities_of_a_chat_are_those_of_its_tokens(client: openai.OpenAI) -> None:
    choice = chat(client, max_tokens=4, logprobs=True, top_logprobs=3).choices[0]
    assert choice.logprobs is not None
    tokens = choice.logprobs.content
    assert tokens is not None
    assert "".join(token.token for token in tokens) == choice.message.content
    for token in tokens:
        best = [other.logprob for other in token.top_logprobs]
        assert len(best) == 3
        assert best == sorted(best, reverse=True)
        assert token.logprob == best[0] <= 0  # greedy
        assert sum(map(math.exp, best)) <= 1 + 1e-3


def test_the_log_probabilities_of_a_completion_are_those_of_its_tokens(
    client: openai.OpenAI,
) -> None:
    answer = client.completions.create(
        model=MODEL, prompt="One, two,", max_tokens=3, temperature=0, logprobs=2, echo=True
    )
    choice = answer.choices[0]
    logprobs = choice.logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None
    assert logprobs.token_logprobs is not None
    assert logprobs.text_offset is not None
    assert "".join(logprobs.tokens) == choice.text
    assert choice.text.startswith("One, two,")
    first, *others = logprobs.token_logprobs
    assert first is None  # nothing comes before it
    assert all(-30 < logprob <= 0 for logprob in others)
    for offset, token in zip(logprobs.text_offset, logprobs.tokens, strict=True):
        assert choice.text[offset:].startswith(token)


def test_three_samples_are_three_texts_that_a_seed_repeats(client: openai.OpenAI) -> None:
    def samples(seed: int) -> list[str | None]:
        answer = chat(client, n=3, seed=seed, temperature=1.5, max_tokens=8)
        assert [choice.index for choice in answer.choices] == [0, 1, 2]
        return [choice.message.content for choice in answer.choices]

    first = samples(1)
    assert len(set(first)) == 3
    assert samples(1) == first
    assert samples(2) != first


def test_the_models_are_listed(client: openai.OpenAI) -> None:
    models = client.models.list().data
    assert [card.id for card in models] == [MODEL, "HuggingFaceTB/SmolLM2-135M-Instruct"]
    assert {card.model_dump()["max_model_len"] for card in models} == {32768}


def test_what_is_not_served_is_an_error_of_the_sdk(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model=MODEL, input="hello")
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(model="other", messages=QUESTION)
    assert MODEL in error(refused.value)["message"]


def test_a_prompt_that_is_too_long_is_a_bad_request(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        chat(client, [{"role": "user", "content": "word " * 33_000}])
    assert "32768" in error(refused.value)["message"]


def error(refused: openai.APIStatusError) -> dict[str, Any]:
    """OpenAI's error object of an answer."""
    document = refused.response.json()["error"]
    assert set(document) >= {"message", "type", "param", "code"}
    return document


async def test_the_sdk_waits_as_long_as_a_refusal_says_and_asks_again() -> None:
    asked: list[float] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        asked.append(time.monotonic())
        if len(asked) == 1:
            await Refusal(503, "server_full", "Full.", retry_after=2).send(scope, receive, send)
        else:
            await JSONResponse({"object": "list", "data": []})(scope, receive, send)

    transport = httpx2.ASGITransport(app=app)
    async with openai.AsyncOpenAI(
        base_url="http://server/v1",
        api_key="none",
        http_client=httpx2.AsyncClient(transport=transport),
    ) as client:
        await client.models.list()
    assert len(asked) == 2
    assert asked[1] - asked[0] >= 2


def test_langchain_answers_and_says_the_factor_set(model: ChatOpenAI) -> None:
    told = model.model_copy(update={"include_response_headers": True})
    answer = told.invoke("What is the capital of Japan?")
    assert answer.content == ANSWER
    assert answer.response_metadata["token_usage"]["factor_set"] == FIRST_SET
    assert answer.response_metadata["headers"][HEADER] == "8192"


def test_langchain_streams_the_same_text_with_its_usage(model: ChatOpenAI) -> None:
    chunks = list(model.stream("What is the capital of Japan?", stream_usage=True))
    assert "".join(str(chunk.content) for chunk in chunks) == ANSWER
    usage = [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata]
    assert [metadata["output_tokens"] for metadata in usage] == [8]
    ends = [chunk.response_metadata.get("finish_reason") for chunk in chunks]
    assert [end for end in ends if end] == ["stop"]


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_langchain_gets_an_object_of_the_schema(model: ChatOpenAI, method: Any) -> None:
    person = model.with_structured_output(Person, method=method).invoke("Make up a person.")
    assert isinstance(person, Person)


def test_langchain_calls_a_tool_and_goes_on_with_its_result(model: ChatOpenAI) -> None:
    question = HumanMessage("What is the weather in Paris?")
    call = model.bind_tools([get_weather], tool_choice="get_weather").invoke([question])
    assert isinstance(call, AIMessage)
    assert call.invalid_tool_calls == []
    assert [tool_call["args"] for tool_call in call.tool_calls] == [{"city": "Paris"}]
    result = get_weather.invoke(call.tool_calls[0])
    answer = model.bind_tools([get_weather]).invoke([question, call, result])
    assert answer.content


@pytest.fixture
def folder(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the data set and the task of docs/clients.md."""
    monkeypatch.chdir(tmp_path)
    document.run_python("lm-eval-data", server)
    (tmp_path / "topics.yaml").write_text(document.block("topics.yaml", server))
    return tmp_path


def lm_eval(name: str, server: str, folder: Path) -> str:
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf")}
    return document.run_shell((name,), server, folder, **offline)


def results(folder: Path) -> dict[str, Any]:
    (file,) = folder.glob("**/results_*.json")
    found = json.loads(file.read_text())["results"]
    assert len(found) == 1
    return next(iter(found.values()))


def samples(folder: Path) -> list[dict[str, Any]]:
    (file,) = folder.glob("**/samples_*.jsonl")
    found = [json.loads(line) for line in file.read_text().splitlines()]
    return sorted(found, key=lambda sample: sample["doc_id"])


def likelihood(client: openai.OpenAI, context: str, continuation: str) -> tuple[float, bool]:
    """What the server gives for the tokens of `continuation`: the sum, and whether all are best."""
    answer = client.completions.create(
        model=MODEL,
        prompt=f"{context} {continuation}",
        max_tokens=1,
        temperature=0,
        logprobs=1,
        echo=True,
    )
    told = answer.choices[0].logprobs
    assert told is not None
    assert told.text_offset is not None
    assert told.token_logprobs is not None
    assert told.top_logprobs is not None
    start = told.text_offset.index(len(context))
    values = [value for value in told.token_logprobs[start:-1] if value is not None]
    best = [max(top.values()) for top in told.top_logprobs[start:-1] if top is not None]
    return sum(values), values == best


def test_lm_eval_gets_the_likelihoods_that_the_server_gives(
    client: openai.OpenAI, server: str, folder: Path
) -> None:
    assert "perplexity" in lm_eval("lm-eval", server, folder)
    check_likelihoods(client, folder / "results")


@pytest.mark.slow
def test_lm_eval_gets_them_with_the_tokenizer_of_the_server(
    client: openai.OpenAI, server: str, folder: Path
) -> None:
    assert "perplexity" in lm_eval("lm-eval-remote", server, folder)
    check_likelihoods(client, folder / "remote")


def check_likelihoods(client: openai.OpenAI, output: Path) -> None:
    evaluated = samples(output)
    assert len(evaluated) == 16
    ours = [likelihood(client, *sample["doc"].values()) for sample in evaluated]
    theirs = [float(sample["resps"][0][0][0]) for sample in evaluated]
    assert theirs == pytest.approx([value for value, _ in ours], abs=0.05)
    found = results(output)
    assert found["perplexity,none"] == pytest.approx(math.exp(-sum(theirs) / 16))
    assert 1 < found["perplexity,none"] < 1000
    assert found["acc,none"] == pytest.approx(sum(greedy for _, greedy in ours) / 16)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ruler_at_16384_tokens_is_answered(
    client: openai.OpenAI, server: str, folder: Path
) -> None:
    assert "niah_single_1" in lm_eval("lm-eval-ruler", server, folder)
    evaluated = samples(folder / "ruler")
    assert len(evaluated) == 2
    root = str(client.base_url).removesuffix("/v1/")
    for sample in evaluated:
        assert sample["resps"][0][0].strip()
        asked = client.post(
            f"{root}/tokenize",
            body={"model": MODEL, "prompt": sample["arguments"]["gen_args_0"]["arg_0"]},
            cast_to=dict[str, Any],
        )
        assert 15_000 < asked["count"] <= 16_384 - 128
    assert results(folder / "ruler")["16384,none"] in (0, 0.5, 1)


@pytest.mark.parametrize(
    "name", [pytest.param("bench-completions", marks=pytest.mark.slow), "bench-chat"]
)
def test_vllm_bench_serve_counts_every_request_as_served(
    name: str, server: str, tmp_path: Path
) -> None:
    printed = document.run_shell(("bench", name), server, tmp_path)
    counts = dict(re.findall(r"^([A-Z][\w ]+): +(\d+) *$", printed, re.MULTILINE))
    assert counts["Successful requests"] == "4", printed
    assert counts["Failed requests"] == "0", printed
    assert counts["Total generated tokens"] == "32", printed
