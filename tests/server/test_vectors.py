"""`longrope serve --runner pooling` with prompts of every set in one call."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import torch
from longrope_server.front_end.factor_set.answer import HEADER

from tests.plugin.engine import random_prompts
from tests.plugin.models import TinyModel, give_words, tiny_model
from tests.plugin.reference import Reference
from tests.serving import LONGROPE_SERVE, Server, running

FLAGS = ("--runner=pooling", "--dtype=float32", "--max-num-batched-tokens=64")
WORD = " the"  # one token of SmolLM2's


@dataclass(frozen=True)
class Served:
    """The server, the model's name there, and what Hugging Face says of the model."""

    server: Server
    model: TinyModel
    reference: Reference

    def post(self, path: str, status: int = 200, **body: Any) -> httpx.Response:
        body = {"model": str(self.model.directory), **body}
        answer = httpx.post(f"{self.server.url}{path}", json=body, timeout=300)
        assert answer.status_code == status, answer.text[:1000]
        return answer

    def metric(self, name: str, **labels: str) -> float:
        """The value of one series of `/metrics`; 0 where there is none."""
        series = "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}"
        lines = httpx.get(f"{self.server.url}/metrics", timeout=60).text.splitlines()
        values = [line.split(" ")[1] for line in lines if line.startswith(f"{name}{series} ")]
        return float(values[0]) if values else 0.0


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("vectors")
    model = give_words(tiny_model(folder / "model", vocab_size=49152))
    reference = Reference(model.directory, model.factor_file)
    command = (*LONGROPE_SERVE, model.directory, *FLAGS)
    with running(command, folder / "log") as server:
        yield Served(server, model, reference)


def only(limit: int) -> dict[str, Any]:
    return {"started": limit, "finished": limit, "promoted": False}


def assert_says(answer: httpx.Response, limit: int, tokens: int) -> None:
    """The answer names this set, and this many tokens."""
    assert answer.headers[HEADER] == str(limit)
    usage = answer.json()["usage"]
    assert usage["factor_set"] == only(limit)
    assert usage["prompt_tokens"] == usage["total_tokens"] == tokens


def test_each_prompt_of_a_call_has_its_own_set(served: Served) -> None:
    lengths, sets = [5, 250, 64, 65, 128, 129, 256], [0, 2, 0, 1, 1, 2, 2]
    prompts = random_prompts(lengths, seed=50)
    requests = [
        served.metric("longrope_requests_total", factor_set=str(limit), finish_reason="stop")
        for limit in served.model.limits
    ]
    tokens = served.metric("longrope_prompt_tokens_total", factor_set="256")
    answer = served.post("/v1/embeddings", input=prompts)
    assert_says(answer, 256, sum(lengths))
    for prompt, index, item in zip(prompts, sets, answer.json()["data"], strict=True):
        right = served.reference.vector(prompt, index)
        torch.testing.assert_close(torch.tensor(item["embedding"]), right, rtol=0, atol=1e-5)
    more = [
        served.metric("longrope_requests_total", factor_set=str(limit), finish_reason="stop")
        for limit in served.model.limits
    ]
    assert [b - a for a, b in zip(requests, more, strict=True)] == [2, 2, 3]
    counted = served.metric("longrope_prompt_tokens_total", factor_set="256") - tokens
    assert counted == 250 + 129 + 256
    for length_class in ("1-64", "65-128", "129-256"):
        assert served.metric("longrope_tokens_in_flight", length_class=length_class) == 0


@pytest.mark.parametrize(("length", "limit"), [(1, 64), (64, 64), (65, 128), (200, 256)])
def test_every_form_of_a_vector_says_its_set(served: Served, length: int, limit: int) -> None:
    (prompt,) = random_prompts([length], seed=length)
    right = served.reference.vector(prompt, served.model.limits.index(limit))

    for path in ("/v1/embeddings", "/pooling"):
        answer = served.post(path, input=prompt, encoding_format="base64")
        assert_says(answer, limit, length)
        item = answer.json()["data"][0]
        numbers = base64.b64decode(item.get("embedding") or item["data"])
        vector = torch.frombuffer(bytearray(numbers), dtype=torch.float32)
        torch.testing.assert_close(vector, right, rtol=0, atol=1e-5)

        answer = served.post(path, input=prompt, encoding_format="bytes")
        assert answer.headers[HEADER] == str(limit)
        usage = json.loads(answer.headers["metadata"])["usage"]
        assert usage == {
            "prompt_tokens": length,
            "total_tokens": length,
            "factor_set": only(limit),
        }
        vector = torch.frombuffer(bytearray(answer.content), dtype=torch.float32)
        torch.testing.assert_close(vector, right, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("words", "limit"), [(3, 64), (100, 128), (200, 256)])
def test_scores_and_ranks_say_the_set_of_the_longest_text(
    served: Served, words: int, limit: int
) -> None:
    texts = [WORD, WORD * words]
    body = {"queries": WORD, "documents": texts}
    score = served.post("/score", **body)
    assert_says(score, limit, 2 + words)
    ids = served.post("/tokenize", prompt=WORD).json()["tokens"]
    assert len(ids) == 1
    query = served.reference.vector(ids, 0)
    document = served.reference.vector(ids * words, served.model.limits.index(limit))
    scores = [item["score"] for item in score.json()["data"]]
    assert scores == pytest.approx([1.0, float(query @ document)], abs=1e-4)

    rank = served.post("/rerank", query=WORD, documents=texts)
    assert_says(rank, limit, 2 + words)
    assert rank.json()["results"][1]["relevance_score"] == pytest.approx(scores[1], abs=1e-4)


def test_an_answer_without_usage_has_the_header(served: Served) -> None:
    answer = served.post("/v2/embed", texts=[WORD, WORD * 70])
    assert answer.headers[HEADER] == "128"
    assert "usage" not in answer.json()


def test_a_prompt_that_is_too_long_is_refused_without_a_set(served: Served) -> None:
    answer = served.post("/v1/embeddings", 400, input=[1] * 257)
    assert HEADER not in answer.headers
