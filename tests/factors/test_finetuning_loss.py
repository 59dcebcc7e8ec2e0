"""The loss that is trained on equals the plain one of each document alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from longrope_factors.factor_file import methods
from longrope_factors.factor_file.schema import FactorSet
from longrope_factors.finetuning import attention, trainable
from longrope_factors.finetuning.data import batch
from longrope_factors.finetuning.data.batch import Batch
from longrope_factors.finetuning.loss import UNTRAINED, Learner, Lesson, token_losses
from longrope_factors.models import loading, perplexity, rotation
from longrope_factors.models.loading import LoadedModel

from tests.factors import finetuning


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    directory = finetuning.tiny_model(tmp_path_factory.mktemp("tiny") / "model")
    return loading.load(directory, "cpu", "float32")


@pytest.fixture(scope="module")
def factor_set(loaded: LoadedModel) -> FactorSet:
    made = methods.factor_set("yarn", loaded.identity, 4 * finetuning.ORIGINAL)
    return made.model_copy(update={"start_tokens": 4})


def documents(*lengths: int) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(2, 100, length, dtype=np.int32) for length in lengths]


def losses(learner: Learner, made: Batch) -> torch.Tensor:
    tensors = [
        torch.as_tensor(each, dtype=torch.long)[None]
        for each in (made.token_ids, made.positions, made.labels)
    ]
    return learner(*tensors, made.document_lengths)


def test_packed_documents_lose_and_teach_what_they_do_alone(
    loaded: LoadedModel, factor_set: FactorSet, tmp_path: Path
) -> None:
    parts = documents(50, 2, 31, 100)
    alone = [
        perplexity.perplexity(loaded.model, each.tolist(), factor_set, loaded.identity, 16)
        for each in parts
    ]
    model = trainable.prepare(loaded.model, finetuning.settings(tmp_path))
    attention.use_in(model, 10**6)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    learner = Learner(model, torch.float32).train()
    made = batch.of_documents("long", parts)
    with rotation.rotated_by(model, factor_set, loaded.identity):
        packed = losses(learner, made)
        (packed * torch.as_tensor(made.weights)).sum().backward()
        packed_gradients = [each.grad.clone() for each in learner.parameters()]
        learner.zero_grad()
        # The reference has neither packing, chunks, checkpoints nor our attention.
        model.gradient_checkpointing_disable()
        model.set_attn_implementation("eager")
        for each in parts:
            ids = torch.as_tensor(each, dtype=torch.long)[None]
            logits = model(ids, use_cache=False).logits[0, :-1]
            torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum").backward()
    counted = packed.detach()[torch.as_tensor(made.weights) > 0].numpy()
    np.testing.assert_allclose(counted, np.concatenate(alone), rtol=1e-4)
    for ours, parameter in zip(packed_gradients, learner.parameters(), strict=True):
        torch.testing.assert_close(ours, parameter.grad, rtol=1e-3, atol=1e-4)


def test_the_loss_in_chunks_makes_no_logits_of_all_tokens() -> None:
    vocabulary, tokens = 500, 300
    hidden = torch.randn(tokens, 8, requires_grad=True)
    weight = torch.randn(vocabulary, 8, requires_grad=True)
    labels = torch.randint(vocabulary, (tokens,))
    kept: list[int] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        chunked = token_losses(hidden, labels, lambda states: states @ weight.T, chunk=64)
    assert max(kept) <= vocabulary * 8
    plain = torch.nn.functional.cross_entropy(hidden @ weight.T, labels, reduction="none")
    torch.testing.assert_close(chunked, plain)
    ours = torch.autograd.grad(chunked.sum(), (hidden, weight))
    for gradient, theirs in zip(
        ours, torch.autograd.grad(plain.sum(), (hidden, weight)), strict=True
    ):
        torch.testing.assert_close(gradient, theirs)


def test_each_token_has_its_own_loss_and_untrained_ones_have_no_logits() -> None:
    vocabulary, tokens, seen = 50, 30, []
    hidden, taught = torch.randn(2, tokens, 8)
    hidden.requires_grad_()
    weight = torch.randn(vocabulary, 8)

    def head(states: torch.Tensor) -> torch.Tensor:
        seen.append(len(states))
        return states @ weight.T

    labels = torch.randint(vocabulary, (tokens,))
    labels[::3] = UNTRAINED
    where = torch.arange(tokens) % 2 == 0
    losses = token_losses(hidden, labels, head, Lesson(taught, where), chunk=64)
    assert sum(seen) == 10 + 2 * 10
    mine, theirs = ((states @ weight.T).log_softmax(-1) for states in (hidden, taught))
    expected = torch.where(
        where,
        (theirs.exp() * (theirs - mine)).sum(-1),
        -mine[torch.arange(tokens), labels.clamp(min=0)],
    )
    expected = torch.where(labels == UNTRAINED, 0, expected)
    torch.testing.assert_close(losses, expected)
    ours, reference = (torch.autograd.grad(made.sum(), hidden)[0] for made in (losses, expected))
    torch.testing.assert_close(ours, reference)


@pytest.mark.parametrize("norms", [True, False])
@pytest.mark.parametrize("embeddings", [True, False])
def test_lora_trains_adapters_norms_and_tied_embeddings_in_float32(
    tmp_path: Path, norms: bool, embeddings: bool
) -> None:
    settings = finetuning.settings(tmp_path, lora=4, merge=True, norms=norms, embeddings=embeddings)
    model = loading.load(settings.model, "cpu", "bfloat16").model
    trainable.prepare(model, settings)
    trained = {name: each for name, each in model.named_parameters() if each.requires_grad}
    assert {each.dtype for each in trained.values()} == {torch.float32}
    for kind, expected in (
        ("lora_A", True),
        ("lora_B", True),
        ("norm", norms),
        ("embed_tokens", embeddings),
    ):
        assert any(kind in name for name in trained) == expected
    assert len([name for name in trained if "lora_A" in name]) == 2 * 7
    assert len([name for name in trained if "norm" in name]) == norms * (2 * 2 + 1)
    output, inputs = model.get_output_embeddings().weight, model.get_input_embeddings().weight
    assert output.data_ptr() == inputs.data_ptr()


def test_a_sliding_window_is_refused(tmp_path: Path) -> None:
    from transformers import MistralConfig, MistralForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "vocab_size": 128}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    model = MistralForCausalLM(MistralConfig(**sizes, **heads, sliding_window=16))
    with pytest.raises(ValueError, match=r"sliding window of 16 tokens.*should be null"):
        attention.use_in(model, 17)
    attention.use_in(model, 16)
    endless = MistralConfig(**sizes, **heads, sliding_window=None)
    attention.use_in(MistralForCausalLM(endless), 10**6)
