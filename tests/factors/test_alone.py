"""Two runs at once: the second is refused, and nothing of the first is lost."""

from pathlib import Path

import pytest
from longrope_factors.cli import app
from longrope_factors.factor_file.errors import UsageError
from longrope_factors.factor_file.files import alone
from longrope_factors.finetuning import training
from longrope_factors.search import run
from longrope_factors.search.question import Question, plan
from longrope_factors.search.settings import Settings
from longrope_factors.settings import MachineSection
from typer.testing import CliRunner

from tests.factors import finetuning, tiny


def refused(path: Path) -> None:
    with pytest.raises(UsageError, match="another run is at work on it"), alone.at_work_on(path):
        pass


def test_a_file_is_made_and_stays_if_it_was_written_to(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "log"
    with alone.at_work_on(path):
        pass
    assert not path.exists()
    with alone.at_work_on(path):
        path.write_text("something")
    assert path.read_text() == "something"


def test_the_second_run_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "log"):
        with alone.at_work_on(path):
            refused(path)
            assert path.exists()
        with alone.at_work_on(path):
            pass


def test_a_failed_run_lets_go(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), alone.at_work_on(tmp_path / "log"):
        raise RuntimeError
    with alone.at_work_on(tmp_path / "log"):
        pass


def test_two_searches_on_one_log(tmp_path: Path) -> None:
    settings = finetuning.settings(tmp_path)
    question = Question(settings.model, finetuning.LENGTH, settings.corpus[:1], dtype="float32")
    planned = plan(question, Settings(population=3, iterations=0))
    output = tmp_path / "found.json"
    first = alone.at_work_on(output.with_suffix(".jsonl"))
    with first, pytest.raises(UsageError, match=r"found\.jsonl: another run is at work on it"):
        run.run(planned, output, MachineSection(threads=1))
    assert not output.exists()
    run.run(planned, output, MachineSection(threads=1))


def test_two_fine_tunes_in_one_folder(tmp_path: Path) -> None:
    settings = finetuning.settings(tmp_path)
    settings.output.mkdir()
    first = alone.at_work_on(settings.output)
    with first, pytest.raises(UsageError, match="tuned: another run is at work on it"):
        training.run(settings)
    assert list(settings.output.iterdir()) == []
    training.run(settings)


@pytest.mark.parametrize(
    "words",
    [
        ("perplexity", "--corpus", "first.txt"),
        ("passkey", "--depths", "1"),
        ("retrieval", "--short", "700", "--task", "single_key", "--facts", "1"),
    ],
)
def test_two_evaluations_on_one_results_file(words: tuple[str, ...], tmp_path: Path) -> None:
    model = tiny.save(tmp_path / "model", tiny.byte_level())
    (tmp_path / "first.txt").write_text("abc " * 200)
    output = tmp_path / "results.jsonl"
    given = ["evaluate", *words, "--model", str(model), "--length", "700", "-o", str(output)]
    given = [str(tmp_path / word) if word == "first.txt" else word for word in given]
    given += ["--method", "pi", "--dtype", "float32"]
    with alone.at_work_on(output):
        refused = CliRunner().invoke(app, given)
        assert refused.exit_code == 2
        said = " ".join(refused.stderr.split())
        assert f"longrope: {output}: another run is at work on it; wait until it has ended" in said
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.stderr
    with alone.at_work_on(output):  # which needs nothing but reading
        assert CliRunner().invoke(app, given).exit_code == 0
