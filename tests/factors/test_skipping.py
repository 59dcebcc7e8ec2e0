"""Skipped positions: where a window lies in a long text, and that training there reaches it."""

import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from longrope_factors.factor_file import methods, model_directory, schema
from longrope_factors.factor_file.schema import FactorSet
from longrope_factors.finetuning import attention, devices, jobs, journal, training
from longrope_factors.finetuning.data import batch, sequences, skipping
from longrope_factors.finetuning.data.sequences import Mixture
from longrope_factors.finetuning.loss import Learner
from longrope_factors.finetuning.settings import Settings
from longrope_factors.finetuning.watcher import Watcher
from longrope_factors.models import loading, perplexity, rotation
from transformers import LlamaConfig, LlamaForCausalLM

from tests.factors import finetuning
from tests.factors.examples import llama_config


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@given(st.integers(2, 300), st.integers(2, 10_000), st.integers(0, 9))
def test_a_window_lies_in_its_text_in_order(tokens: int, extent: int, seed: int) -> None:
    positions = skipping.positions(tokens, extent, np.random.default_rng(seed))
    assert positions.shape == (tokens,)
    assert positions[0] == 0
    assert (np.diff(positions) >= 1).all()
    assert positions[-1] < max(extent, tokens)
    # Seven cuts, and one before the last tokens.
    assert (np.diff(positions) > 1).sum() <= 8
    again = skipping.positions(tokens, extent, np.random.default_rng(seed))
    assert (positions == again).all()


def test_half_of_the_windows_end_with_their_text_and_distances_reach_across_it() -> None:
    generator = np.random.default_rng(0)
    windows = [skipping.positions(512, 262_144, generator) for _ in range(2000)]
    ends = np.mean([window[-20] == 262_144 - 20 for window in windows])
    assert ends == pytest.approx(0.5, abs=0.05)
    # What some window shows, of all distances from one token to another.
    shown = np.zeros(262_144, bool)
    for window in windows[:200]:
        shown[(window[:, None] - window[None, :]).clip(min=0).ravel()] = True
    assert shown.mean() > 0.5
    by_eighth = shown.reshape(8, -1).mean(1)
    assert by_eighth.min() > 0.25


def test_texts_are_of_every_length_and_half_of_them_the_longest() -> None:
    generator = np.random.default_rng(0)
    extents = np.asarray([skipping.extent(32_768, 8192, generator) for _ in range(4000)])
    assert extents.min() > 8192
    assert extents.max() == 32_768
    assert (extents == 32_768).mean() == pytest.approx(0.5, abs=0.03)
    shorter = extents[extents < 32_768]
    # Even in the logarithm: as many below 16,384 as above it.
    assert (shorter < 16_384).mean() == pytest.approx(0.5, abs=0.05)
    assert skipping.extent(64, 64, generator) == 64
    assert {skipping.extent(4096, 8192, generator) for _ in range(20)} == {4096}


def test_sequences_come_by_their_shares() -> None:
    mixture = Mixture(
        length=512,
        short_length=32,
        window=64,
        whole=256,
        full_share=0.25,
        retrieval_share=0.4,
        mixed=0.2,
    )
    planned = list(itertools.islice(sequences.sequences([1000, 300, 50], mixture), 400))
    retrieval = [sequence for sequence in planned if sequence.kind == "retrieval"]
    assert len(retrieval) == 160
    assert sum(sequence.whole for sequence in retrieval) == 40
    text = [sequence for sequence in planned if sequence.kind != "retrieval"]
    whole = [sequence for sequence in text if sequence.kind == "long" and sequence.whole]
    skipped = [sequence for sequence in text if not sequence.whole]
    assert max(sum(map(len, sequence.spans)) for sequence in whole) == 256
    assert max(sum(map(len, sequence.spans)) for sequence in text if sequence not in whole) == 64
    assert len({sequence.seed for sequence in skipped + retrieval}) == len(skipped) + len(retrieval)
    tokens = [sum(map(len, sequence.spans)) for sequence in text]
    short = sum(
        map(len, (span for sequence in text if sequence.kind == "short" for span in sequence.spans))
    )
    assert short / sum(tokens) == pytest.approx(0.2, abs=0.01)


