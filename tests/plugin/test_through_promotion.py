"""Nothing that was promised to a client changes when its request is promoted.

Two factor files with the same numbers: one is a single set, the other two, so that requests are
promoted on the way while their rotation stays the same. Whatever a client asked for must come
out of both engines alike.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from longrope_factors.factor_file.schema import FactorFile, save
from longrope_server.serve.embedded import model_directory

from tests.plugin.engine import engine, scheduler
from tests.plugin.models import TinyModel, tiny_model

LIMITS = (96, 384)


def tiny_with_words(directory: Path) -> TinyModel:
    """A tiny model over SmolLM2's vocabulary, so that text features have text."""
    return tiny_model(directory, limits=LIMITS, vocab_size=49152)


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """`whole` never promotes; `promoted` does at 96 tokens."""
    model = tiny_with_words(tmp_path_factory.mktemp("words"))
    last = model.factor_file.sets[-1]
    first = last.model_copy(update={"max_length": LIMITS[0]})
    path = model.directory / "longrope_factors.json"
    arguments = {
        "tokenizer": str(model_directory()),
        "skip_tokenizer_init": False,
        "max_num_batched_tokens": 512,
        "enable_prefix_caching": False,
        "max_logprobs": 5,
    }
    save(
        FactorFile(format=model.factor_file.format, model=model.factor_file.model, sets=(last,)),
        path,
    )
    with engine(model, **arguments) as whole:
        save(
            FactorFile(
                format=model.factor_file.format, model=model.factor_file.model, sets=(first, last)
            ),
            path,
        )
        with engine(model, **arguments) as promoted:
            yield {"whole": whole, "promoted": promoted}


PROMPTS = ["The first thing that one sees", "Once", "A list of names: " * 12, "In the year 1704 "]


def both(engines: dict[str, Any], **params: Any) -> tuple[list[Any], list[Any]]:
    """The outputs of the engine that never promotes and of the one that does."""
    from vllm import SamplingParams

    results = []
    for llm in engines.values():
        sampling = SamplingParams(**{"max_tokens": 112, "ignore_eos": True, **params})
        before = scheduler(llm).promotions
        results.append(llm.generate(PROMPTS, sampling, use_tqdm=False))
        promotions = scheduler(llm).promotions - before
    assert promotions > 0
    return results[0], results[1]


def assert_same_text(whole: list[Any], promoted: list[Any]) -> None:
    for one, other in zip(whole, promoted, strict=True):
        assert [c.token_ids for c in one.outputs] == [c.token_ids for c in other.outputs]
        assert [c.text for c in one.outputs] == [c.text for c in other.outputs]
        assert [c.finish_reason for c in one.outputs] == [c.finish_reason for c in other.outputs]


@pytest.mark.parametrize(
    "params",
    [
        {"temperature": 0},
        {"temperature": 1.0, "seed": 5},
        {"temperature": 0.8, "seed": 6, "n": 3},
        {"temperature": 0, "repetition_penalty": 1.3},
        {"temperature": 1.0, "seed": 7, "presence_penalty": 0.5, "frequency_penalty": 0.5},
        {"temperature": 0.9, "seed": 8, "min_p": 0.05, "top_k": 40, "min_tokens": 100},
    ],
    ids=["greedy", "seed", "n", "repetition", "penalties", "filters"],
)
def test_sampling(engines: dict[str, Any], params: dict[str, Any]) -> None:
    assert_same_text(*both(engines, **params))


def test_stop_strings(engines: dict[str, Any]) -> None:
    whole, _ = both(engines, temperature=0)
    late_word = whole[1].outputs[0].text[-12:-6]
    stopped, promoted = both(engines, temperature=0, stop=[late_word])
    assert promoted[1].outputs[0].finish_reason == "stop"
    assert_same_text(stopped, promoted)


def test_logprobs(engines: dict[str, Any]) -> None:
    whole, promoted = both(engines, temperature=0, logprobs=5)
    assert_same_text(whole, promoted)
    for one, other in zip(whole, promoted, strict=True):
        for a, b in zip(one.outputs[0].logprobs, other.outputs[0].logprobs, strict=True):
            best = next(iter(a))
            assert a[best].logprob == pytest.approx(b[best].logprob, abs=1e-3)


def test_structured_output_stays_valid(engines: dict[str, Any]) -> None:
    from vllm.sampling_params import StructuredOutputsParams

    pattern = r"\[[0-9]{3}(, [0-9]{3}){29}\]"
    structured = StructuredOutputsParams(regex=pattern)
    whole, promoted = both(
        engines, temperature=0, structured_outputs=structured, max_tokens=300, ignore_eos=False
    )
    assert_same_text(whole, promoted)
    for output in promoted:
        assert re.fullmatch(pattern, output.outputs[0].text)


def test_streaming_goes_on_unbroken(engines: dict[str, Any]) -> None:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    whole, _ = both(engines, temperature=0)
    llm_engine = engines["promoted"].llm_engine
    llm_engine.add_request(
        "streamed",
        PROMPTS[1],
        SamplingParams(
            temperature=0, max_tokens=112, ignore_eos=True, output_kind=RequestOutputKind.DELTA
        ),
    )
    received: list[int] = []
    chunks = 0
    while llm_engine.has_unfinished_requests():
        for output in llm_engine.step():
            received.extend(output.outputs[0].token_ids)
            chunks += 1
    assert received == list(whole[1].outputs[0].token_ids)
    assert chunks > 100


@pytest.mark.parametrize("steps_after", [0, 1, 3])
def test_abort_frees_everything(engines: dict[str, Any], steps_after: int) -> None:
    """Aborted in the step of its promotion, and a few later."""
    from vllm import SamplingParams

    llm = engines["promoted"]
    core = scheduler(llm)
    params = SamplingParams(temperature=0, max_tokens=200, ignore_eos=True)
    name = llm.llm_engine.add_request(f"aborted-{steps_after}", PROMPTS[1], params)
    before = core.promotions
    while core.promotions == before:
        llm.llm_engine.step()
    for _ in range(steps_after):
        llm.llm_engine.step()
    assert core.requests[name].factor_set == 1
    llm.llm_engine.abort_request([name], internal=True)
    assert not core.requests
    assert not core.running
    assert not core.preempted
    assert core.kv_cache_manager.usage == 0
