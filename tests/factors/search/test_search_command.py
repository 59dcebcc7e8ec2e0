"""`longrope factors search` on a tiny model: killed, shared out, refused."""

import json
import math
import random
import shutil
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from longrope_factors.cli import app
from longrope_factors.factor_file import schema
from longrope_factors.models import loading
from longrope_factors.models.reference import frequencies
from longrope_factors.search.evolving.shape import theoretical_critical_pair
from longrope_factors.search.question import Question, plan
from longrope_factors.search.settings import Settings, SpaceSettings
from longrope_factors.search.task import Laboratory, Worker
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel
from typer.testing import CliRunner

from tests.factors import processes, settings_files, tiny

LENGTH = 128


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("search") / "model", tiny.byte_level())


@pytest.fixture(scope="module")
def corpus(model: Path) -> list[str]:
    rng = random.Random(0)
    arguments = []
    for name in ("one", "two", "three"):
        path = model.parent / f"{name}.txt"
        path.write_text("".join(rng.choices("ab cd", k=3 * LENGTH)))
        arguments += ["--corpus", str(path)]
    return arguments


SMALL = {"population": 10, "mutations": 4, "crossovers": 2, "parents": 4, "iterations": 6}


def command(
    model: Path, corpus: list[str], output: Path, *more: str, **sections: dict[str, Any]
) -> list[str]:
    """The words of a small search, with `more` options and with other settings in `sections`."""
    small = {"search": SMALL, "machine": {"threads": 1}}
    merged = {name: small.get(name, {}) | sections.get(name, {}) for name in {**small, **sections}}
    return [
        *("search", "--model", str(model), "--length", str(LENGTH), *corpus),
        *("-o", str(output), "--settings", str(settings_files.written(model.parent, **merged))),
        *more,
    ]


