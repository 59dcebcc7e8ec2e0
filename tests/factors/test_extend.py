"""`longrope factors extend`: a whole recipe on a tiny model."""

import json
import os
import shutil
from pathlib import Path
from unittest import mock

import pytest
from longrope_factors.cli import app
from longrope_factors.extension import cost, recipe
from longrope_factors.extension.cost import forward_flops
from longrope_factors.extension.result import assemble
from longrope_factors.extension.steps import Extension
from longrope_factors.factor_file import hf, methods, schema
from longrope_factors.factor_file.adapters import adapter_files
from longrope_factors.factor_file.model_directory import identity_of
from longrope_factors.finetuning.data import documents
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from tests.factors import tiny
from tests.factors.finetuning import LENGTH, ORIGINAL, text, tiny_model

PLAN = f"""
model = "model"
output = "extended"
corpus = ["a.txt", "b.txt"]
held_out = ["c.txt", "d.txt"]
finetune_length = {LENGTH}
target_length = {2 * LENGTH}
short_lengths = [{ORIGINAL}]

[search]
population = 6
mutations = 2
crossovers = 1
parents = 2
iterations = 2

[space]
attention_factor = "search"

[finetune]
steps = 3
batch = 2
warmup = 0
learning_rate = 1e-3

[short_search]
iterations = 1

[machine]
dtype = "float32"
threads = 1
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_model(tmp_path / "model")
    text(tmp_path / "a.txt", 300)
    text(tmp_path / "b.txt", 300, seed=1)
    # The same words: what is best on the corpus is then best on the held-out texts too.
    for trained, held_out in (("a", "c"), ("b", "d")):
        words = (tmp_path / f"{trained}.txt").read_text()
        (tmp_path / f"{held_out}.txt").write_text(f"{words}\n")
    (tmp_path / "plan.toml").write_text(PLAN)
    return tmp_path


def run(folder: Path, *more: str, plan: str = "plan.toml") -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["extend", str(folder / plan), *more])
    return result.exit_code, result.stdout, result.stderr


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".png"
    }


@pytest.mark.long
def test_a_model_with_all_its_sets(folder: Path) -> None:
    code, stdout, stderr = run(folder)
    assert code == 0, stderr
    names = [line.partition(":")[0] for line in stdout.splitlines()]
    assert names[:4] == ["1-search", "2-finetune", "3-second-search", f"4-short-{ORIGINAL}"]
    model = folder / "extended" / "model"
    factor_file = hf.from_config(hf.read_config(model), model)
    assert factor_file == schema.load(model / "factors.json")
    assert [factor_set.max_length for factor_set in factor_file.sets] == [
        ORIGINAL,
        LENGTH,
        2 * LENGTH,
    ]
    base = schema.load(folder / "extended" / "1-search" / "factors.json").sets[-1]
    assert factor_file.sets[1].fingerprint == base.fingerprint
    assert "weights fine-tuned under this set" in factor_file.sets[1].provenance.source
    assert factor_file.model.name == "model"
    assert all(
        absolute >= tuned * (1 - 1e-9)
        for absolute, tuned in zip(factor_file.sets[2].factors, base.factors, strict=True)
    )
    tuned, before = (
        AutoModelForCausalLM.from_pretrained(directory).get_input_embeddings().weight
        for directory in (model, folder / "model")
    )
    assert not tuned.equal(before)

    # Run again, every step is found done, and nothing changes.
    before_again = contents(folder / "extended")
    assert run(folder)[:2] == (0, stdout)
    assert contents(folder / "extended") == before_again


ADAPTER_PLAN = """
model = "model"
output = "extended"
corpus = ["a.txt"]
held_out = ["c.txt", "d.txt"]
finetune_length = 4096

[search]
population = 4
mutations = 1
crossovers = 0
parents = 2
iterations = 1

[space]
windows_of = 64

[finetune]
lora = 2
merge = false
positions = "skip"
window = 400
retrieval_share = 0.5
steps = 2
batch = 2
warmup = 0
learning_rate = 1e-2
check_length = 1500

[retrieval]
tasks = ["single_key"]
facts = 1

