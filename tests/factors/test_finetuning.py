"""Fine-tunes from settings to a directory: what they leave, how they resume, what they refuse."""

import json
import os
import random
import resource
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from longrope_factors.factor_file import methods, model_directory, schema
from longrope_factors.factor_file.adapters import adapter_files
from longrope_factors.factor_file.schema import Adapter, FactorSet
from longrope_factors.finetuning import checkpoint, jobs, journal, training
from longrope_factors.finetuning.command import finetune
from longrope_factors.finetuning.settings import Settings
from longrope_factors.finetuning.watcher import Watcher
from longrope_factors.models import loading, perplexity, rotation
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from tests.factors import finetuning, processes, settings_files
from tests.factors.examples import write

# A server that has the libraries loaded forks each child at once.


def curve(folder: Path) -> list[tuple[Any, ...]]:
    steps = journal.read(folder / training.LOSSES)
    return [tuple({**vars(step), "seconds": 0}.values()) for step in steps]


def mean_loss(directory: Path, factor_set: FactorSet) -> float:
    loaded = loading.load(directory, "cpu", "float32")
    ids = np.random.default_rng(0).integers(2, 22, finetuning.LENGTH).tolist()
    return float(perplexity.perplexity(loaded.model, ids, factor_set, loaded.identity, 1024).mean())


@pytest.mark.parametrize("lora", [None, 4])
def test_a_run_leaves_a_model_that_learned(tmp_path: Path, lora: int | None) -> None:
    settings = finetuning.settings(
        tmp_path, lora=lora, merge=lora is not None, steps=12, learning_rate=1e-2, seed=3
    )
    result = training.run(settings)
    assert [step.step for step in result.steps] == list(range(1, 13))
    assert result.steps == journal.read(result.output / "loss.jsonl")
    assert not (result.output / "checkpoints").exists()
    assert (result.output / "loss.png").read_bytes().startswith(b"\x89PNG")
    factor_file = schema.load(result.output / "factors.json")
    assert [factor_set.max_length for factor_set in factor_file.sets] == [32, 128]
    assert "under this set" in factor_file.sets[1].provenance.source
    long_set = factor_file.sets[factor_file.select(settings.length)]
    assert mean_loss(result.output, long_set) < mean_loss(settings.model, long_set) - 0.5
    # transformers reads the rotation from the config alone.
    model = AutoModelForCausalLM.from_pretrained(result.output, dtype=torch.float32).eval()
    ids = torch.arange(2, 50)[None]
    loaded = loading.load(result.output, "cpu", "float32")
    with rotation.rotated_by(loaded.model, long_set, loaded.identity), torch.no_grad():
        torch.testing.assert_close(
            model(ids).logits, loaded.model(ids).logits, rtol=1e-3, atol=1e-3
        )
    config = json.loads((result.output / "config.json").read_text())
    assert config["longrope_factors"] == "factors.json"
    # A second run finds that there is nothing to do.
    before = (result.output / "model.safetensors").stat().st_mtime_ns
    assert training.run(settings) == result
    assert (result.output / "model.safetensors").stat().st_mtime_ns == before


def test_an_adapter_is_what_was_merged(tmp_path: Path) -> None:
    settings = finetuning.settings(tmp_path, lora=4, learning_rate=1e-2, output=tmp_path / "small")
    small = training.run(settings)
    merged = training.run(finetuning.replace(settings, merge=True, output=tmp_path / "merged"))
    assert {entry.name for entry in small.output.iterdir()} == {
        *("adapter", "factors.json"),
        *("finetune.json", "loss.jsonl", "loss.png"),
    }
    ids = torch.arange(2, 50)[None]
    with torch.no_grad():
        expected = AutoModelForCausalLM.from_pretrained(merged.output).eval()
        for place in (small.output / "adapter", merged.output / "adapter"):
            base = AutoModelForCausalLM.from_pretrained(settings.model)
            tuned = PeftModel.from_pretrained(base, place).eval()
            # The two differ in rotation; their weights alone are compared.
            base.model.rotary_emb = expected.model.rotary_emb
            torch.testing.assert_close(tuned(ids).logits, expected(ids).logits)
            text = (place / "adapter_config.json").read_text()
            assert str(tmp_path) not in text
            targets = json.loads(text)["target_modules"]
            assert targets == sorted(targets), "the same in every run"


