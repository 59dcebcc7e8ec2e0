"""No sampling parameter ends the engine, and a prompt in several steps samples as in one.

Every parameter of a request, alone and in pairs, with a short prompt, one that takes several steps,
and one that is promoted on the way, beside chats that are running: once by an engine whose steps
hold 64 tokens, once by one that computes every prompt whole.
"""

import contextlib
import inspect
import itertools
import random
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest

from tests.plugin.conftest import ON_GPU, ON_V2
from tests.plugin.engine import engine, scheduler
from tests.plugin.models import VOCABULARY, TinyModel, give_bytes, tiny_model

pytestmark = pytest.mark.both_runners

LIMITS = (64, 128, 256)
PROMPT_TOKENS = (10, 100, 124)  # in one step; in two; in two, and promoted at 128
MAX_TOKENS = 8

PARAMETERS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "seed": {"seed": 2**31},
    "n": {"n": 2},
    "presence_penalty": {"presence_penalty": 0.7},
    "frequency_penalty": {"frequency_penalty": -0.5},
    "repetition_penalty": {"repetition_penalty": 1.2},
    "temperature": {"temperature": 1.7},
    "top_p": {"top_p": 0.4},
    "top_k": {"top_k": 7},
    "min_p": {"min_p": 0.2},
    "stop": {"stop": ["e", "th"]},
    "stop_token_ids": {"stop_token_ids": list(range(100, 150))},
    "ignore_eos": {"ignore_eos": True},
    "max_tokens": {"max_tokens": 1},
    "min_tokens": {"min_tokens": 5},
    "logprobs": {"logprobs": 3},
    "logprob_token_ids": {"logprob_token_ids": [5, 11, 480]},
    "prompt_logprobs": {"prompt_logprobs": 2},
    "flat_logprobs": {"flat_logprobs": True},
    "detokenize": {"detokenize": False},
    "special_tokens": {"skip_special_tokens": False, "spaces_between_special_tokens": False},
    "include_stop": {"include_stop_str_in_output": True},
    "logit_bias": {"logit_bias": {70: 100.0, 90: -100.0, 130: 99.0}},
    "allowed_token_ids": {"allowed_token_ids": list(range(48, 96))},
    "bad_words": {"bad_words": ["th", " a"]},
    "regex": {"structured_outputs": {"regex": r"[0-9]{3,40}"}},
    "json": {"structured_outputs": {"json": {"type": "array", "items": {"type": "integer"}}}},
    "choice": {"structured_outputs": {"choice": ["yes", "no", "perhaps not"]}},
    "skip_prefix_cache": {"skip_reading_prefix_cache": True},
    "repetition_detection": {
        "repetition_detection": {"max_pattern_size": 4, "min_pattern_size": 1, "min_count": 2}
    },
    "extra_args": {"extra_args": {"anything": [1, "two"]}},
}


def merged(*names: str) -> dict[str, Any]:
    """The fields of several parameters at once; a later one has its way."""
    fields: dict[str, Any] = {"max_tokens": MAX_TOKENS}
    for name in names:
        fields |= PARAMETERS[name]
    return fields


def sampling_params(fields: dict[str, Any]) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RepetitionDetectionParams, StructuredOutputsParams

    fields = dict(fields)
    for name, kind in (
        ("structured_outputs", StructuredOutputsParams),
        ("repetition_detection", RepetitionDetectionParams),
    ):
        if name in fields:
            fields[name] = kind(**fields[name])
    return SamplingParams(**fields)


def is_refused(fields: dict[str, Any]) -> bool:
    """Whether vLLM itself says that these do not go together, before the engine has them."""
    from vllm.exceptions import VLLMValidationError

    try:
        sampling_params(fields)
    except VLLMValidationError:
        return True
    return False


def pairs() -> list[tuple[str, ...]]:
    """All that go together."""
    return [pair for pair in itertools.combinations(PARAMETERS, 2) if not is_refused(merged(*pair))]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return give_bytes(tiny_model(tmp_path_factory.mktemp("bytes"), limits=LIMITS))


