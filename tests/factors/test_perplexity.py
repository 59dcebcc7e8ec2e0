"""Perplexity in chunks with exact angles, on a tiny model, against transformers' own loss."""

from typing import Any

import numpy as np
import pytest
import torch
from longrope_factors.factor_file import methods
from longrope_factors.models import perplexity
from longrope_factors.models.perplexity import of_losses
from longrope_factors.models.rotation import ExactRotary, rotated_by
from transformers import LlamaConfig, LlamaForCausalLM

from tests.factors.examples import IDENTITY, llama_config

IDS = torch.arange(97).mul(37).remainder(128).tolist()


def tiny(**rope: Any) -> LlamaForCausalLM:
    torch.manual_seed(0)
    rope = {"rope_type": "default", "rope_theta": IDENTITY.rope_theta, **rope}
    return LlamaForCausalLM(LlamaConfig(**llama_config(rope_parameters=rope))).eval()


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    return tiny()


def their_losses(model: LlamaForCausalLM) -> np.ndarray:
    with torch.inference_mode():
        logits = model(torch.tensor([IDS])).logits[0, :-1]
    return torch.nn.functional.cross_entropy(
        logits, torch.tensor(IDS[1:]), reduction="none"
    ).numpy()


@pytest.mark.parametrize("chunk", [1, 7, 96, 1000])
def test_plain_model(model: LlamaForCausalLM, chunk: int) -> None:
    losses = perplexity.perplexity(model, IDS, None, IDENTITY, chunk)
    assert losses.shape == (96,)
    assert losses == pytest.approx(their_losses(model), rel=1e-5)


def test_original_set_changes_nothing(model: LlamaForCausalLM) -> None:
    factor_set = methods.factor_set("original", IDENTITY, 8192)
    losses = perplexity.perplexity(model, IDS, factor_set, IDENTITY, 32)
    assert losses == pytest.approx(their_losses(model), rel=1e-4)


def test_yarn_set_is_transformers_yarn(model: LlamaForCausalLM) -> None:
    yarn = tiny(rope_type="yarn", factor=4.0, truncate=False, original_max_position_embeddings=8192)
    factor_set = methods.factor_set("yarn", IDENTITY, 32768)
    losses = perplexity.perplexity(model, IDS, factor_set, IDENTITY, 32)
    assert losses == pytest.approx(their_losses(yarn), rel=1e-4)
    plain = perplexity.perplexity(model, IDS, None, IDENTITY, 32)
    assert losses != pytest.approx(plain, rel=1e-4)


def test_the_model_gets_its_rotation_back(model: LlamaForCausalLM) -> None:
    theirs = model.model.rotary_emb
    with rotated_by(model, methods.factor_set("pi", IDENTITY, 16384), IDENTITY):
        assert isinstance(model.model.rotary_emb, ExactRotary)
    assert model.model.rotary_emb is theirs


def test_logits_exist_for_a_chunk_at_a_time(model: LlamaForCausalLM) -> None:
    rows: list[int] = []
    hook = model.lm_head.register_forward_hook(lambda _, __, out: rows.append(out.shape[-2]))
    perplexity.sliding(model, IDS, None, IDENTITY, 10, 50, 20)
    perplexity.logits_from(model, IDS, 90, None, IDENTITY)
    hook.remove()
    assert max(rows) == 10


