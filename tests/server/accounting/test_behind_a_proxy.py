"""TLS, CORS, a root path, request ids, traces and the keys' limits, of served and refused requests.

One server has all of them, as one behind a company's proxy has.
"""

import asyncio
import json
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import pytest
from longrope_server.front_end.accounting import request_log
from longrope_server.front_end.factor_set.answer import HEADER
from longrope_server.keys import key_file
from longrope_server.keys.key_file import Key

from tests.plugin.models import give_bytes, tiny_model
from tests.server.accounting.collector import Collector, collecting
from tests.serving import LONGROPE_SERVE, running

PAGE = "https://page.example"
ROOT = "/llm"
SECRET = "no prompt may be in a log"
KEYS = [
    Key("alice", key_file.digest_of("alice")),
    Key("short", key_file.digest_of("short"), longest_prompt=20),
    Key("other", key_file.digest_of("other"), models=("another",)),
    Key("named", key_file.digest_of("named"), models=("tiny",)),
    Key("late", key_file.digest_of("late"), expires=date(2026, 1, 31)),
]


@dataclass
class Started:
    url: str
    certificate: Path
    collector: Collector
    accounts: Path
    log: Path


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    directory = tmp_path_factory.mktemp("proxied")
    model = give_bytes(tiny_model(directory / "model", limits=(64, 128, 2048)))
    certificate, private = directory / "certificate.pem", directory / "private.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", private, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    keys = directory / "keys"
    keys.write_text("\n".join(map(key_file.line_of, KEYS)))
    with collecting() as collector:
        flags = (
            f"--api-key-file={keys}",
            f"--accounting={directory / 'accounts'}",
            f"--ssl-certfile={certificate}",
            f"--ssl-keyfile={private}",
            f'--allowed-origins=["{PAGE}"]',
            f"--root-path={ROOT}",
            "--enable-request-id-headers",
            f"--otlp-traces-endpoint={collector.endpoint}",
            "--served-model-name=tiny",
        )
        with running(
            (*LONGROPE_SERVE, model.directory, *flags),
            directory / "log",
            certificate=certificate,
            OTEL_EXPORTER_OTLP_TRACES_PROTOCOL="http/protobuf",
            OTEL_BSP_SCHEDULE_DELAY="100",
        ) as server:
            yield Started(
                server.url, certificate, collector, directory / "accounts", directory / "log"
            )


@pytest.fixture
async def client(started: Started) -> AsyncIterator[httpx.AsyncClient]:
    trusted = ssl.create_default_context(cafile=started.certificate)
    async with httpx.AsyncClient(base_url=started.url, verify=trusted, timeout=60) as client:
        yield client


async def complete(
    client: httpx.AsyncClient, key: str, prompt: Any = SECRET, headers: Any = (), **more: Any
) -> httpx.Response:
    body = {"prompt": prompt, "max_tokens": 4, "ignore_eos": True, **more}
    headers = {"Authorization": f"Bearer {key}", "Origin": PAGE, **dict(headers)}
    return await client.post("/v1/completions", json=body, headers=headers)


def records(started: Started) -> list[dict[str, Any]]:
    lines = (started.accounts / request_log.FILE).read_text().splitlines()
    return [json.loads(line) for line in lines]


async def test_a_page_may_ask_and_reads_why_it_is_refused(client: httpx.AsyncClient) -> None:
    preflight = await client.options(
        "/v1/completions",
        headers={"Origin": PAGE, "Access-Control-Request-Method": "POST"},
    )
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == PAGE
    foreign = await client.options(
        "/v1/completions",
        headers={"Origin": "https://foreign.example", "Access-Control-Request-Method": "POST"},
    )
    assert foreign.status_code == 400
    for key, status in (("alice", 200), ("nobody", 401), ("other", 404)):
        answer = await complete(client, key)
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == PAGE


async def test_every_answer_has_the_id_that_the_client_sent(
    client: httpx.AsyncClient, started: Started
) -> None:
    for key, status in (("alice", 200), ("nobody", 401)):
        name = f"id-of-{status}"
        answer = await complete(client, key, headers={"X-Request-Id": name})
        assert (answer.status_code, answer.headers["x-request-id"]) == (status, name)
        assert name in records(started)[-1]["request_id"]
    assert (await complete(client, "nobody")).headers["x-request-id"]


