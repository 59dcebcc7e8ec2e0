"""The loss over windows whose positions skip, against the model asked window by window."""

from pathlib import Path

import numpy as np
import pytest
import torch
from longrope_factors.factor_file import methods
from longrope_factors.models import loading
from longrope_factors.models.perplexity import perplexity
from longrope_factors.models.rotation import rotated_by
from longrope_factors.models.texts import Text
from longrope_factors.search import documents, skipped

from tests.factors import tiny

WINDOW, LENGTH = 16, 256


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> loading.LoadedModel:
    path: Path = tiny.save(tmp_path_factory.mktemp("skipped") / "model", tiny.byte_level())
    return loading.load(path, "cpu", "float32")


def document() -> documents.Document:
    rng = np.random.default_rng(0)
    text = Text("t", "0" * 64, rng.integers(3, 200, WINDOW * 16).tolist())
    return documents.windows([text], WINDOW * 16, 1)[0]


def test_each_window_sees_itself_alone_across_its_jumps(loaded: loading.LoadedModel) -> None:
    placed = documents.skipping_to(LENGTH, document(), WINDOW, 0)
    factor_set = methods.factor_set("yarn", loaded.identity, LENGTH)
    found = skipped.losses(loaded, placed, factor_set).reshape(16, WINDOW - 1)
    assert placed.positions is not None
    causal = torch.ones(WINDOW, WINDOW).tril().log()[None, None]
    for row, positions, start in zip(
        found, placed.positions, range(0, 16 * WINDOW, WINDOW), strict=True
    ):
        ids = torch.tensor(placed.token_ids[start : start + WINDOW])
        with torch.inference_mode(), rotated_by(loaded.model, factor_set, loaded.identity):
            # A mask says what is seen, so that transformers does not guess it from the jumps.
            logits = loaded.model(
                ids[None],
                position_ids=torch.tensor(positions)[None],
                attention_mask=causal,
                use_cache=False,
            ).logits[0]
        expected = torch.nn.functional.cross_entropy(logits[:-1], ids[1:], reduction="none")
        np.testing.assert_allclose(row, expected.numpy(), atol=2e-5)


def test_whole_texts_are_measured_as_before_afterwards(loaded: loading.LoadedModel) -> None:
    factor_set = methods.factor_set("yarn", loaded.identity, LENGTH)
    ids = document().token_ids
    before = perplexity(loaded.model, ids, factor_set, loaded.identity, 64)
    skipped.losses(loaded, documents.skipping_to(LENGTH, document(), WINDOW, 0), factor_set)
    after = perplexity(loaded.model, ids, factor_set, loaded.identity, 64)
    np.testing.assert_allclose(after, before, atol=1e-6)