def test_attention_gets_no_mask(model: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    masks: list[Any] = []
    attend = torch.nn.functional.scaled_dot_product_attention

    def watched(*args: Any, **kwargs: Any) -> torch.Tensor:
        masks.append(kwargs.get("attn_mask"))
        return attend(*args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    perplexity.perplexity(model, IDS, None, IDENTITY, 10)
    assert masks
    assert all(mask is None for mask in masks), "a mask would have n x n elements"


def test_layers_are_counted(model: LlamaForCausalLM) -> None:
    calls: list[None] = []
    perplexity.perplexity(model, IDS, None, IDENTITY, 32, lambda: calls.append(None))
    assert len(calls) == 2


def their_sliding_losses(model: LlamaForCausalLM, window: int, stride: int) -> list[float]:
    """The definition, plainly: each token is scored by the first window that reaches it."""
    ends = [*range(window, len(IDS), stride), len(IDS)]
    losses = []
    for token in range(1, len(IDS)):
        end = next(end for end in ends if end > token)
        with torch.inference_mode():
            logits = model(torch.tensor([IDS[max(end - window, 0) : token]])).logits[0, -1]
        losses.append(float(-logits.log_softmax(-1)[IDS[token]]))
    return losses


@pytest.mark.parametrize(
    ("window", "stride"), [(97, 97), (500, 1), (96, 1), (32, 31), (32, 7), (40, 19), (2, 1)]
)
def test_sliding_window(model: LlamaForCausalLM, window: int, stride: int) -> None:
    losses = perplexity.sliding(model, IDS, None, IDENTITY, 10, window, stride)
    assert losses == pytest.approx(their_sliding_losses(model, window, stride), rel=1e-4)


def test_a_window_as_long_as_the_text_is_the_whole_text(model: LlamaForCausalLM) -> None:
    factor_set = methods.factor_set("yarn", IDENTITY, 32768)
    whole = perplexity.perplexity(model, IDS, factor_set, IDENTITY, 32)
    for window, stride in ((97, 5), (100, 100)):
        sliding = perplexity.sliding(model, IDS, factor_set, IDENTITY, 32, window, stride)
        np.testing.assert_array_equal(whole, sliding)


@pytest.mark.parametrize(("length", "window", "stride"), [(97, 32, 7), (97, 96, 95), (10, 2, 1)])
def test_windows_score_each_token_once(length: int, window: int, stride: int) -> None:
    spans = list(perplexity.windows(length, window, stride))
    assert [token for _, first, end in spans for token in range(first, end)] == [*range(1, length)]
    assert all(end - start == window for start, _, end in spans)
    assert all(first - start >= window - stride for start, first, _ in spans[1:])


@pytest.mark.parametrize("start", [0, 50, 96])
def test_logits_from_a_token_on(model: LlamaForCausalLM, start: int) -> None:
    with torch.inference_mode():
        theirs = model(torch.tensor([IDS])).logits[0, start:]
    ours = perplexity.logits_from(model, IDS, start, None, IDENTITY)
    assert ours.shape == theirs.shape
    torch.testing.assert_close(ours, theirs)


def test_perplexity_of_losses() -> None:
    losses = np.log([2.0, 8.0, 4.0, 4.0])
    assert of_losses(losses) == pytest.approx(4.0)
    assert of_losses(losses[:2]) == pytest.approx(4.0)
    assert of_losses(losses, 3) == pytest.approx(2 ** (7 / 3))


def test_another_rotary_dimension_is_refused(model: LlamaForCausalLM) -> None:
    other = IDENTITY.model_copy(update={"rotary_dim": 32})
    factor_set = methods.factor_set("pi", other, 16384)
    with pytest.raises(ValueError, match="rotary_dim 32"):
        perplexity.perplexity(model, IDS, factor_set, other, 32)


def test_a_model_without_rotary_module_is_refused() -> None:
    factor_set = methods.factor_set("pi", IDENTITY, 16384)
    with (
        pytest.raises(ValueError, match="0 modules named rotary_emb"),
        rotated_by(torch.nn.Linear(2, 2), factor_set, IDENTITY),
    ):
        pass


def test_logits_that_are_changed_after_the_embedding_are_refused() -> None:
    model = tiny()
    forward = model.forward

    def scaled(*args: Any, **kwargs: Any) -> Any:
        output = forward(*args, **kwargs)
        output.logits = output.logits * 3
        return output

    model.forward = scaled
    with pytest.raises(ValueError, match="changes its logits"):
        perplexity.perplexity(model, IDS, None, IDENTITY, 32)