@pytest.mark.parametrize(
    ("lengths", "rank"), [((32, 128), 4), ((64,), 1), ((48, 96, 128), 8), ((32, 40, 128, 256), 2)]
)
def test_the_factor_file_names_the_adapter(
    tmp_path: Path, lengths: tuple[int, ...], rank: int
) -> None:
    settings = finetuning.settings(tmp_path, lora=rank, steps=1)
    identity = model_directory.identity_of(settings.model)
    given = [methods.factor_set("original" if n == 32 else "ntk", identity, n) for n in lengths]
    schema.save(schema.build(identity, given), settings.factors)
    training.run(settings)
    path = settings.output / "factors.json"
    assert json.loads(path.read_text())["format"] == "longrope-factors/2"
    found = schema.load(path)
    adapter_files.check(found, path, settings.model)
    *others, tuned = found.sets
    assert tuned.adapter is not None
    assert tuned.adapter.rank == rank
    assert tuned.max_length == min(n for n in lengths if n >= settings.length)
    assert f"adapter trained under this set: by LoRA of rank {rank}" in tuned.provenance.source
    # The others are those of the untouched weights, as they were, and the original one is there.
    assert others[0].max_length == 32
    assert others[0].factors == (1.0,) * 4
    kept = [factor_set for factor_set in given if factor_set.max_length < tuned.max_length]
    assert [
        factor_set for factor_set in others if factor_set.max_length > 32 or 32 in lengths
    ] == kept


@pytest.mark.parametrize(
    ("options", "whole"),
    [
        ({"merge": True}, set()),
        ({"merge": True, "norms": True}, {"input_layernorm", "post_attention_layernorm", "norm"}),
        ({"merge": True, "embeddings": True}, {"embed_tokens"}),
    ],
)
def test_a_merged_run_trains_norms_and_embeddings_where_it_is_told(
    tmp_path: Path, options: dict[str, bool], whole: set[str]
) -> None:
    settings = finetuning.settings(tmp_path, lora=2, steps=1, learning_rate=1e-2, **options)
    settings = finetuning.replace(settings, warmup=0)
    training.run(settings)
    before = load_file(settings.model / "model.safetensors")
    after = load_file(settings.output / "model.safetensors")
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    names = {name.removesuffix(".weight").rpartition(".")[2] for name in changed}
    projections = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert names - projections == whole
    assert schema.load(settings.output / "factors.json").format == "longrope-factors/1"


def test_a_model_that_an_adapter_was_merged_into_names_none(tmp_path: Path) -> None:
    settings = finetuning.settings(tmp_path, lora=4, steps=1, warmup=0)
    training.run(settings)
    given = settings.output / "factors.json"
    whole = finetuning.replace(settings, merge=True, factors=given, output=tmp_path / "whole")
    training.run(whole)
    path = whole.output / "factors.json"
    assert [factor_set.adapter for factor_set in schema.load(path).sets] == [None, None]
    adapter_files.check(schema.load(path), path, whole.output)


def test_generation_defaults_that_contradict_each_other_are_kept(tmp_path: Path) -> None:
    settings = finetuning.settings(tmp_path, steps=1, warmup=0)
    defaults = settings.model / "generation_config.json"
    stated = json.loads(defaults.read_text()) | {"temperature": 0.6, "top_p": 0.9}
    defaults.write_text(json.dumps(stated))
    training.run(settings)
    assert json.loads((settings.output / defaults.name).read_text()) == stated


