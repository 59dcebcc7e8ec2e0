"""A model on the Hugging Face Hub brings its factor file and its adapters with it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from longrope_factors.factor_file.errors import FactorFileError
from longrope_plugin import adapters
from longrope_plugin.selection import Selection
from safetensors.torch import load_file, save_file

from tests.plugin.adapters import give_adapters, merged
from tests.plugin.engine import random_prompts
from tests.plugin.hub import hub
from tests.plugin.models import give_words, tiny_model
from tests.plugin.reference import Reference
from tests.serving import LONGROPE_SERVE, STOCK_SERVE, running

NAME = "tiny/longrope"


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(STOCK_SERVE, id="stock"),
        pytest.param(LONGROPE_SERVE, id="longrope", marks=pytest.mark.slow),  # half a minute more
    ],
)
def test_a_model_is_served_by_its_name(tmp_path: Path, command: tuple[str, ...]) -> None:
    model = give_adapters(give_words(tiny_model(tmp_path / "model", vocab_size=49152)), 1, 2)
    reference = Reference(model.directory, model.factor_file)
    reference.models.update({index: merged(model, index) for index in (1, 2)})
    prompts = random_prompts([5, 64, 65, 120, 200], seed=31)
    flags = ["--dtype=float32", "--max-num-batched-tokens=64", "--max-model-len=256"]
    with (
        hub(NAME, model.directory) as address,
        running(
            [*command, NAME, *flags],
            tmp_path / "log",
            HF_ENDPOINT=address,
            HF_HOME=str(tmp_path / "cache"),
            HF_HUB_OFFLINE="0",
        ) as server,
    ):
        answer = server.complete(NAME, prompts, 20)
    for prompt, choice in zip(prompts, answer.json()["choices"], strict=True):
        reference.expect(prompt, choice["token_ids"])


def test_an_adapter_of_other_weights_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = give_adapters(tiny_model(tmp_path / "model"), 1)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: model.directory)
    config: Any = SimpleNamespace(
        model_config=SimpleNamespace(model=NAME, revision=None),
        load_config=SimpleNamespace(download_dir=None),
    )
    weights = model.directory / "model.safetensors"
    save_file({name: -tensor for name, tensor in load_file(weights).items()}, weights)
    path = model.directory / "longrope_factors.json"
    with pytest.raises(FactorFileError, match="was trained on weights with the hash"):
        adapters.configure(config, Selection(model.factor_file, "length", 512, path))
