"""Checks by held-out questions choose which weights a fine-tune keeps."""

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from longrope_factors.factor_file import methods, model_directory, schema
from longrope_factors.finetuning import held_out, journal, training
from longrope_factors.finetuning.command import finetune
from longrope_factors.finetuning.settings import Settings
from longrope_factors.finetuning.watcher import Watcher
from safetensors.torch import load_file
from transformers import AutoTokenizer
from typer import Typer
from typer.testing import CliRunner

from tests.factors import finetuning, processes, settings_files, tiny
from tests.factors.test_finetuning import run_and_die
from tests.factors.test_finetuning_processes import in_two_processes

BOOK = "The town lay still that year. Nobody came by, and nobody left. "


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Five short steps, with a check after the second, the fourth and the last."""
    model = tiny.save(tmp_path / "model", tiny.byte_level(), max_position_embeddings=1024)
    identity = model_directory.identity_of(model)
    factor_set = methods.factor_set("yarn", identity, 4096)
    schema.save(schema.build(identity, [factor_set]), tmp_path / "factors.json")
    for name, text in (("a", BOOK * 60), ("held", BOOK.replace("town", "port") * 60)):
        (tmp_path / f"{name}.txt").write_text(text)
    return Settings(
        model=model,
        factors=tmp_path / "factors.json",
        length=4096,
        positions="skip",
        window=64,
        corpus=(tmp_path / "a.txt",),
        output=tmp_path / "tuned",
        steps=5,
        learning_rate=1e-2,
        warmup=0,
        batch=2,
        lora=2,
        dtype="float32",
        held_out=tmp_path / "held.txt",
        check_every=2,
        check_length=1500,
        checkpoint_every=1,
    )


def scripted(monkeypatch: pytest.MonkeyPatch, *shares: float) -> list[int]:
    """Each check finds what is said here, whatever the model is; gives how often it was asked."""
    asked: list[int] = []

    def answers(*_: Any) -> list[tuple[bool, float]]:
        count = round(10 * shares[len(asked)])
        asked.append(count)
        return [(place < count, 1.0) for place in range(10)]

    monkeypatch.setattr(held_out, "asked", answers)
    return asked


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter" / "adapter_model.safetensors")


def test_checks_are_written_down_and_drawn(settings: Settings) -> None:
    result = training.run(settings)
    assert [step.step for step in result.steps if step.found is not None] == [2, 4, 5]
    for step in result.steps:
        assert (step.found is None) == (step.held_out is None)
        assert step.held_out is None or step.held_out > 0
    assert (result.output / "loss.png").read_bytes().startswith(b"\x89PNG")
    kept = journal.best(result.steps)
    assert kept is not None
    record = json.loads((result.output / "finetune.json").read_text())
    assert record["kept"] == {"step": kept.step, "found": kept.found, "held_out": kept.held_out}
    assert record["settings"]["held_out"]["name"] == "held"
    assert (record["settings"]["check_every"], record["settings"]["check_length"]) == (2, 1500)
    source = schema.load(result.output / "factors.json").sets[-1].provenance.source
    assert (
        f"weights of step {kept.step}, which answered {kept.found:.2f} of the questions" in source
    )
    assert source.endswith("about 1500 tokens of held")


@pytest.mark.long
@pytest.mark.parametrize(("lora", "dtype"), [(None, "float32"), (2, "bfloat16")])
def test_a_check_changes_nothing_in_training(
    settings: Settings, tmp_path: Path, lora: int | None, dtype: str
) -> None:
    settings = finetuning.replace(settings, lora=lora, dtype=dtype, steps=3)
    checked = training.run(settings)
    plain = training.run(
        finetuning.replace(
            settings, held_out=None, check_every=None, check_length=None, output=tmp_path / "plain"
        )
    )
    assert [step.loss for step in checked.steps] == [step.loss for step in plain.steps]


@pytest.mark.parametrize(
    ("shares", "step"), [((0.2, 0.7, 0.4), 4), ((0.5, 0.5, 0.5), 2), ((0.1, 0.2, 0.3), 5)]
)
def test_the_weights_that_found_most_are_kept(
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shares: tuple[float, ...],
    step: int,
) -> None:
    scripted(monkeypatch, *shares)
    training.run(settings)
    record = json.loads((settings.output / "finetune.json").read_text())
    assert record["kept"]["step"] == step
    if step == settings.steps:
        return

    class Stop(Watcher):
        def step(self, done: journal.Step) -> None:
            if done.step == step + 1:
                raise InterruptedError

    stopped = finetuning.replace(settings, output=tmp_path / "stopped")
    scripted(monkeypatch, *shares)
    with pytest.raises(InterruptedError):
        training.run(stopped, Stop())
    folder = stopped.output / "checkpoints" / f"step-{step:08d}"
    weights = torch.load(folder / "state.pt", weights_only=True)["model"]
    kept = adapter(settings.output)
    assert len(kept) == len(weights)
    for tensor in kept.values():
        assert any(torch.equal(tensor, other.to(tensor.dtype)) for other in weights.values())


@pytest.mark.long
@pytest.mark.parametrize("after", [2, 4])
def test_a_killed_run_keeps_what_one_that_was_not_does(
    settings: Settings, tmp_path: Path, after: int
) -> None:
    training.run(settings)
    killed = finetuning.replace(settings, output=tmp_path / "killed")
    assert processes.ended(run_and_die, killed, after).exitcode == -signal.SIGKILL
    training.run(killed)
    for name in ("adapter/adapter_model.safetensors", "factors.json", "finetune.json"):
        assert (killed.output / name).read_bytes() == (settings.output / name).read_bytes()
    ours, theirs = (
        [replace(step, seconds=0) for step in journal.read(folder / "loss.jsonl")]
        for folder in (settings.output, killed.output)
    )
    assert ours == theirs


@pytest.mark.long
def test_two_processes_share_out_the_questions(settings: Settings, tmp_path: Path) -> None:
    settings = finetuning.replace(settings, steps=2)
    one = training.run(settings)
    two = finetuning.replace(settings, output=tmp_path / "two", device="cpu")
    in_two_processes(training.run, two)
    checks = [
        (steps[-1].found, pytest.approx(steps[-1].held_out, rel=1e-3))
        for steps in (one.steps, journal.read(two.output / "loss.jsonl"))
    ]
    assert checks[0] == checks[1]


def test_defaults_of_checks(settings: Settings) -> None:
    for steps, every in ((1, 1), (6, 1), (100, 17)):
        unsaid = finetuning.replace(settings, steps=steps, check_every=None)
        assert unsaid.check_interval == every
    nothing = {"held_out": None, "check_every": None, "check_length": None}
    assert finetuning.replace(settings, **nothing).check_interval is None


def test_documents_are_made_of_the_held_out_text(settings: Settings) -> None:
    tokenizer = AutoTokenizer.from_pretrained(settings.model)
    assert settings.held_out is not None
    made = held_out.prepare(settings.held_out, tokenizer, 1500, 0)
    again = held_out.prepare(settings.held_out, tokenizer, 1500, 0)
    assert made == again
    assert made != held_out.prepare(settings.held_out, tokenizer, 1500, 1)
    assert all(fitted.tokens <= 1500 for fitted in made.documents)
    assert "port lay still" in made.documents[0].document.text
    assert sum(len(fitted.tails) for fitted in made.documents) == 20


app = Typer()
app.command()(finetune)


def said(settings: Settings, *words: str, **more: Any) -> tuple[int, str]:
    options = {"model": settings.model, "factors": settings.factors, "length": 4096}
    options |= {"positions": "skip", "window": 64, "corpus": settings.corpus[0]}
    options |= {"output": settings.output, "steps": 2, "batch": 1, "lora": 2, "dtype": "float32"}
    given = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    if more:
        file = settings_files.written(settings.model.parent, finetune=more)
        given += ["--settings", str(file)]
    result = CliRunner().invoke(app, [*given, *words])
    return result.exit_code, " ".join((result.stdout + result.stderr).split())


def test_checks_from_the_command_line(settings: Settings, tmp_path: Path) -> None:
    held = ("--held-out", str(settings.held_out))
    for words, more, sentence in (
        (
            (),
            {"check_every": 2},
            "check_every needs held_out, the text that the questions are about",
        ),
        (held, {"check_every": 3}, "check_every is 3; it should be at most 2."),
        (held, {"check_length": 4097}, "check_length is 4097; it should be at most 4096."),
        (held, {"check_length": 100}, "check_length 100: held_out with 10 facts:"),
        (("--held-out", str(settings.corpus[0])), {}, "a.txt: is a text of --corpus; --held-out"),
        (("--held-out", str(tmp_path / "absent.txt")), {}, "No such file"),
    ):
        code, output = said(settings, *words, **more)
        assert code == 2, output
        assert sentence in output
        assert not settings.output.exists()
    code, output = said(settings, *held, check_length=1400)
    assert code == 0, output
    assert "tokens/s." in output
    assert "The weights are those of step" in output
