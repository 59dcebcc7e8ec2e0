"""A plan beside a GPU: all but the GPU's part."""

import json
from pathlib import Path

import pytest
import torch
import typer
from rich.console import Console

from bench import planned
from tests.server.plan.configs import LLAMA2_7B

FACTORS = "llama2-7b-ft256k"


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA2_7B))
    return str(tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as exit_:
        planned.main("anything", "H100")
    assert exit_.value.exit_code == 2
    assert capsys.readouterr().err == "This compares a plan with a GPU, and there is none here.\n"


def test_the_longest_set_that_fits(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    plan = planned._plan(model, "H200", FACTORS)
    assert planned._length(plan, None)["tokens"] == 32_768
    assert planned._length(plan, 8192)["tokens"] == 8192
    with pytest.raises(typer.Exit):
        planned._length(plan, 9000)
    assert capsys.readouterr().err == (
        "--length is 9000; of the model's factor sets these fit: 4096, 8192, 16384, 32768.\n"
    )


def test_another_kind_of_gpu_is_refused(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    plan = planned._plan(model, "H100", FACTORS)
    planned._check_kind(plan, plan["gpu"]["memory_bytes"] - 2**28)
    with pytest.raises(typer.Exit):
        planned._check_kind(plan, 140 * planned.GIB)
    assert capsys.readouterr().err == (
        "--gpu is H100, of 79.1 GiB; the GPU here has 140.0 GiB: name its kind.\n"
    )


def test_figures_and_their_table(model: str) -> None:
    plan = planned._plan(model, "H200", FACTORS)
    at = planned._length(plan, 32_768)
    measured = planned.Measured(
        kv_tokens=2 * plan["max_tokens_that_fit"],
        prefill_seconds=at["placed"]["prefill_seconds"] / 2,
        decode_milliseconds=10.0,
        used_bytes=100 * planned.GIB,
        runner="V2",
    )
    figures = planned._figures(plan, at, measured)
    assert figures["tflops_reached"] == pytest.approx([0.4 * 989, 0.8 * 989])
    console = Console(width=100)
    with console.capture() as printed:
        console.print(planned._table("a GPU", figures))
    rows = [line.split("│")[1:-1] for line in printed.get().splitlines() if "│" in line]
    ratios = {label.strip(): ratio.strip() for label, _, _, ratio in rows}
    assert ratios["tokens that the cache holds"] == "2.000"
    assert ratios["prompt, seconds"] == "0.500"
    assert "32,768 tokens, a GPU, V2" in printed.get()