async def test_below_a_root_path_all_is_as_it_is_without(client: httpx.AsyncClient) -> None:
    assert (await client.get(f"{ROOT}/ready")).status_code == 200
    assert (await client.get(f"{ROOT}/v1/models")).status_code == 401
    headers = {"Authorization": "Bearer alice"}
    assert (await client.get(f"{ROOT}/v1/models", headers=headers)).status_code == 200
    usage = await client.get(f"{ROOT}/v1/usage", headers=headers)
    assert usage.json()["key"] == "alice"


async def test_the_log_tells_what_was_served_and_refused(
    client: httpx.AsyncClient, started: Started
) -> None:
    served = await complete(client, "alice")
    await complete(client, "nobody")
    await complete(client, "short", SECRET)
    await client.get("/health")
    *_, first, second, third = records(started)
    assert first["request_id"].startswith(served.json()["id"])
    usage = served.json()["usage"]
    expected = {
        "key": "alice",
        "method": "POST",
        "path": "/v1/completions",
        "status": 200,
        "complete": True,
        "refused": None,
        "factor_set": 64,
        "promoted": False,
        "prompt_tokens": usage["prompt_tokens"],
        "generated_tokens": usage["completion_tokens"],
    }
    assert expected.items() <= first.items()
    assert first["seconds"] >= first["first_token_seconds"] >= first["queue_seconds"] >= 0
    assert first["admission_seconds"] >= 0
    refusal = {"status": 401, "key": None, "refused": "invalid_api_key", "generated_tokens": 0}
    assert refusal.items() <= second.items()
    assert {"status": 400, "key": "short", "engine_requests": 0}.items() <= third.items()
    written = (started.accounts / request_log.FILE).read_text()
    assert SECRET not in written
    assert SECRET not in started.log.read_text()


async def test_a_span_for_each_request_is_the_parent_of_vllms(
    client: httpx.AsyncClient, started: Started
) -> None:
    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    headers = {"traceparent": f"00-{trace}-{parent}-01"}
    assert (await complete(client, "alice", max_tokens=60, headers=headers)).status_code == 200
    assert (await complete(client, "nobody", headers=headers)).status_code == 401

    def of_trace(name: str) -> list[tuple[Any, dict[str, Any]]]:
        spans = started.collector.named(name)
        return [(span, rest) for span, rest in spans if span.trace_id.hex() == trace]

    deadline = time.monotonic() + 10
    while len(of_trace("longrope_request")) < 2 or not of_trace("llm_request"):
        assert time.monotonic() < deadline, started.collector.spans
        await asyncio.sleep(0.1)
    by_status = {
        attributes["http.response.status_code"]: (span, attributes)
        for span, attributes in of_trace("longrope_request")
    }
    span, attributes = by_status[200]
    assert span.parent_span_id.hex() == parent
    expected = {
        "longrope.key": "alice",
        "longrope.factor_set": 64,
        "longrope.finished_factor_set": 128,
        "longrope.promoted": True,
        "gen_ai.usage.output_tokens": 60,
        "url.path": "/v1/completions",
    }
    assert expected.items() <= attributes.items()
    assert attributes["longrope.admission_seconds"] >= 0
    [(vllms, _)] = of_trace("llm_request")
    assert vllms.parent_span_id == span.span_id
    span, attributes = by_status[401]
    assert span.parent_span_id.hex() == parent
    assert attributes["longrope.refused"] == "invalid_api_key"


async def test_a_key_is_refused_what_it_does_not_allow(client: httpx.AsyncClient) -> None:
    assert (await complete(client, "short", [5] * 20)).headers[HEADER] == "64"
    for stream in (False, True):
        refused = await complete(client, "short", [5] * 21, stream=stream)
        assert refused.status_code == 400
        assert refused.json()["error"]["message"] == (
            "This prompt has 21 tokens, and this API key takes prompts of up to 20."
        )
        refused = await complete(client, "other", stream=stream)
        assert refused.status_code == 404
        assert refused.json()["error"]["message"] == "This API key may use another, and not tiny."
    assert (await complete(client, "named")).status_code == 200
    refused = await complete(client, "late")
    assert refused.status_code == 401
    assert refused.json()["error"]["message"].endswith("has expired.")
    metrics = await client.get("/metrics", headers={"Authorization": "Bearer alice"})
    for reason in ("key_prompt", "key_model", "key_expired"):
        assert f'longrope_refusals_total{{reason="{reason}"}}' in metrics.text
