"""What a fine-tune reads, and when."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from longrope_factors.finetuning.data import batch, documents, sequences
from longrope_factors.finetuning.data.packing import LEAST, Span, cut, pack
from longrope_factors.finetuning.data.sequences import Mixture, Planned
from longrope_factors.finetuning.schedule import learning_rate
from transformers import AutoTokenizer

from tests.factors import finetuning

lengths = st.lists(st.integers(0, 200), min_size=1, max_size=20)


@given(lengths, st.integers(2, 64), st.integers(0, 3))
def test_cutting_loses_single_tokens_only(lengths: list[int], window: int, seed: int) -> None:
    windows, rest = cut(lengths, window, np.random.default_rng(seed))
    assert all(len(span) == window for span in windows)
    assert all(LEAST <= len(span) < window for span in rest)
    assert len(windows) == sum(length // window for length in lengths)
    for document, length in enumerate(lengths):
        spans = sorted(
            (span.start, span.end) for span in windows + rest if span.document == document
        )
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
        # A head and a tail of one token each predict nothing.
        assert length - sum(end - start for start, end in spans) <= 2


@given(st.lists(st.integers(LEAST, 50), max_size=40))
def test_packing_keeps_every_span_within_capacity(lengths: list[int]) -> None:
    spans = [Span(document, 0, length) for document, length in enumerate(lengths)]
    groups = pack(spans, 50)
    assert sorted(span.document for group in groups for span in group) == list(range(len(spans)))
    totals = [sum(map(len, group)) for group in groups]
    assert all(total <= 50 for total in totals)
    # No two groups could be one: at most twice as many as would do.
    assert all(a + b > 50 for a, b in itertools.combinations(totals, 2))


def first(count: int, mixture: Mixture, lengths: list[int]) -> list[Planned]:
    return list(itertools.islice(sequences.sequences(lengths, mixture), count))


def tokens(planned: list[Planned]) -> int:
    return sum(len(span) for sequence in planned for span in sequence.spans)


def test_kinds_come_by_their_shares() -> None:
    mixture = Mixture(
        length=64, short_length=32, window=64, whole=64, mixed=0.4, passkey_share=0.25
    )
    planned = first(400, mixture, [1000, 500, 20, 10, 45])
    kinds = {
        kind: [sequence for sequence in planned if sequence.kind == kind]
        for kind in ("long", "short")
    }
    assert len(planned) - sum(map(len, kinds.values())) == 100
    text = tokens(kinds["long"]) + tokens(kinds["short"])
    assert tokens(kinds["short"]) / text == pytest.approx(0.4, abs=0.01)
    assert all(len(span) <= 32 for sequence in kinds["short"] for span in sequence.spans)
    assert all(len(span) > 32 for sequence in kinds["long"] for span in sequence.spans)
    assert len({sequence.seed for sequence in planned if sequence.kind == "passkey"}) == 100


def test_every_pass_reads_every_window_and_cuts_elsewhere() -> None:
    planned = first(
        20, Mixture(length=64, short_length=32, window=64, whole=64, packed=False), [64 * 10 + 63]
    )
    passes = [
        {sequence.spans[0].start for sequence in half} for half in (planned[:10], planned[10:])
    ]
    assert [len(starts) for starts in passes] == [10, 10]
    assert passes[0] != passes[1]
    assert planned == first(
        20, Mixture(length=64, short_length=32, window=64, whole=64, packed=False), [64 * 10 + 63]
    )
    other_seed = Mixture(length=64, short_length=32, window=64, whole=64, packed=False, seed=1)
    assert planned != first(20, other_seed, [64 * 10 + 63])


def test_documents_of_a_batch_do_not_predict_one_another() -> None:
    made = batch.of_documents(
        "long", [np.arange(3, dtype=np.int32), np.arange(5, 7, dtype=np.int32)]
    )
    assert made.token_ids.tolist() == [0, 1, 2, 5, 6]
    assert made.positions.tolist() == [0, 1, 2, 0, 1]
    assert made.weights.tolist() == [1, 1, 0, 1, 0]
    assert [made.labels[place] for place in (0, 1, 3)] == [1, 2, 6]


def test_a_passkey_prompt_asks_for_its_key_and_an_end(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(finetuning.tiny_model(tmp_path / "model"))
    for index in range(10):
        made = batch.passkey(tokenizer, 400, 200, (0, 2, index))
        assert 200 - 10 < len(made.token_ids) <= 400
        assert made.answers[-3:].tolist() == [1, 1, 0]
        assert made.labels[-2] == tokenizer.eos_token_id
        answer = made.weights[made.answers > 0].sum()
        assert answer / made.weights.sum() == pytest.approx(batch.PASSKEY_ANSWER_SHARE)
        assert made.weights[-1] == 0


def test_a_separator_parts_documents(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(finetuning.tiny_model(tmp_path / "model"))
    path = finetuning.text(tmp_path / "text", 20, 30)
    parted = documents.read([path], tokenizer, "\n\n", 30)
    assert [len(document) for document in parted.documents] == [20, 30]
    assert [
        len(document) for document in documents.read([path], tokenizer, None, 50).documents
    ] == [50]
    with pytest.raises(ValueError, match=r"longest document of --corpus has 30 tokens; .* 31 of"):
        documents.read([path], tokenizer, "\n\n", 31)
    path.write_bytes(b"ab\xff")
    with pytest.raises(ValueError, match=r"text: is not UTF-8 text \(byte 2\)"):
        documents.read([path], tokenizer, None, 1)


def test_the_learning_rate_rises_and_falls_in_straight_lines() -> None:
    rates = [learning_rate(step, 10, 4, 1.0) for step in range(10)]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])
