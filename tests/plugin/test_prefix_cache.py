"""No KV block computed under one set is read under another; counted by the engine itself."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.plugin.engine import engine, generate, random_prompts, tokens
from tests.plugin.models import TinyModel
from tests.plugin.reference import Reference

pytestmark = pytest.mark.both_runners


@pytest.fixture(scope="module")
def llm(model: TinyModel) -> Iterator[Any]:
    with engine(model) as llm:
        yield llm


def run(llm: Any, reference: Reference, prompt: list[int], n: int = 4) -> tuple[int, list[int]]:
    """Cached tokens and output of one prompt, its output checked against Hugging Face."""
    (output,) = generate(llm, [prompt], n)
    (generated,) = tokens([output])
    reference.expect(prompt, generated)
    return output.num_cached_tokens, generated


def test_hit_inside_a_set(llm: Any, reference: Reference) -> None:
    (prompt,) = random_prompts([100], seed=10)
    assert run(llm, reference, prompt)[0] == 0
    assert run(llm, reference, prompt)[0] == 96
    assert run(llm, reference, [*prompt[:80], 7, 8, 9])[0] == 64


def test_no_hit_across_sets(llm: Any, reference: Reference) -> None:
    (prompt,) = random_prompts([200], seed=11)
    assert run(llm, reference, prompt[:60])[0] == 0
    assert run(llm, reference, prompt[:90])[0] == 0
    assert run(llm, reference, prompt[:140])[0] == 0
    assert run(llm, reference, prompt[:58])[0] == 32
    assert run(llm, reference, prompt[:100])[0] == 64
    assert run(llm, reference, prompt[:200])[0] == 128


def test_no_hit_across_a_promotion(llm: Any, reference: Reference) -> None:
    (prompt,) = random_prompts([60], seed=12)
    cached, output = run(llm, reference, prompt, n=20)
    assert cached == 0
    grown = prompt + output
    assert run(llm, reference, grown[:63])[0] == 32  # the blocks it filled before
    assert run(llm, reference, grown[:79])[0] == 64  # the blocks it filled again after
    assert run(llm, reference, [*grown[:50], 5, *grown[50:79]])[0] == 32


def test_callers_salt_still_isolates(llm: Any, reference: Reference) -> None:
    from vllm import SamplingParams, TokensPrompt

    (prompt,) = random_prompts([100], seed=13)

    def cached(salt: str | None) -> int:
        request = TokensPrompt(prompt_token_ids=prompt)
        if salt is not None:
            request["cache_salt"] = salt
        params = SamplingParams(temperature=0, max_tokens=2, detokenize=False)
        return llm.generate([request], params, use_tqdm=False)[0].num_cached_tokens

    assert [cached("alice"), cached("alice"), cached("bob"), cached(None), cached("bob")] == [
        *(0, 96, 0, 0, 96)
    ]
