"""The examples that need no server, on a model with a window that a test can afford."""

import json
import pydoc_data.topics
import re
from pathlib import Path

import pytest
from longrope_server.serve.embedded import model_directory

from tests.examples.running import EXAMPLES, run
from tests.serving import WITHOUT_COLLECTIONS

WINDOW, LENGTH = 192, 768


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model, with a config that says it was trained on 192 tokens."""
    directory = tmp_path_factory.mktemp("model")
    for file in model_directory().iterdir():
        (directory / file.name).symlink_to(file)
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").unlink()
    (directory / "config.json").write_text(json.dumps(config | {"max_position_embeddings": WINDOW}))
    return directory


@pytest.fixture(scope="module")
def factors(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What own_factor_file.sh makes for it."""
    file = tmp_path_factory.mktemp("factors") / "factors.json"
    printed = run("own_factor_file.sh", model, str(WINDOW), str(LENGTH), file)
    assert f"{WINDOW} original, {LENGTH} yarn." in printed
    assert printed.endswith(f"longrope serve {model} --factors {file}\n")
    assert file.with_suffix(".png").is_file()
    return file


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some 450 tokens of Python's documentation."""
    file = tmp_path_factory.mktemp("document") / "document.txt"
    file.write_text(pydoc_data.topics.topics["for"][:1800])
    return file


@pytest.mark.engine
def test_offline_answers_a_short_and_a_long_prompt(
    model: Path, factors: Path, document: Path, tmp_path: Path
) -> None:
    # Not every CPU is fast in bfloat16.
    program = tmp_path / "offline.py"
    written = (EXAMPLES / program.name).read_text()
    program.write_text(
        written.replace("enforce_eager=True,", 'enforce_eager=True, dtype="float32",')
    )
    printed = run(
        program,
        *(model, factors, document, "What is this about?"),
        VLLM_CPU_KVCACHE_SPACE="1",
        VLLM_ENABLE_V1_MULTIPROCESSING="0",
        **WITHOUT_COLLECTIONS,
    )
    assert "scheduler class longrope_plugin" in printed  # from vLLM's log
    answers = re.findall(r"^\[(\d+) tokens, set (\d+)\] \S", printed, re.MULTILINE)
    (short, first), (long, second) = [(int(length), int(limit)) for length, limit in answers]
    assert (first, second) == (WINDOW, LENGTH)
    assert short < WINDOW < long < LENGTH


@pytest.mark.long
def test_the_evaluation_rotates_by_the_set_of_the_text(
    model: Path, factors: Path, document: Path
) -> None:
    printed = run("evaluate.py", model, factors, document)
    found = re.search(
        rf"^(\d+) tokens\nas it ships: (\S+)\nset {LENGTH}: (\S+)$", printed, re.MULTILINE
    )
    assert found is not None, printed
    assert WINDOW < int(found[1]) < LENGTH
    assert 1 < float(found[2]) != float(found[3]) > 1
