"""Text taught by the untuned model, and training that goes on from an adapter."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from longrope_factors.factor_file import schema
from longrope_factors.factor_file.adapters import adapter_files
from longrope_factors.finetuning import jobs, training
from longrope_factors.finetuning.data import batch, sequences
from longrope_factors.models import loading, rotation
from safetensors.torch import load_file

from tests.factors import finetuning


def test_a_window_is_taught_what_the_untuned_model_says_at_short_positions(tmp_path: Path) -> None:
    settings = finetuning.settings(
        tmp_path,
        steps=1,
        batch=1,
        lora=4,
        distill=True,
        positions="skip",
        window=finetuning.ORIGINAL,
    )
    [step] = training.run(settings).steps
    job = jobs.checked(finetuning.replace(settings, output=tmp_path / "again"))
    planned = next(
        sequences.sequences([len(token_ids) for token_ids in job.corpus.documents], job.mixture)
    )
    made = batch.made(planned, job.corpus.documents, job.tokenizer, job.mixture)
    loaded = loading.load(settings.model, "cpu", "float32")
    predictions = []
    start = 0
    for length in made.document_lengths:
        document = slice(start, start + length)
        ids = torch.as_tensor(made.token_ids[document], dtype=torch.long)[None]
        mask = torch.full((1, 1, length, length), float("-inf")).triu(1)
        of_document = []
        for factor_set, positions in (
            (job.long_set, torch.as_tensor(made.positions[document], dtype=torch.long)[None]),
            (job.short_set, torch.arange(length)[None]),
        ):
            with (
                rotation.rotated_by(loaded.model, factor_set, loaded.identity),
                torch.no_grad(),
            ):
                logits = loaded.model(ids, attention_mask=mask, position_ids=positions).logits[0]
            of_document.append(torch.distributions.Categorical(logits=logits[:-1]))
        predictions.append(of_document)
        start += length
    divergences = [torch.distributions.kl_divergence(own, tuned) for tuned, own in predictions]
    # An adapter begins as nothing.
    assert step.long == pytest.approx(torch.cat(divergences).mean().item(), rel=1e-3)
    assert step.long > 1e-3


def test_half_of_the_windows_lie_without_gaps(tmp_path: Path) -> None:
    settings = finetuning.settings(
        tmp_path, lora=4, distill=True, positions="skip", window=finetuning.ORIGINAL
    )
    job = jobs.checked(settings)
    documents = job.corpus.documents
    planned = sequences.sequences([len(document) for document in documents], job.mixture)
    gapless = 0
    for sequence in itertools.islice(planned, 200):
        made = batch.made(sequence, documents, job.tokenizer, job.mixture)
        start = 0
        lies_without = True
        for length in made.document_lengths:
            positions = made.positions[start : start + length]
            lies_without &= bool((positions == np.arange(length)).all())
            start += length
        gapless += lies_without
    assert 70 < gapless < 140


def test_texts_longer_than_the_model_can_read_teach_themselves(tmp_path: Path) -> None:
    settings = finetuning.settings(tmp_path, steps=1, lora=4)
    assert finetuning.LENGTH > finetuning.ORIGINAL
    told = training.run(finetuning.replace(settings, distill=True, output=tmp_path / "told"))
    assert told.steps[0].long == training.run(settings).steps[0].long


@pytest.mark.long
def test_distilling_brings_back_what_an_adapter_forgot(tmp_path: Path) -> None:
    options = {"lora": 8, "learning_rate": 3e-2, "positions": "skip", "window": 32}
    settings = finetuning.settings(tmp_path, steps=20, **options)
    spoilt = training.run(settings).output / "factors.json"
    again = finetuning.replace(settings, factors=spoilt, distill=True, steps=40, learning_rate=1e-2)
    steps = training.run(finetuning.replace(again, output=tmp_path / "again")).steps
    first, last = (sum(step.long or 0 for step in part) for part in (steps[:5], steps[-5:]))
    assert last < 0.7 * first


@pytest.mark.long
def test_training_goes_on_from_an_adapter(tmp_path: Path) -> None:
    settings = finetuning.settings(tmp_path, lora=4, learning_rate=1e-2)
    first = training.run(settings)
    again = finetuning.replace(
        settings,
        factors=first.output / "factors.json",
        steps=1,
        learning_rate=1e-12,
        output=tmp_path / "again",
    )
    second = training.run(again)
    # So low a rate changes nothing: the losses and weights are those that the first run ended with.
    before, after = (
        load_file(result.output / "adapter" / adapter_files.WEIGHTS) for result in (first, second)
    )
    torch.testing.assert_close(after, before)
    merged = training.run(finetuning.replace(settings, merge=True, output=tmp_path / "merged"))
    output = tmp_path / "of_merged"
    output = tmp_path / "of_merged"
    of_merged = finetuning.replace(settings, model=merged.output, steps=1, output=output)
    assert second.steps[0].loss == pytest.approx(training.run(of_merged).steps[0].loss, rel=1e-4)
    source = schema.load(second.output / "factors.json").sets[-1].provenance.source
    assert "adapter trained under this set: by LoRA of rank 4, 4 steps" in source
    assert source.endswith("learning rate 1e-12")
    assert "adapter trained on under this set: by LoRA of rank 4, 1 steps" in source


def test_a_longer_set_goes_on_from_the_adapter_below_it_and_keeps_it(tmp_path: Path) -> None:
    settings = finetuning.settings(tmp_path, lora=4, learning_rate=1e-2)
    first = training.run(settings).output
    found = schema.load(first / "factors.json")
    last = found.sets[-1]
    invented = last.provenance.model_copy(update={"method": "longrope"})
    longer = last.model_copy(update={"max_length": 256, "adapter": None, "provenance": invented})
    schema.save(schema.build(found.model, [*found.sets, longer]), first / "longer.json")
    again = finetuning.replace(
        settings,
        factors=first / "longer.json",
        length=256,
        steps=1,
        learning_rate=1e-12,
        output=tmp_path / "again",
    )
    second = training.run(again).output
    *lower, result = schema.load(second / "factors.json").sets
    adapter_files.check(schema.load(second / "factors.json"), second / "factors.json")
    assert [kept.fingerprint for kept in lower] == [kept.fingerprint for kept in found.sets]
    assert result.adapter is not None
    assert "adapter of the 128 tokens' set trained on under this set" in result.provenance.source
    before, kept, after = (
        load_file(folder / adapter_files.WEIGHTS)
        for folder in (first / "adapter", second / "adapter-128", second / "adapter")
    )
    torch.testing.assert_close(kept, before, rtol=0, atol=0)
    torch.testing.assert_close(after, before)
    with pytest.raises(ValueError, match="the set of 128 tokens has an adapter for weights that"):
        jobs.checked(finetuning.replace(again, merge=True))
    other_rank = jobs.checked(finetuning.replace(again, lora=8, output=tmp_path / "rank"))
    assert other_rank.start is None


def test_an_adapter_that_cannot_be_gone_on_from_is_refused(tmp_path: Path) -> None:
    settings = finetuning.settings(tmp_path, lora=4, steps=1)
    path = training.run(settings).output / "factors.json"
    again = finetuning.replace(settings, factors=path, output=tmp_path / "again")

    for rank in (8, None):
        with pytest.raises(ValueError, match=r"of rank 4 and scale 2; .* it with --lora 4 and"):
            jobs.checked(finetuning.replace(again, lora=rank))
    other = finetuning.tiny_model(tmp_path / "other", initializer_range=0.5)
    model = loading.load(other, "cpu", "float32").model
    with torch.no_grad():
        next(model.parameters()).add_(1)
    model.save_pretrained(other)
    with pytest.raises(ValueError, match="was trained on weights with the hash"):
        jobs.checked(finetuning.replace(again, model=other))
    weights = path.parent / "adapter" / adapter_files.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(ValueError, match="but the factor file says"):
        jobs.checked(again)


def test_only_an_untouched_model_teaches(tmp_path: Path) -> None:
    for options in ({}, {"lora": 4, "merge": True, "embeddings": True}):
        with pytest.raises(ValueError, match="distill needs lora, and no embeddings"):
            finetuning.settings(tmp_path, distill=True, **options)