def test_a_loss_after_a_skip_depends_on_what_is_before_it(tmp_path: Path) -> None:
    """transformers takes a jump of positions for the end of a packed document; we must not."""
    loaded = loading.load(finetuning.tiny_model(tmp_path / "model"), "cpu", "float32")
    factor_set = methods.factor_set("yarn", loaded.identity, 8 * finetuning.ORIGINAL)
    attention.use_in(loaded.model, 10**6)
    learner = Learner(loaded.model.train(), torch.float32)
    ids = torch.from_numpy(np.random.default_rng(0).integers(2, 100, (1, 48)))
    positions = torch.arange(48)[None] + 200 * (torch.arange(48) >= 24)
    embedded: list[torch.Tensor] = []

    def keep(_module: object, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        embedded.append(output.detach().requires_grad_())
        return embedded[-1]

    handle = loaded.model.get_input_embeddings().register_forward_hook(keep)
    with rotation.rotated_by(loaded.model, factor_set, loaded.identity):
        for lengths in ((48,), (24, 24)):
            losses = learner(ids, positions, ids.roll(-1), lengths)
            losses[40].backward()
            gradient = embedded[-1].grad
            assert gradient is not None
            early, late = gradient[0, :24].abs().sum(), gradient[0, 24:41].abs().sum()
            assert (early > 0) == (lengths == (48,))
            assert late > 0
            if lengths == (48,):
                skipped = losses.detach()
        handle.remove()
        # The reference is told its mask, and so looks for no documents.
        loaded.model.set_attn_implementation("eager")
        mask = torch.full((1, 1, 48, 48), float("-inf")).triu(1)
        logits = loaded.model(
            ids, attention_mask=mask, position_ids=positions, use_cache=False
        ).logits[0]
    expected = torch.nn.functional.cross_entropy(logits, ids[0].roll(-1), reduction="none")
    torch.testing.assert_close(skipped, expected, rtol=1e-4, atol=1e-4)


def skipping_settings(folder: Path, **changes: object) -> Settings:
    return finetuning.settings(
        folder, length=96, positions="skip", window=48, full_share=0.25, mixed=0.2, **changes
    )


def test_sequences_of_one_pass_teach_what_they_teach_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = skipping_settings(tmp_path, steps=2)
    trainer_module = "longrope_factors.finetuning.trainer"
    runs = []
    for tokens, memory in ((512, 2**40), (0, 2**40), (0, 1)):
        monkeypatch.setattr(f"{trainer_module}._TOKENS_OF_A_PASS", {"cpu": tokens})
        monkeypatch.setattr(devices, "memory", lambda _, memory=memory: memory)
        output = tmp_path / f"{tokens}-{memory}"
        training.run(finetuning.replace(settings, output=output))
        steps = journal.read(output / training.LOSSES)
        runs.append(([step.gradient_norm for step in steps], (output / "model.safetensors")))
    together, alone, recomputed = runs
    assert together[0] == pytest.approx(alone[0], rel=1e-4)
    # Layers computed again give what was not kept, to the bit.
    assert alone[0] == recomputed[0]
    assert alone[1].read_bytes() == recomputed[1].read_bytes()


def test_a_stopped_run_goes_on_with_the_same_windows(tmp_path: Path) -> None:
    class Stop(Watcher):
        def step(self, step: journal.Step) -> None:
            if step.step == 3:
                raise InterruptedError

    settings = skipping_settings(tmp_path, lora=2, merge=True, steps=5, output=tmp_path / "whole")
    training.run(settings)
    stopped = finetuning.replace(settings, output=tmp_path / "stopped")
    with pytest.raises(InterruptedError):
        training.run(stopped, Stop())
    training.run(stopped)
    for name in ("model.safetensors", "factors.json", "finetune.json"):
        assert (stopped.output / name).read_bytes() == (settings.output / name).read_bytes()
    (source,) = {
        factor_set.provenance.source.split("fine-tuned under this set: ")[1]
        for factor_set in schema.load(settings.output / "factors.json").sets
        if factor_set.max_length > 32
    }
    assert "5 steps of 4 windows of 48 tokens at positions skipped up to 96" in source
    assert "texts a b" in source
    assert "0.25 of the sequences of 96 tokens, whole" in source


def test_positions_of_a_batch_are_its_windows(tmp_path: Path) -> None:
    job = jobs.checked(skipping_settings(tmp_path))
    lengths = [len(document) for document in job.corpus.documents]
    planned = itertools.islice(sequences.sequences(lengths, job.mixture), 40)
    made = [
        batch.made(sequence, job.corpus.documents, job.tokenizer, job.mixture)
        for sequence in planned
    ]
    assert {len(sequence.token_ids) for sequence in made if sequence.positions.max() > 95} == set()
    skipped = [sequence for sequence in made if sequence.positions.max() > len(sequence.token_ids)]
    assert all(len(sequence.token_ids) <= 48 for sequence in skipped)
    assert max(sequence.positions.max() for sequence in skipped) == 95
    assert any(len(sequence.token_ids) == 96 for sequence in made)
    assert all(sequence.positions.max() < 32 for sequence in made if sequence.kind == "short")


# A small model that copies is trained, and then extended.
WINDOW, WORDS, SPARE = 64, 62, 20
LONG = 8 * WINDOW


def repeating(generator: np.random.Generator, tokens: int) -> np.ndarray:
    """Words in a random order, over and over."""
    period = int(generator.integers(4, 33))
    return np.resize(generator.permutation(WORDS)[:period] + 2, tokens)


def copying_model(folder: Path) -> Path:
    """A model of two layers that goes on with what it saw, in texts of up to WINDOW tokens."""
    finetuning.tiny_model(folder)
    torch.manual_seed(0)
    config = llama_config(
        hidden_size=64,
        intermediate_size=128,
        num_attention_heads=2,
        num_key_value_heads=2,
        vocab_size=WORDS + 2,
        max_position_embeddings=WINDOW,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(LlamaConfig(**config))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.98), weight_decay=0)
    generator = np.random.default_rng(0)
    for step in range(400):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1, (step + 1) / 50)
        ids = torch.from_numpy(np.stack([repeating(generator, WINDOW) for _ in range(32)]))
        logits = model(ids).logits[:, 32:-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 33:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.save_pretrained(folder)
    return folder


def keys_found(directory: Path, factor_set: FactorSet, tokens: int) -> tuple[int, float]:
    """Of 40 texts at real, consecutive positions, in how many the word after a key is found.

    Gives the mean loss of that word too. The key stands at 40 depths, and again at the end.
    """
    loaded = loading.load(directory, "cpu", "float32")
    generator = np.random.default_rng(5)
    found, losses = 0, []
    for number in range(40):
        text = generator.integers(2, WORDS + 2 - SPARE, tokens)
        depth = int((number + 0.5) / 40 * (tokens - 3))
        key, answer = (generator.permutation(SPARE)[:2] + WORDS + 2 - SPARE).tolist()
        text[depth : depth + 2] = key, answer
        text[-2:] = key, answer
        logits = perplexity.logits_from(
            loaded.model, text.tolist(), tokens - 2, factor_set, loaded.identity
        )[0]
        scores = torch.log_softmax(torch.as_tensor(logits).float(), -1)
        found += int(scores.argmax()) == answer
        losses.append(-float(scores[answer]))
    return found, float(np.mean(losses))


@pytest.mark.long
def test_training_at_skipped_positions_finds_keys_in_texts_of_eight_windows(tmp_path: Path) -> None:
    model = copying_model(tmp_path / "model")
    identity = model_directory.identity_of(model)
    factor_set = methods.factor_set("ntk", identity, LONG)
    schema.save(schema.build(identity, [factor_set]), tmp_path / "factors.json")
    source = random.Random(0)
    words: list[str] = []
    while len(words) < 20_000:
        part = source.sample(finetuning.WORDS[:WORDS], source.randint(4, 32))
        words += part * 2
    (tmp_path / "text.txt").write_text(" ".join(words))
    before, loss_before = keys_found(model, factor_set, LONG)
    result = training.run(
        Settings(
            model=model,
            factors=tmp_path / "factors.json",
            length=LONG,
            positions="skip",
            window=WINDOW,
            corpus=(tmp_path / "text.txt",),
            output=tmp_path / "tuned",
            steps=150,
            learning_rate=3e-3,
            warmup=5,
            batch=16,
            dtype="float32",
            checkpoint_every=1000,
        )
    )
    assert sum(step.tokens for step in result.steps) <= 150 * 16 * WINDOW
    after, loss_after = keys_found(result.output, factor_set, LONG)
    print(f"{before} found before, {after} after; losses {loss_before:.2f} and {loss_after:.2f}")
    assert before <= 8
    assert after >= before + 8
    assert loss_after < loss_before - 2