@pytest.mark.parametrize("changes", [{"length": 64}, {"length": 128, "mixed": 0.3}])
def test_a_config_with_one_of_the_files_sets_is_trained_from_the_unscaled_window(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    settings = finetuning.settings(tmp_path, steps=1, warmup=0, **changes)
    identity = model_directory.identity_of(settings.model)
    sets = [methods.factor_set("yarn", identity, length, True) for length in (64, 128)]
    original = methods.factor_set("original", identity, 32)
    schema.save(schema.build(identity, [original, *sets]), settings.factors)
    path = settings.model / "config.json"
    config = json.loads(path.read_text())
    config["rope_parameters"] |= {
        "rope_type": "yarn",
        "factor": 2.0,
        "original_max_position_embeddings": 32,
    }
    path.write_text(json.dumps(config))
    training.run(settings)
    found = model_directory.base_of(settings.output).load(settings.output / "factors.json")
    assert [factor_set.max_length for factor_set in found.sets] == [32, 64, 128][: len(found.sets)]
    assert found.max_length == settings.length


def test_a_mixed_run_keeps_the_original_rotation_for_short_documents(tmp_path: Path) -> None:
    settings = finetuning.settings(tmp_path, mixed=0.5)
    identity = model_directory.identity_of(settings.model)
    wild = methods.factor_set("pi", identity, finetuning.LENGTH)
    invented = wild.provenance.model_copy(update={"method": "longrope"})
    wild = wild.model_copy(update={"factors": (1000.0,) * 4, "provenance": invented})
    schema.save(schema.build(identity, [wild]), settings.factors)
    result = training.run(finetuning.replace(settings, learning_rate=1e-12))
    factor_file = schema.load(result.output / "factors.json")
    assert [factor_set.max_length for factor_set in factor_file.sets] == [32, 64]
    assert factor_file.sets[0].factors == (1.0,) * 4
    # Hardly trained, short documents lose what they lose under the original rotation.
    plain = training.run(
        finetuning.replace(
            settings,
            mixed=0.5,
            learning_rate=1e-12,
            output=tmp_path / "other",
            factors=write_ntk(tmp_path),
        )
    )
    shorts = [[step.short for step in run.steps] for run in (result, plain)]
    assert shorts[0] == pytest.approx(shorts[1])
    assert [step.long for step in result.steps] != pytest.approx(
        [step.long for step in plain.steps]
    )


def write_ntk(folder: Path) -> Path:
    identity = model_directory.identity_of(folder / "model")
    sets = [methods.factor_set("ntk", identity, finetuning.LENGTH)]
    schema.save(schema.build(identity, sets), folder / "ntk.json")
    return folder / "ntk.json"


def test_passkey_prompts_are_a_share_of_the_sequences(tmp_path: Path) -> None:
    settings = finetuning.settings(tmp_path)
    config = json.loads((settings.model / "config.json").read_text())
    write(settings.model / "config.json", {**config, "max_position_embeddings": 128})
    identity = model_directory.identity_of(settings.model)
    long_set = methods.factor_set("yarn", identity, 256)
    schema.save(schema.build(identity, [long_set]), settings.factors)
    result = training.run(finetuning.replace(settings, length=256, passkey_share=0.25))
    assert all(step.passkey and step.long for step in result.steps)
    source = schema.load(result.output / "factors.json").sets[0].provenance.source
    assert source.endswith("0.25 of the sequences passkey prompts")


@pytest.mark.long
def test_killed_five_times_a_run_ends_as_one_that_was_not(tmp_path: Path) -> None:
    settings = finetuning.settings(
        tmp_path,
        **finetuning.EVERYTHING,
        steps=30,
        checkpoint_every=3,
        output=tmp_path / "whole",
    )
    training.run(settings)
    killed = finetuning.replace(settings, output=tmp_path / "killed")
    generator = random.Random(0)
    reached = []
    for _ in range(5):
        log = killed.output / "loss.jsonl"
        lines = len(journal.read(log)) + generator.randrange(4)
        child = processes.started(training.run, killed)
        while child.is_alive() and len(journal.read(log)) < lines:
            time.sleep(0.001)
        time.sleep(generator.uniform(0, 0.1))
        processes.killed(child)
        reached.append(len(journal.read(log)))
    print(f"killed after {reached} of {settings.steps} steps")
    assert processes.ended(training.run, killed).exitcode == 0
    assert curve(killed.output) == curve(settings.output)
    assert len(curve(killed.output)) == settings.steps
    for name in ("model.safetensors", "factors.json", "config.json", "finetune.json"):
        assert (killed.output / name).read_bytes() == (settings.output / name).read_bytes(), name


@pytest.mark.long
def test_killed_at_any_step_a_run_ends_as_one_that_was_not(tmp_path: Path) -> None:
    settings = finetuning.settings(tmp_path, steps=5, checkpoint_every=2, output=tmp_path / "whole")
    training.run(settings)
    killed = finetuning.replace(settings, output=tmp_path / "killed")
    for step in (1, 3, 4, 5, 6):
        assert processes.ended(run_and_die, killed, step).exitcode == -signal.SIGKILL
        with (killed.output / "loss.jsonl").open("a") as log:
            log.write('{"step": 6, "lo')
    training.run(killed)
    assert curve(killed.output) == curve(settings.output)
    name = "model.safetensors"
    assert (killed.output / name).read_bytes() == (settings.output / name).read_bytes()


class _Dying(Watcher):
    def __init__(self, at: int) -> None:
        self._at = at

    def step(self, step: journal.Step) -> None:
        if step.step == self._at:
            os.kill(os.getpid(), signal.SIGKILL)

    def warn(self, sentence: str) -> None:
        # The output says what its config cannot, when it is all written but not yet recorded.
        os.kill(os.getpid(), signal.SIGKILL)


def run_and_die(settings: Settings, at: int) -> None:
    training.run(settings, _Dying(at))


def stopped(settings: Settings, after: int) -> None:
    """Leaves the run with checkpoints after steps 2 and 4, or as many as there are by then."""

    class Stop(Watcher):
        def step(self, step: journal.Step) -> None:
            if step.step > after:
                raise InterruptedError

    with pytest.raises(InterruptedError):
        training.run(settings, Stop())


def test_an_adapters_checkpoint_has_none_of_the_models_weights(tmp_path: Path) -> None:
    settings = finetuning.settings(tmp_path, lora=2, steps=6)
    stopped(settings, 2)
    state = torch.load(settings.output / "checkpoints/step-00000002/state.pt")
    assert state["model"]
    # The model's embeddings are tied: the output head is a second name of theirs.
    assert all(".lora_" in name for name in state["model"])


def test_a_damaged_checkpoint_is_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = finetuning.settings(tmp_path, steps=6, output=tmp_path / "whole")
    training.run(settings)
    damaged = finetuning.replace(settings, output=tmp_path / "damaged")
    stopped(damaged, 4)
    folder = damaged.output / "checkpoints"
    assert checkpoint.steps(folder) == [2, 4]
    states = sorted(folder.glob("*/state.pt"))
    content = bytearray(states[1].read_bytes())
    content[len(content) // 2] ^= 1
    states[1].write_bytes(content)
    capsys.readouterr()
    training.run(damaged)
    said = capsys.readouterr().err
    assert f"{folder / 'step-00000004'}: this checkpoint is damaged and passed over." in said
    assert curve(damaged.output) == curve(settings.output)

    lost = finetuning.replace(settings, output=tmp_path / "lost")
    stopped(lost, 4)
    for state in (lost.output / "checkpoints").glob("*/state.pt"):
        state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(ValueError, match="every checkpoint there is damaged; remove the folder"):
        training.run(lost)
    assert len(list((lost.output / "checkpoints").iterdir())) == 2


@pytest.mark.long
def test_a_full_disk_is_one_sentence_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    settings = finetuning.settings(tmp_path, steps=6, output=tmp_path / "whole")
    training.run(settings)
    full = finetuning.replace(settings, output=tmp_path / "full")
    stopped(full, 2)
    size = (full.output / "checkpoints/step-00000002/state.pt").stat().st_size
    assert processes.ended(run_with_files_below, full, size // 2, tmp_path / "said").exitcode == 0
    said = (tmp_path / "said").read_text()
    assert said.startswith(f"{full.output}/checkpoints/step-00000004: this checkpoint cannot be")
    assert said.endswith("those before it are kept.")
    assert checkpoint.steps(full.output / "checkpoints") == [2]
    training.run(full)
    assert curve(full.output) == curve(settings.output)

    small = finetuning.settings(tmp_path, lora=1, merge=True, output=tmp_path / "small")
    size = (full.output / "model.safetensors").stat().st_size
    assert processes.ended(run_with_files_below, small, size - 1, tmp_path / "said").exitcode == 0
    said = (tmp_path / "said").read_text()
    assert said.startswith(f"{small.output}: the weights cannot be written")
    assert checkpoint.steps(small.output / "checkpoints") == [2, 4]
    assert [step.step for step in training.run(small).steps] == [1, 2, 3, 4]


def run_with_files_below(settings: Settings, size: int, said: Path) -> None:
    """RLIMIT_FSIZE, its signal ignored, fails a write as a full disk does: partly, then EFBIG."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    try:
        training.run(settings)
    except ValueError as error:
        said.write_text(str(error))


def test_other_settings_and_other_files_are_refused(tmp_path: Path) -> None:
    settings = finetuning.settings(tmp_path)
    stopped(settings, 2)
    for changes, word in (
        ({"seed": 1}, r"another seed \(0, not 1\)"),
        ({"learning_rate": 0.5}, r"another learning_rate \(0.001, not 0.5\)"),
        ({"corpus": settings.corpus[:1]}, "another corpus"),
        ({"lora": 2}, r"another lora \(null, not 2\)"),
    ):
        with pytest.raises(ValueError, match=f"holds a run with {word}"):
            training.run(finetuning.replace(settings, **changes))
    training.run(finetuning.replace(settings, checkpoint_every=1))
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("words")
    with pytest.raises(ValueError, match="foreign: holds other files; -o should be a new folder"):
        training.run(finetuning.replace(settings, output=foreign))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"settings": null, "finished": true}', '{"settings": {}}']
)
def test_a_damaged_record_is_one_sentence(text: str, tmp_path: Path) -> None:
    settings = finetuning.settings(tmp_path)
    settings.output.mkdir()
    (settings.output / jobs.RECORD).write_text(text)
    with pytest.raises(ValueError, match=r"finetune\.json: is not the record of a fine-tune"):
        training.run(settings)


@pytest.mark.parametrize("line", ["{}", "[]", '{"step": 1', "\0"])
def test_a_damaged_log_is_one_sentence(line: str, tmp_path: Path) -> None:
    path = tmp_path / "loss.jsonl"
    path.write_text(f"{line}\n")
    with pytest.raises(ValueError, match=r"loss\.jsonl: line 1 is not a step of a fine-tune"):
        journal.read(path)


def test_a_finished_run_without_its_log(tmp_path: Path) -> None:
    settings = finetuning.settings(tmp_path, steps=1, batch=1, warmup=0)
    training.run(settings)
    (settings.output / training.LOSSES).unlink()
    words = ["--steps", "1", "--batch", "1", "--learning-rate", "0.001", "--dtype", "float32"]
    file = settings_files.written(tmp_path, finetune={"separator": "\n\n", "warmup": 0})
    arguments = [
        *("--model", settings.model, "--factors", settings.factors, "--length", settings.length),
        *("-o", settings.output, "--settings", file, *words),
        *(word for path in settings.corpus for word in ("--corpus", path)),
    ]
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    assert "finished before; its loss.jsonl is gone" in result.stdout


app = typer.Typer()
app.command()(finetune)


def refused(settings: Settings, *options: str, **more: Any) -> str:
    """What is said of the settings with `options` typed, and with `more` in a file."""
    file = settings_files.written(settings.model.parent, finetune={"separator": "\n\n"} | more)
    arguments = [
        *("--model", settings.model, "--factors", settings.factors, "--length", settings.length),
        *("-o", settings.output, "--settings", file),
        *(word for path in settings.corpus for word in ("--corpus", path)),
    ]
    result = CliRunner().invoke(app, [*map(str, arguments), *options])
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, result.stderr
    assert not settings.output.exists()
    return lines[0]


def test_bad_input_is_one_sentence_before_weights_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = finetuning.settings(tmp_path)
    # Nothing could load these.
    (settings.model / "model.safetensors").write_bytes(b"")
    assert "extension ratio below 1" in refused(settings, "--length", "31")
    assert "covers 128 tokens, fewer than the 129 of --length" in refused(
        settings, "--length", "129"
    )
    short = finetuning.text(tmp_path / "short.txt", 63)
    assert "has 63 tokens" in refused(finetuning.replace(settings, corpus=(short,)))
    assert "No such file" in refused(
        finetuning.replace(settings, corpus=(tmp_path / "absent.txt",))
    )
    assert "are too few" in refused(settings, passkey_share=0.5)
    skip = ("--positions", "skip")
    needs = (
        "skipped positions need a window, the number of tokens in a sequence: at least 32, and "
        "less than the length of 64"
    )
    assert needs in refused(settings, *skip)
    assert needs in refused(settings, *skip, "--window", "64")
    assert "window 32 is for skipped positions" in refused(settings, "--window", "32")
    assert "full_share and full_length are for skipped positions" in refused(
        settings, full_share=0.5
    )
    far = "--positions is \"far\"; it should be 'consecutive' or 'skip'"
    assert far in refused(settings, "--positions", "far")
    for more, words in (
        ({"passkey_share": 0.5}, "passkey_share is for consecutive positions"),
        ({"context_parallel": 2}, "context_parallel divides long sequences"),
        ({"full_share": 1.0}, "finetune.full_share is 1.0; it should be less than 1"),
    ):
        assert words in refused(settings, *skip, "--window", "32", **more)
    assert "leave no sequence for the corpus" in refused(
        settings, "--retrieval-share", "0.5", passkey_share=0.5
    )
    assert "merge needs lora, a rank" in refused(settings, "--merge")
    for name in ("norms", "embeddings"):
        assert f"{name} needs lora, a rank" in refused(settings, **{name: True})
        assert f"{name} needs merge" in refused(settings, "--lora", "4", **{name: True})
    assert "--lora is 0; it should be greater than or equal to 1" in refused(
        settings, "--lora", "0"
    )
    assert "lora 513 is above 512" in refused(settings, "--lora", "513")
    tuned = Adapter(folder="a", sha256="0" * 64, rank=4, scale=2.0, base_sha256="0" * 64)
    given = schema.load(settings.factors)
    sets = [factor_set.model_copy(update={"adapter": tuned}) for factor_set in given.sets]
    schema.save(schema.build(given.model, sets), tmp_path / "tuned.json")
    assert "the set of 32 tokens has an adapter" in refused(
        finetuning.replace(settings, factors=tmp_path / "tuned.json")
    )
    assert "--batch is 0; it should be greater than" in refused(settings, "--batch", "0")
    assert "finetune.mixed is 1.5; it should be less than 1" in refused(settings, mixed=1.5)
    assert "--device is \"tpu\"; it should be 'cpu' or" in refused(settings, "--device", "tpu")
    assert '--device is "cuda:0"; it should' in refused(settings, "--device", "cuda:0")
    assert "--dtype is \"bf16\"; it should be 'bfloat16' or" in refused(settings, "--dtype", "bf16")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert "--device cuda is not a device that PyTorch has" in refused(settings, "--device", "cuda")
    for wrong in ("nan", "inf"):
        assert "--learning-rate is" in refused(settings, "--learning-rate", wrong)
    assert "finetune.seed is" in refused(settings, seed=2**63)
    assert "one of mixed and" in refused(settings, mixed=0.5, context_parallel=2)
    assert "multiple of 6" in refused(settings, context_parallel=3)
    with pytest.raises(ValueError, match="at least 1 item"):
        finetuning.settings(tmp_path, corpus=())
    config = json.loads((settings.model / "config.json").read_text())
    write(settings.model / "config.json", {**config, "rope_parameters": {"rope_type": "default"}})
    assert 'but the model "model" has 10000.0' in refused(settings)
    rope = {"rope_type": "default", "rope_theta": 5e5}
    write(settings.model / "config.json", {**config, "rope_parameters": rope})
    assert "model.rope_theta is 100000" in refused(settings)
    write(settings.model / "config.json", config)
    (settings.model / "model.safetensors").unlink()
    assert "has no *.safetensors file" in refused(settings)
