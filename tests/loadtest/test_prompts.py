from functools import cache
from pathlib import Path
from typing import Any, Protocol

import mistral_common
import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st
from longrope_loadtest.profiles import plan
from longrope_loadtest.profiles.planned import Planned
from longrope_loadtest.profiles.profile import Passkey, Profile, TokenIds, Words
from longrope_loadtest.profiles.prompts import FILLER, PASSKEY, QUESTION, text_of, token_ids_of
from longrope_server.serve.embedded import model_directory

from tests.loadtest.mocking import profile

SEEDS = st.integers(0, 2**32)
MANY = {"kind": "constant", "rate": 1, "requests": 60}


class Count(Protocol):
    def __call__(self, text: str) -> int: ...


@cache
def smollm2() -> Count:
    # Not at the top: takes seconds, which the tests that need no tokenizer can do without.
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_directory())
    return lambda text: len(tokenizer(text)["input_ids"])


@cache
def mistral() -> Count:
    path = Path(mistral_common.__file__).parent / "data" / "tokenizer.model.v1"
    processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return lambda text: len(processor.encode(text))


def texts(made: Profile, seed: int) -> list[tuple[Planned, str]]:
    prompt = made.classes["a"].prompt
    assert not isinstance(prompt, TokenIds)
    return [(request, text_of(request, prompt, seed)) for request in plan.make(made, seed)]


def passkeys(tokens: Any, depth: Any, seed: int) -> list[tuple[Planned, str]]:
    prompt = {"kind": "passkey", "tokens": tokens, "depth": depth}
    return texts(profile(MANY, prompt=prompt), seed)


@given(SEEDS)
def test_no_two_prompts_begin_alike(seed: int) -> None:
    made = texts(profile(MANY, prompt={"tokens": 30}), seed)
    assert len({tuple(text.split()[:8]) for _, text in made}) == 60


def test_no_two_prompts_of_different_seeds_begin_alike() -> None:
    begins = {
        tuple(text.split()[:8])
        for seed in range(20)
        for _, text in texts(profile(MANY, prompt={"tokens": 30}), seed)
    }
    assert len(begins) == 20 * 60


@given(SEEDS)
def test_a_shared_prefix_is_shared_and_what_follows_is_not(seed: int) -> None:
    shared = {"tokens": 20, "hit_rate": 0.6}
    made = texts(profile(MANY, prompt={"tokens": 50, "shared_prefix": shared}), seed)
    prefixes: dict[str | None, set[tuple[str, ...]]] = {}
    for planned, text in made:
        prefixes.setdefault(planned.prefix, set()).add(tuple(text.split()[:20]))
    assert all(len(words) == 1 for words in prefixes.values())
    assert len({words.pop()[:8] for words in prefixes.values()}) == len(prefixes)
    assert len({tuple(text.split()[20:28]) for _, text in made}) == 60


@given(SEEDS, st.integers(1, 400), st.integers(0, 500))
def test_n_tokens_are_n_words(seed: int, tokens: int, prefix: int) -> None:
    planned = Planned(3, "a", 0, tokens, 1, prefix="a/0", prefix_tokens=min(prefix, tokens))
    assert (
        len(text_of(planned, Words.model_validate({"tokens": tokens}), seed).split(" ")) == tokens
    )


@pytest.mark.parametrize("count", [smollm2, mistral])
@pytest.mark.parametrize("tokens", [1, 16, 100, 1000, 20_000])
def test_n_words_are_n_tokens(count: Any, tokens: int) -> None:
    for number in range(5):
        text = text_of(
            Planned(number, "a", 0, tokens, 1), Words.model_validate({"tokens": tokens}), 0
        )
        # The first word has no space before it, and may be more than one token to byte pairs.
        assert tokens <= count()(text) <= tokens + 2


@pytest.mark.parametrize("count", [smollm2, mistral])
@pytest.mark.parametrize("tokens", [85, 100, 1000, 8000])
def test_a_passkey_prompt_is_as_long_as_was_asked(count: Any, tokens: int) -> None:
    made = passkeys(tokens, {"kind": "uniform", "min": 0, "max": 1}, 0)
    lengths = [count()(text) for _, text in made[:10]]
    assert all(abs(length - tokens) <= 3 for length in lengths)


@given(SEEDS, st.floats(0, 1))
def test_the_key_is_at_its_depth_and_the_question_at_the_end(seed: int, depth: float) -> None:
    for planned, text in passkeys(600, depth, seed)[:5]:
        assert planned.passkey is not None
        assert text.endswith(QUESTION)
        assert text.count(planned.passkey) == 2
        parts = text.split(PASSKEY.format(key=planned.passkey))
        before, after = (sum(part.count(sentence) for sentence in FILLER) for part in parts)
        assert before == pytest.approx(depth * (before + after), abs=0.5)


@given(SEEDS, st.floats(0, 1))
def test_no_two_passkey_prompts_begin_alike(seed: int, depth: float) -> None:
    made = passkeys({"kind": "choice", "values": [5, 300]}, depth, seed)
    assert len({tuple(text.split()[:8]) for _, text in made}) == 60


@pytest.mark.long
def test_a_small_model_finds_the_keys() -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(model_directory(), dtype="float32")
    tokenizer = AutoTokenizer.from_pretrained(model_directory())
    for planned, text in passkeys(300, {"kind": "uniform", "min": 0, "max": 1}, 0)[:3]:
        message = {"role": "user", "content": text}
        chat = tokenizer.apply_chat_template([message], add_generation_prompt=True, tokenize=False)
        for asked in (text, f"{chat}The pass key is"):
            # Greedy decoding says what is the likeliest after each token of itself.
            ids = tokenizer(f"{asked} {planned.passkey}", return_tensors="pt")["input_ids"]
            said = ids.shape[1] - tokenizer(asked, return_tensors="pt")["input_ids"].shape[1]
            with torch.inference_mode():
                logits = model(ids, logits_to_keep=said + 1).logits
            assert logits[0, :-1].argmax(-1).tolist() == ids[0, -said:].tolist()


def test_passkeys_differ_and_have_five_digits() -> None:
    keys = [planned.passkey for planned, _ in passkeys(100, 0.5, 0)]
    assert len(set(keys)) > 55
    assert all(key and len(key) == 5 for key in keys)


def test_a_passkey_prompt_that_is_asked_too_short_is_still_one() -> None:
    planned = Planned(0, "a", 0, 5, 1, passkey="12345", depth=0.5)
    assert "12345" in text_of(planned, Passkey.model_validate({"kind": "passkey", "tokens": 5}), 0)


@given(SEEDS, st.integers(1, 300), st.integers(0, 400))
def test_token_ids_are_as_many_as_asked_and_in_their_range(
    seed: int, tokens: int, prefix: int
) -> None:
    prompt = TokenIds.model_validate(
        {"kind": "token_ids", "tokens": tokens, "first": 7, "last": 12}
    )
    planned = Planned(3, "a", 0, tokens, 1, prefix="a/0", prefix_tokens=min(prefix, tokens))
    ids = token_ids_of(planned, prompt, seed)
    assert len(ids) == tokens
    assert all(type(token_id) is int and 7 <= token_id <= 12 for token_id in ids)


def test_the_ending_follows_the_words() -> None:
    made = texts(profile(MANY, prompt={"tokens": 10, "ending": "\n\nWhy?"}), 0)
    assert all(text.endswith("\n\nWhy?") for _, text in made)