def answers(model: TinyModel, names: list[tuple[str, ...]], step_tokens: int) -> list[Any]:
    """What an engine with steps of so many tokens says to every case and prompt."""
    from vllm import TokensPrompt

    generator = random.Random(1)
    prompts = [[generator.randrange(3, VOCABULARY) for _ in range(n)] for n in PROMPT_TOKENS]
    chat = {"max_tokens": 100, "ignore_eos": True, "temperature": 0.0}
    requests = [(prompts[0], chat)] + [
        (prompt, {"seed": case, **merged(*pair)})
        for case, pair in enumerate(names)
        for prompt in prompts
    ]
    with (
        engine(
            model,
            skip_tokenizer_init=False,
            max_num_batched_tokens=step_tokens,
            max_logprobs=5,
        ) as llm,
        _without_top_k_kernel(),
    ):
        outputs = llm.generate(
            [TokensPrompt(prompt_token_ids=prompt) for prompt, _ in requests],
            [sampling_params(fields) for _, fields in requests],
            use_tqdm=False,
        )
        assert scheduler(llm).promotions > len(names) // 2
    return outputs[1:]


@contextlib.contextmanager
def _without_top_k_kernel() -> Iterator[None]:
    """Filters without the one kernel of V2's that Triton's interpreter cannot run."""
    if ON_GPU:
        yield
        return
    with mock.patch("vllm.v1.sample.ops.topk_topp_sampler.HAS_TRITON", False):
        yield


def assert_steps_do_not_matter(model: TinyModel, names: list[tuple[str, ...]]) -> None:
    whole, stepwise = (answers(model, names, step_tokens) for step_tokens in (2048, 64))
    for index, (one, other) in enumerate(zip(whole, stepwise, strict=True)):
        case = names[index // len(PROMPT_TOKENS)], PROMPT_TOKENS[index % len(PROMPT_TOKENS)]
        assert len(one.outputs) == len(other.outputs), case
        for a, b in zip(one.outputs, other.outputs, strict=True):
            assert a.token_ids == b.token_ids, case
            assert a.text == b.text, case
            assert (a.finish_reason, a.stop_reason) == (b.finish_reason, b.stop_reason), case
            assert_close_logprobs(a.logprobs, b.logprobs, case)
        assert_close_logprobs(one.prompt_logprobs, other.prompt_logprobs, case)


def assert_close_logprobs(one: Any, other: Any, case: Any) -> None:
    assert (one is None) == (other is None), case
    for a, b in zip(one or (), other or (), strict=True):
        assert (a is None) == (b is None), case
        if a is not None:
            for token in a.keys() & b.keys():  # the last of the best may be another, at a tie
                assert a[token].logprob == pytest.approx(b[token].logprob, abs=1e-3), case


def test_alone_and_some_pairs(model: TinyModel) -> None:
    alone = [(name,) for name in PARAMETERS if not is_refused(merged(name))]
    some_pairs = random.Random(12).sample(pairs(), 40)
    # In Triton's interpreter a pair takes seconds.
    assert_steps_do_not_matter(model, alone if ON_V2 and not ON_GPU else alone + some_pairs)


@pytest.mark.slow
def test_all_pairs(model: TinyModel) -> None:
    assert_steps_do_not_matter(model, pairs())


def test_parameters_are_all_of_vllms() -> None:
    """A parameter that a new release adds is tried too."""
    from vllm import SamplingParams

    tried = {field for fields in PARAMETERS.values() for field in fields}
    internal = {"output_kind", "stream_interval", "skip_clone", "output_text_buffer_length"}
    elsewhere = {  # need a model or an engine of their own, or take part in no sampling
        "watermarking",
        "thinking_token_budget",
        "routed_experts_prompt_start",
        "trace_decode_token_ids",
        "prompt_logprob_token_ids",
        "prompt_logprob_start",
    }
    fields = {name for name in SamplingParams.__struct_fields__ if not name.startswith("_")}
    assert fields - tried - internal - elsewhere == set()


@pytest.mark.skipif(ON_V2, reason="V2 draws from the seed and the position: there is no state")
def test_vllm_still_rewinds_by_an_offset_that_a_cpu_has_not() -> None:
    """When this fails, `_sample` and `_bookkeeping_sync` of our V1 runner can go."""
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

    assert "gen.set_offset(gen.get_offset() - 4)" in inspect.getsource(
        GPUModelRunner._bookkeeping_sync
    )