[machine]
dtype = "float32"
threads = 1
"""


@pytest.mark.long
def test_an_adapter_beside_the_models_own_weights(tmp_path: Path) -> None:
    tiny.save(tmp_path / "model", tiny.byte_level(), max_position_embeddings=1024)
    for name in ("a", "c", "d"):
        book = "The town lay still that year. Nobody came by, and nobody left. "
        (tmp_path / f"{name}.txt").write_text(book.replace("town", f"town {name}") * 80)
    (tmp_path / "plan.toml").write_text(ADAPTER_PLAN)
    code, stdout, stderr = run(tmp_path)
    assert code == 0, stderr
    names = [line.partition(":")[0] for line in stdout.splitlines()]
    assert names[:3] == ["1-search", "2-finetune", "retrieval"]
    model = tmp_path / "extended" / "model"
    own = hf.from_config(hf.read_config(model), model)
    assert [factor_set.max_length for factor_set in own.sets] == [1024, 4096]
    assert own.sets[0].adapter is None
    adapter_files.check(own, model / "factors.json", model)
    weights = "model.safetensors"
    assert (model / weights).read_bytes() == (tmp_path / "model" / weights).read_bytes()
    found = (tmp_path / "extended" / "retrieval.jsonl").read_text().splitlines()
    assert [json.loads(line)["length"] for line in found] == [512, 1024, 4096]
    assert "facts found at 512 " in stdout

    before_again = contents(tmp_path / "extended")
    assert run(tmp_path)[:2] == (0, stdout)
    assert contents(tmp_path / "extended") == before_again


@pytest.mark.long
def test_a_recipe_in_pieces_ends_as_one_in_one_go(folder: Path) -> None:
    code, whole, stderr = run(folder)
    assert code == 0, stderr
    expected = contents(folder / "extended" / "model")
    shutil.rmtree(folder / "extended")
    pieces = []
    for until in ("1-search", "2-finetune", "3-second-search"):
        code, stdout, stderr = run(folder, "--until", until)
        assert code == 0, stderr
        pieces.append(stdout)
        assert not (folder / "extended" / "model").exists()
    assert pieces[2].startswith(pieces[1])
    assert run(folder)[1] == whole
    assert contents(folder / "extended" / "model") == expected
    code, _, stderr = run(folder, "--until", "2-search")
    assert code == 2
    assert (
        "--until 2-search is not one of the steps 1-search, 2-finetune, 3-second-search" in stderr
    )


def test_a_failed_check_stops_before_the_next_step(folder: Path) -> None:
    # Steps that are too small for float32 make the weights no better.
    spoiled = PLAN.replace("1e-3", "1e-15")
    (folder / "plan.toml").write_text(spoiled)
    code, stdout, stderr = run(folder)
    assert code == 2
    assert stdout.startswith("1-search: done")
    last = stderr.strip().splitlines()[-1]
    assert last.startswith(
        "longrope: 2-finetune: on the held-out texts the weights have perplexity"
    )
    assert not (folder / "extended" / "3-second-search").exists()


def test_a_dry_run_prints_costs_and_writes_nothing(folder: Path) -> None:
    code, stdout, _ = run(folder, "--dry-run", "--teraflops", "2")
    assert code == 0
    assert "3-second-search" in stdout
    assert "hours at 2 TFLOP/s" in " ".join(stdout.split())
    rows = json.loads(run(folder, "--dry-run", "--json")[1])
    first = rows[0]
    # Plain, 6 of the population and 2 iterations of 3 children, on two texts.
    assert (first["step"], first["length"], first["readings"]) == ("1-search", LENGTH, 26)
    assert {row["step"] for row in rows} == {
        *("1-search", "2-finetune", "3-second-search", f"4-short-{ORIGINAL}")
    }
    assert not (folder / "extended").exists()


def test_windows_of_skipped_positions_cost_what_they_read(folder: Path) -> None:
    skipping = 'positions = "skip"\nwindow = 40\nfull_share = 0.5\nlearning_rate = 1e-3'
    (folder / "plan.toml").write_text(PLAN.replace("learning_rate = 1e-3", skipping))
    rows = json.loads(run(folder, "--dry-run", "--json")[1])
    trained = [(row["length"], row["readings"]) for row in rows if row["what"] == "train"]
    assert trained == [(40, 3), (LENGTH, 3)]


def test_a_search_on_windows_costs_what_they_read(tmp_path: Path) -> None:
    tiny.save(tmp_path / "model", tiny.byte_level(), max_position_embeddings=1024)
    (tmp_path / "plan.toml").write_text(ADAPTER_PLAN)
    rows = json.loads(run(tmp_path, "--dry-run", "--json")[1])
    costs = {(row["step"], row["what"]): (row["length"], row["readings"]) for row in rows}
    # Plain, 4 of the population and a child, in 16 windows.
    assert costs["1-search", "search"] == (64, 6 * 16)
    # Two prompts after each of two steps.
    assert costs["2-finetune", "questions"] == (1500, 4)
    assert costs["retrieval", "check"] == (4096, 1)


def test_operations_of_a_forward_pass() -> None:
    # Two for each of SmolLM2-135M's 134.5 million weights that multiply, and token.
    config = {
        "hidden_size": 576,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "intermediate_size": 1536,
        "vocab_size": 49152,
    }
    assert forward_flops(config, 1) == pytest.approx(2 * 134.5e6, rel=0.01)


@pytest.mark.parametrize(
    ("name", "costs"), [("smollm2-128k", 9), ("smollm2-32k", 7), ("smollm2-256k", 7)]
)
def test_the_shipped_plans_are_plans(name: str, costs: int) -> None:
    shipped = Path(__file__).parents[2] / "factors" / "recipes" / f"{name}.toml"
    config = {"num_hidden_layers": 1, "num_attention_heads": 1, "hidden_size": 8}
    config |= {"intermediate_size": 8, "vocab_size": 8}
    assert len(cost.estimated(recipe.load(shipped), config)) == costs


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('model = "model"', "", "model is missing"),
        ("population = 6", "population = 'six'", "search.population is"),
        ("population = 6", "population = 0", "search.population is 0; it should be greater than"),
        ("steps = 3", "stepz = 3", "finetune.stepz is not a field"),
        ('held_out = ["c.txt"', 'held_out = ["a.txt"', "a.txt is in corpus and in held_out"),
        ("target_length = 128", "target_length = 64", "target_length is 64; it should be above"),
        ("short_lengths = [32]", "short_lengths = [64]", "short_lengths has 64"),
        ("finetune_length = 64", "finetune_length = 16", "short_lengths has 32"),
        ("[search]", "[search", "is not TOML"),
        ("steps = 3", "steps = 3\nlora = 2\nmerge = false", "merge is false, so the result is"),
        ("[machine]", '[retrieval]\ntasks = ["keys"]\n[machine]', "retrieval.tasks: --task keys"),
        ("steps = 3", "steps = '3'", "finetune.steps is"),
        ("steps = 3", "steps = 3.0", "finetune.steps is 3.0; it should be a valid integer"),
        ("steps = 3", "steps = true", "finetune.steps is true; it should be a valid integer"),
        ("steps = 3", "lora = true", "finetune.lora is true; it should be a valid integer"),
        ("learning_rate = 1e-3", "learning_rate = nan", "finetune.learning_rate is NaN"),
        ("learning_rate = 1e-3", "learning_rate = inf", "finetune.learning_rate is Infinity"),
        ("[space]", "[space]\nstep = 0", "space.step is 0"),
        ("[space]", "[space]\nmax_factor = '1_5'", "space.max_factor is"),
        (
            'dtype = "float32"',
            'dtype = "bf16"',
            "machine.dtype is \"bf16\"; it should be 'bfloat16'",
        ),
        ('dtype = "float32"', 'dtype = "float16"', "machine.dtype is"),
        ('dtype = "float32"', 'device = "gpu"', "machine.device is \"gpu\"; it should be 'cpu'"),
        ('dtype = "float32"', 'device = "cuda:0"', "machine.device is"),
        ('"b.txt"]', '"absent.txt"]', "absent.txt"),
        ('"d.txt"]', '"absent.txt"]', "absent.txt"),
        ('["c.txt"', '["model/../a.txt"', "a.txt is in corpus and in held_out"),
        ("target_length = 128", "target_length = 4096", "tokens; 4096 are needed"),
        ("[machine]", '[retrieval]\ntasks = ["lines"]\nform = "chat"\n[machine]', "chat"),
        ("steps = 3", "steps = 3\nseparator = ''", "finetune.separator is"),
        (
            'attention_factor = "search"',
            "windows_of = 32",
            "short_lengths has 32; each should be above the windows_of of 32",
        ),
    ],
)
def test_bad_plans_are_one_sentence(folder: Path, old: str, new: str, words: str) -> None:
    assert old in PLAN
    (folder / "plan.toml").write_text(PLAN.replace(old, new, 1))
    code, _, stderr = run(folder)
    assert code == 2
    assert words in stderr
    assert len(stderr.strip().splitlines()) == 1
    assert not (folder / "extended").exists()


def test_a_model_that_sees_a_window_only_is_refused_before_the_first_step(folder: Path) -> None:
    path = folder / "model" / "config.json"
    stated = json.loads(path.read_text()) | {
        "architectures": ["MistralForCausalLM"],
        "model_type": "mistral",
    }
    path.write_text(json.dumps({**stated, "sliding_window": LENGTH - 1}))
    code, _, stderr = run(folder)
    assert code == 2
    assert f"a sliding window of {LENGTH - 1} tokens" in stderr.splitlines()[-1]
    assert not (folder / "extended").exists()


def test_long_searches_have_half_the_population_unless_it_is_given(folder: Path) -> None:
    plan_file = folder / "plan.toml"
    for second, sizes in (
        ("", (3, 1, 1)),
        ("[second_search]\niterations = 9\n", (3, 1, 1)),
        ("[second_search]\npopulation = 8\n", (8, 1, 1)),
    ):
        plan_file.write_text(PLAN + second)
        extension = Extension(recipe.load(plan_file))
        with mock.patch("longrope_factors.extension.steps._HALVED_ABOVE", LENGTH - 1):
            found = extension._plan(
                folder / "model", LENGTH, extension._recipe.second_search
            ).evolution
        assert (found.population, found.mutations, found.crossovers) == sizes


def test_a_held_out_text_that_is_too_short_is_refused_before_the_first_step(folder: Path) -> None:
    text(folder / "d.txt", 100)
    code, _, stderr = run(folder)
    assert (code, stderr.count("\n")) == (2, 1)
    assert "d.txt: has" in stderr
    assert not (folder / "extended").exists()


def test_a_copy_of_a_trained_text_is_not_held_out(folder: Path) -> None:
    shutil.copy(folder / "b.txt", folder / "d.txt")
    code, _, stderr = run(folder)
    assert code == 2
    assert "d.txt: has the content of a text of corpus" in stderr
    assert not (folder / "extended").exists()


def test_texts_are_tokenized_for_training_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    monkeypatch.setattr(
        documents, "read", lambda *given, real=documents.read: read.append(given) or real(*given)
    )
    code, _, stderr = run(folder, "--until", "2-finetune")
    assert code == 0, stderr
    assert len(read) == 1


def test_a_result_has_the_files_as_they_are_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not what a killed copy or an earlier training has left there."""
    model = tiny_model(tmp_path / "model")
    factor_file = schema.build(
        identity_of(model), [methods.factor_set("pi", identity_of(model), 64)]
    )
    (model / "vocab.json").write_text("{}")
    (model / "merges.txt").write_text("")
    result, weights = tmp_path / "result", model / "model.safetensors"
    for links in (True, False):
        if not links:
            monkeypatch.setattr(os, "link", mock.Mock(side_effect=OSError))
        result.mkdir(exist_ok=True)
        (result / weights.name).write_bytes(weights.read_bytes()[:100])
        for _ in range(2):
            assemble(model, factor_file, tmp_path, result)
            assert (result / weights.name).read_bytes() == weights.read_bytes()
            assert (result / "vocab.json").exists()
            assert (result / "merges.txt").exists()
        shutil.rmtree(result)


def test_a_device_that_is_not_here_is_refused_before_the_first_step(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    plan = PLAN.replace('dtype = "float32"', 'dtype = "float32"\ndevice = "cuda"')
    (folder / "plan.toml").write_text(plan)
    code, _, stderr = run(folder)
    assert (code, stderr.count("\n")) == (2, 1)
    assert "--device cuda is not a device that PyTorch has here: it has cpu." in stderr
    assert not (folder / "extended").exists()


def test_a_plan_may_have_a_byte_order_mark(folder: Path) -> None:
    (folder / "plan.toml").write_bytes(b"\xef\xbb\xbf" + PLAN.encode())
    assert recipe.load(folder / "plan.toml").finetune_length == 64
    (folder / "plan.toml").write_text(PLAN, encoding="utf-16")
    code, _, stderr = run(folder)
    assert (code, stderr.count("\n")) == (2, 1)
    assert "is UTF-16 text by its byte order mark (BOM)" in stderr


def test_no_plan_file(folder: Path) -> None:
    code, _, stderr = run(folder, plan="other.toml")
    assert code == 2
    assert "other.toml" in stderr
