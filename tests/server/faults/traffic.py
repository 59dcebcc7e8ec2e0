"""Clients that behave badly, and what a server says of them."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

MODEL = "smollm2-135m"


def chat(text: str, max_tokens: int, **more: Any) -> dict[str, Any]:
    """The body of a chat that generates exactly `max_tokens`."""
    return {
        "model": MODEL,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": max_tokens,
        "ignore_eos": True,
        **more,
    }


def words(count: int, seed: int = 0) -> str:
    """About `count` tokens that no other seed shares a prefix with."""
    return f"{seed} " + " ".join(str((seed + index) % 10) for index in range(count // 2))


@dataclass
class Server:
    """A running server as its clients see it."""

    url: str
    key: str = ""
    client: httpx.AsyncClient = field(init=False)

    def __post_init__(self) -> None:
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        limits = httpx.Limits(max_connections=None)
        self.client = httpx.AsyncClient(
            base_url=self.url, headers=headers, timeout=300, limits=limits
        )

    async def post(self, body: dict[str, Any], **more: Any) -> httpx.Response:
        """One chat, whole."""
        return await self.client.post("/v1/chat/completions", json=body, **more)

    @asynccontextmanager
    async def stream(self, body: dict[str, Any]) -> AsyncIterator[AsyncIterator[str]]:
        """The lines of a streamed chat."""
        request = self.client.stream("POST", "/v1/chat/completions", json={**body, "stream": True})
        async with request as answer:
            assert answer.status_code == 200, await answer.aread()
            yield answer.aiter_lines()

    async def metrics(self) -> "Metrics":
        """What `/metrics` says now."""
        return Metrics((await self.client.get("/metrics")).text)

    @asynccontextmanager
    async def connected(
        self, path: str, headers: dict[str, str]
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A bare connection on which the head of a POST was sent."""
        address = urlsplit(self.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        head = {"Host": "x", "Authorization": f"Bearer {self.key}", **headers}
        lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        try:
            yield reader, writer
        finally:
            writer.close()


class Metrics:
    """The samples of one scrape."""

    def __init__(self, text: str) -> None:
        self.text = text

    def sum(self, name: str, **labels: str) -> float:
        """The sum of the samples of this name with these labels."""
        total = 0.0
        for line in self.text.splitlines():
            sample = re.fullmatch(r"([\w:]+)(?:\{(.*)\})? (\S+)", line)
            if sample and sample[1] == name:
                given = dict(re.findall(r'(\w+)="([^"]*)"', sample[2] or ""))
                if labels.items() <= given.items():
                    total += float(sample[3])
        return total

    def idle(self) -> bool:
        """Whether nothing is under way, in front of the engine and in it."""
        names = (
            "longrope_requests_in_flight",
            "longrope_requests_queued",
            "longrope_tokens_in_flight",
            "vllm:num_requests_running",
            "vllm:num_requests_waiting",
            "vllm:kv_cache_usage_perc",
        )
        return not any(self.sum(name) for name in names)


def events(lines: list[str]) -> list[dict[str, Any]]:
    """The documents of a stream's lines, without its [DONE]."""
    data = (line.removeprefix("data: ") for line in lines if line.startswith("data: "))
    return [json.loads(payload) for payload in data if payload != "[DONE]"]


def is_complete(lines: list[str]) -> bool:
    """Whether a streamed chat ended as it should."""
    finished = [
        choice["finish_reason"]
        for event in events(lines)
        for choice in event.get("choices", ())
        if choice["finish_reason"]
    ]
    return finished == ["length"] and "data: [DONE]" in lines


def error_of(lines: list[str]) -> dict[str, Any] | None:
    """The error event of a stream, if it has one."""
    return next((event["error"] for event in events(lines) if "error" in event), None)
