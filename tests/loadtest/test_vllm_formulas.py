"""Our figures against those of `vllm bench serve`."""

import asyncio
import importlib
from types import ModuleType
from typing import Any

import aiohttp
import pytest
from longrope_loadtest.results.figures import summary

from tests.loadtest.mock_server import MODEL
from tests.loadtest.mocking import MockServer, driven, profile

pytestmark = pytest.mark.long  # vLLM is imported

PERCENTILES = [50.0, 90.0, 95.0, 99.0]
POISSON = {"kind": "poisson", "rate": 60, "requests": 60}
MOCK = {"first": 0.03, "gap": 0.01}
OUTPUT = {"kind": "choice", "values": [1, 2, 7, 12]}


@pytest.fixture
def serve() -> ModuleType:
    # Not at the top: takes seconds, which a run of the other tests can do without.
    return importlib.import_module("vllm.benchmarks.serve")


@pytest.fixture
def requests() -> ModuleType:
    return importlib.import_module("vllm.benchmarks.lib.endpoint_request_func")


def test_the_same_events_have_the_same_figures(
    server: MockServer, serve: ModuleType, requests: ModuleType
) -> None:
    # The server needs 0.14 s for 12 tokens, so that some miss; one token has nothing but its TTFT.
    slo = {"ttft": 0.06, "tpot": 0.0105, "e2e": 0.13}
    run = driven(profile(POISSON, MOCK, output_tokens=OUTPUT, slo=slo), server.url)
    for record in run.records:
        record.intended = record.dispatched  # vLLM knows no other beginning
    outputs = [
        requests.RequestFuncOutput(
            success=True,
            latency=record.e2e(),
            ttft=record.ttft(),
            itl=record.token_gaps,
            output_tokens=record.output_tokens,
            prompt_len=record.prompt_tokens,
            start_time=record.dispatched,
        )
        for record in run.records
    ]
    ours = summary(run.records, run.profile)["a"]
    theirs, _ = serve.calculate_metrics(
        [],
        outputs,
        ours["seconds"],
        None,
        PERCENTILES,
        {"ttft": 1000 * slo["ttft"], "tpot": 1000 * slo["tpot"], "e2el": 1000 * slo["e2e"]},
    )
    for name, their_name in (("ttft", "ttft"), ("tpot", "tpot"), ("itl", "itl"), ("e2e", "e2el")):
        spread = ours["latency"][name]
        assert 1000 * spread["mean"] == pytest.approx(getattr(theirs, f"mean_{their_name}_ms"))
        for at, value in getattr(theirs, f"percentiles_{their_name}_ms"):
            assert 1000 * spread[f"p{at:.0f}"] == pytest.approx(value)
    assert ours["requests_per_second"] == pytest.approx(theirs.request_throughput)
    assert ours["output_tokens_per_second"] == pytest.approx(theirs.output_throughput)
    good = ours["goodput"]["good_requests_per_second"]
    assert good == pytest.approx(theirs.request_goodput)
    assert 0 < good < ours["requests_per_second"]


@pytest.mark.parametrize(("api", "eos"), [("chat", False), ("chat", True), ("completions", True)])
def test_their_client_sees_what_ours_sees(
    server: MockServer, requests: ModuleType, api: str, eos: bool
) -> None:
    # Their chat client takes the role for the first token: vLLM sends both at once.
    mock: dict[str, Any] = {"first": 0.1, "gap": 0.06, "tokens": 8, "eos": eos, "role_early": False}
    one_after_another = {"kind": "closed", "users": 1, "requests": 5}
    ours = driven(profile(one_after_another, mock, api=api), server.url).records
    theirs = asyncio.run(_theirs(requests, server.url, api, mock, 5))
    for record, output in zip(ours, theirs, strict=True):
        assert output.success
        assert record.output_tokens == output.output_tokens == 8
    # The fastest of each, which nothing disturbed, and half a gap: what one client takes for a
    # token and the other does not is a whole one.
    near = mock["gap"] / 2
    ttft = min(o.ttft for o in theirs)
    assert min(r.ttft() or 0 for r in ours) == pytest.approx(ttft, abs=near)
    e2e = min(o.latency for o in theirs)
    assert min(r.e2e() or 0 for r in ours) == pytest.approx(e2e, abs=near)


async def _theirs(
    requests: ModuleType, url: str, api: str, mock: dict[str, Any], number: int
) -> list[Any]:
    chat = api == "chat"
    send = (
        requests.async_request_openai_chat_completions
        if chat
        else requests.async_request_openai_completions
    )
    asked = requests.RequestFuncInput(
        prompt="some words",
        api_url=url + ("/v1/chat/completions" if chat else "/v1/completions"),
        prompt_len=2,
        output_len=8,
        model=MODEL,
        extra_body={"mock": mock},
    )
    async with aiohttp.ClientSession() as session:
        return [await send(asked, session) for _ in range(number)]