def run(arguments: list[str]) -> str:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2, result.output
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.fixture(scope="module")
def whole(model: Path, corpus: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a search writes that nobody disturbs."""
    output = tmp_path_factory.mktemp("whole") / "found.json"
    assert "without racing" in run(command(model, corpus, output))
    return output


def test_a_factor_file_that_says_where_it_came_from(whole: Path) -> None:
    original, found = schema.load(whole).sets
    assert (original.max_length, original.provenance.method) == (64, "original")
    assert (found.max_length, found.provenance.method) == (LENGTH, "longrope")
    provenance = found.provenance
    assert provenance.search is not None
    assert provenance.search["population"] == 10
    assert provenance.corpus is not None
    assert [text.name for text in provenance.corpus] == ["one", "two", "three"]
    assert provenance.perplexity_after is not None
    assert provenance.perplexity_after < (provenance.perplexity_before or 0)
    lines = whole.with_suffix(".jsonl").read_text().splitlines()
    assert len(lines) == 1 + (provenance.evaluations or 0)
    assert whole.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.long
def test_killed_at_five_random_moments_the_file_is_the_same(
    model: Path, corpus: list[str], whole: Path, tmp_path: Path
) -> None:
    output = tmp_path / "found.json"
    log = output.with_suffix(".jsonl")
    lines = len(whole.with_suffix(".jsonl").read_text().splitlines())
    rng = random.Random(time.time_ns())
    for moment in sorted(rng.sample(range(1, lines), 5)):
        process = processes.started(processes.command, command(model, corpus, output))
        while process.is_alive() and (not log.exists() or log.read_bytes().count(b"\n") < moment):
            time.sleep(0.001)
        processes.killed(process)
        assert not output.exists()
    run(command(model, corpus, output))
    assert output.read_bytes() == whole.read_bytes()
    assert log.read_bytes().count(b"\n") == lines


@pytest.mark.long
def test_several_processes_find_the_same(
    model: Path, corpus: list[str], whole: Path, tmp_path: Path
) -> None:
    output = tmp_path / "found.json"
    run(command(model, corpus, output, "--workers", "2"))
    assert output.read_bytes() == whole.read_bytes()


@pytest.mark.long
def test_a_killed_search_takes_its_workers_with_it(
    model: Path, corpus: list[str], tmp_path: Path
) -> None:
    log = tmp_path / "found.jsonl"
    words = command(model, corpus, tmp_path / "found.json", "--workers", "2")
    process = processes.started(processes.command, words)
    while not log.exists() or log.read_bytes().count(b"\n") < 3:
        assert process.is_alive()
        time.sleep(0.01)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2
    processes.killed(process)
    assert psutil.wait_procs(children, timeout=20)[1] == []


@pytest.mark.long
def test_a_ray_cluster_finds_the_same(
    model: Path, corpus: list[str], whole: Path, tmp_path: Path
) -> None:
    output = tmp_path / "found.json"
    run(command(model, corpus, output, "--workers", "2", machine={"ray": "local"}))
    assert output.read_bytes() == whole.read_bytes()


def test_a_finished_search_is_told_again_from_its_log(
    model: Path,
    corpus: list[str],
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = tmp_path / "again.json"
    output.with_suffix(".jsonl").write_bytes(whole.with_suffix(".jsonl").read_bytes())
    monkeypatch.delattr("longrope_factors.models.loading.load")  # nothing is measured
    run(command(model, corpus, output))
    assert output.read_bytes() == whole.read_bytes()


def test_second_search_multiplies_the_bases_factors(
    model: Path, corpus: list[str], whole: Path, tmp_path: Path
) -> None:
    output = tmp_path / "second.json"
    longer = [*command(model, corpus, output), "--length", "256", "--iterations", "1"]
    run([*longer, "--base", str(whole), "--keep", str(whole)])
    base = schema.load(whole).sets[-1]
    sets = schema.load(output).sets
    assert [factor_set.max_length for factor_set in sets] == [64, LENGTH, 256]
    assert sets[1] == base
    relative = [found / own for found, own in zip(sets[2].factors, base.factors, strict=True)]
    assert min(relative) >= 1 - 1e-9
    assert max(relative) <= 1.25 * 2


def test_a_second_searchs_seeds_multiply_the_bases_attention_factor(
    model: Path, corpus: list[str], whole: Path
) -> None:
    base = schema.load(whole).sets[-1].model_copy(update={"attention_factor": 1.05})
    texts = tuple(map(Path, corpus[1::2]))

    def attention(wanted: Any) -> dict[str, float]:
        space = SpaceSettings(attention_factor=wanted)
        question = Question(model, 256, texts, space, base, dtype="float32")
        seeds = plan(question, Settings()).seeds
        return {name: seed.attention_factor for name, seed in seeds.items()}

    yarn = 1.05 * (1 + 0.1 * math.log(256 / LENGTH))
    assert attention("search") == pytest.approx({"pi": 1.05, "ntk": 1.05, "yarn": yarn})
    # Hugging Face's formula counts from the original length, as the authors' code does.
    formula = math.sqrt(1 + math.log(256 / 64) / math.log(64))
    assert attention(None) == pytest.approx(dict.fromkeys(("pi", "ntk", "yarn"), formula))


def test_short_sets_are_searched_again_from_the_long_ones(
    model: Path, corpus: list[str], whole: Path, tmp_path: Path
) -> None:
    output = tmp_path / "short.json"
    shorter = [*command(model, corpus, output), "--length", "32", "--iterations", "1"]
    refused(shorter, "--length 32 is an extension ratio below 1")
    run([*shorter, "--start-from", str(whole), "--keep", str(whole)])
    assert [factor_set.max_length for factor_set in schema.load(output).sets] == [32, 64, LENGTH]


def test_every_set_to_start_from_is_a_seed(
    model: Path, corpus: list[str], whole: Path, tmp_path: Path
) -> None:
    other = schema.load(whole)
    *short, long = other.sets
    changed = long.model_copy(update={"factors": (1.0, *long.factors[1:]), "start_tokens": 8})
    starts = (long, changed, *short)
    texts = tuple(map(Path, corpus[1::2]))
    question = Question(model, LENGTH, texts, starts=starts, dtype="float32")
    seeds = plan(question, Settings()).seeds
    names = [f"longrope {LENGTH} (1)", f"longrope {LENGTH} (2)", "original 64"]
    assert list(seeds) == [*names, "pi", "ntk", "yarn"]
    assert [seeds[name].start_tokens for name in names] == [long.start_tokens, 8, 0]


def test_workers_that_cannot_load_the_model_say_why(
    model: Path, corpus: list[str], tmp_path: Path
) -> None:
    broken = shutil.copytree(model, tmp_path / "broken")
    tensors = load_file(broken / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    result = CliRunner().invoke(
        app, command(broken, corpus, tmp_path / "found.json", "--workers", "2")
    )
    assert result.exit_code == 2
    assert "has no weights for 1 of the model's tensors" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("device", [None, "cuda"])
def test_each_worker_has_a_gpu_of_its_own(
    device: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[str] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(loading, "load", lambda model, device, dtype: used.append(device))
    threads = torch.get_num_threads()
    for number in range(3):
        Worker(Laboratory(Path(), (), device, "float32", threads), number)
    assert used == ["cuda:0", "cuda:1", "cuda:0"]


def test_pairs_that_completed_no_turn_cover_the_length(
    model: Path, corpus: list[str], tmp_path: Path
) -> None:
    output = tmp_path / "found.json"
    run(command(model, corpus, output, "--iterations", "1", space={"shape": "covering"}))
    found = schema.load(output).sets[-1]
    identity = schema.load(output).model
    pair = theoretical_critical_pair(
        frequencies(identity).tolist(), identity.original_max_position_embeddings
    )
    assert 0 < pair < len(found.factors)
    assert min(found.factors[pair:]) >= LENGTH / identity.original_max_position_embeddings


def test_needles_and_the_critical_dimension(model: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("Here we go. " * 200)
    output = tmp_path / "found.json"
    run(
        [
            *command(
                model,
                ["--corpus", str(text)],
                output,
                *("--length", "1024", "--iterations", "1", "--attention-factor", "search"),
                space={"objective": "needle", "shape": "critical"},
            ),
        ]
    )
    found = schema.load(output).sets[-1]
    assert found.provenance.method == "longrope2"
    assert found.provenance.search is not None
    assert found.provenance.search["objective"] == "needle"


@pytest.mark.parametrize(
    ("more", "sections", "words"),
    [
        (["--corpus", "absent.txt"], {}, "absent.txt"),
        (["--length", "32"], {}, "--length 32 is an extension ratio below 1"),
        (["--length", "500"], {}, "has 384 tokens; 500 are needed"),
        (["--iterations", "-1"], {}, "--iterations is -1; it should be greater than or equal to 0"),
        (["--attention-factor", "much"], {}, '--attention-factor is "much"; it should be'),
        (["--dtype", "bf16"], {}, "--dtype is \"bf16\"; it should be 'bfloat16', 'float16' or"),
        (["--device", "foo"], {}, "--device foo should be cpu, cuda"),
        ([], {"space": {"windows": 4}}, "which is 3 windows of 128; 4 are needed"),
        ([], {"search": {"parents": 0}}, "toml: search.parents is 0; it should be greater than"),
        ([], {"search": {"parents": "4"}}, 'search.parents is "4"; it should be a valid integer'),
        ([], {"search": {"people": 4}}, "search.people is not a field"),
        ([], {"space": {"critical_pair": 4}}, "critical_pair goes with shape critical only"),
        (
            [],
            {"space": {"shape": "critical", "critical_pair": 32}},
            "critical_pair is 32; it should be from 1 to 31",
        ),
        (
            [],
            {"space": {"shape": "critical", "critical_pair": 0}},
            "critical_pair is 0; it should be from 1 to 31",
        ),
        ([], {"space": {"objective": "needle"}}, "too short for 4 needles"),
        (["--seed", "-1"], {}, "--seed is -1; it should be greater than or equal to 0"),
        *(
            (
                [],
                {"space": {"shape": shape, "max_factor": 1.5}},
                f"max_factor is 1.5; with shape {shape} it should be at least 2, which",
            )
            for shape in ("covering", "piecewise")
        ),
    ],
)
def test_bad_input_is_one_sentence(
    model: Path,
    corpus: list[str],
    tmp_path: Path,
    more: list[str],
    sections: dict[str, dict[str, Any]],
    words: str,
) -> None:
    refused([*command(model, corpus, tmp_path / "found.json", **sections), *more], words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["--population", "24"], "--population is no longer an option: write population under"),
        (["--no-racing"], "write racing = false under [search]"),
        (["--log=x.jsonl"], "--log is no longer an option: it stands beside the factor file"),
    ],
)
def test_an_old_option_is_answered_with_where_it_stands_now(
    model: Path, corpus: list[str], tmp_path: Path, words: list[str], answer: str
) -> None:
    refused([*command(model, corpus, tmp_path / "found.json"), *words], answer)


def test_a_settings_file_that_is_none(model: Path, corpus: list[str], tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    for text, words in (
        (
            "[finetune]\nsteps = 4",
            "finetune is not one of the sections [search], [space], [machine]",
        ),
        ("population = 4", "population is not one of the sections"),
        ("[search", "is not TOML"),
    ):
        path.write_text(text)
        arguments = command(model, corpus, tmp_path / "found.json", "--settings", str(path))
        refused(arguments, words)


def test_a_folder_in_place_of_the_factor_file(
    model: Path, corpus: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "found"
    folder.mkdir()
    refused(command(model, corpus, folder), "found: is a folder; -o should be FILE.json")
    assert list(tmp_path.iterdir()) == [folder]


def test_no_corpus(model: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, command(model, [], tmp_path / "found.json"))
    assert result.exit_code == 2
    assert "--corpus" in result.stderr


def test_a_model_without_rotary_embedding(corpus: list[str], tmp_path: Path) -> None:
    directory = tmp_path / "gpt2"
    GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=8)).save_pretrained(
        directory
    )
    refused(command(directory, corpus, tmp_path / "found.json"), "no rope_theta")


def test_other_settings_on_the_same_log(model: Path, corpus: list[str], whole: Path) -> None:
    before = whole.with_suffix(".jsonl").read_bytes()
    refused(command(model, corpus, whole, "--seed", "1"), "whose seed was 0, not 1")
    assert whole.with_suffix(".jsonl").read_bytes() == before


@pytest.mark.long
def test_a_full_disk_loses_nothing(
    model: Path, corpus: list[str], whole: Path, tmp_path: Path
) -> None:
    output = tmp_path / "found.json"
    log = output.with_suffix(".jsonl")
    limit = whole.with_suffix(".jsonl").stat().st_size // 2

    said = tmp_path / "said"
    process = processes.ended(processes.command, command(model, corpus, output), said, limit)
    assert process.exitcode == 2
    assert "File too large" in said.read_text().splitlines()[-1]
    assert log.stat().st_size == limit
    run(command(model, corpus, output))
    assert output.read_bytes() == whole.read_bytes()


def test_every_evaluation_is_logged_as_json(whole: Path) -> None:
    _, *lines = whole.with_suffix(".jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert all(len(record["factors"]) == 32 and record["loss"] > 0 for record in records)


def test_windows_that_skip(model: Path, corpus: list[str], tmp_path: Path) -> None:
    output = tmp_path / "found.json"
    run(command(model, corpus, output, "--windows-of", "8", "--iterations", "1"))
    found = schema.load(output).sets[1]
    assert found.max_length == LENGTH
    assert found.provenance.search is not None
    assert found.provenance.search["windows_of"] == 8


def test_windows_that_cannot_skip_are_refused(
    model: Path, corpus: list[str], tmp_path: Path
) -> None:
    output = tmp_path / "found.json"
    for more, words in (
        (("--windows-of", str(LENGTH)), "below the 128 of --length"),
        (("--windows-of", "8", "--attention-factor", "search"), "short windows cannot tell"),
    ):
        refused(command(model, corpus, output, *more), words)
    needles = command(model, corpus, output, "--windows-of", "8", space={"objective": "needle"})
    refused(needles, "windows_of goes with objective perplexity only")
    assert not output.with_suffix(".jsonl").exists()


def test_a_search_on_a_scaled_model_says_from_what_it_goes_on(
    model: Path, corpus: list[str], tmp_path: Path
) -> None:
    config = json.loads((model / "config.json").read_text())
    half = config["max_position_embeddings"] // 2
    rope = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}
    scaled = tmp_path / "scaled"
    shutil.copytree(model, scaled)
    config |= {"rope_parameters": rope, "max_position_embeddings": half}
    (scaled / "config.json").write_text(json.dumps(config))
    result = CliRunner().invoke(app, command(scaled, corpus, tmp_path / "found.json"))
    assert result.exit_code == 0, result.output
    assert f"go on from the model's own rotation up to {2 * half} tokens" in result.stderr
    assert 'scales its rotation already (rope_type "linear" in rope_parameters)' in result.stderr
