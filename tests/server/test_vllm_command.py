import multiprocessing
import signal
from multiprocessing.connection import Connection

import pytest
from longrope_server.serve.vllm_command import _parsed, _tell_api_processes

SPAWN = multiprocessing.get_context("spawn")


def serve(handles: bool, connection: Connection) -> None:
    if handles:
        signal.signal(signal.SIGHUP, lambda *_: connection.send("told"))
    connection.send("ready")
    connection.recv()


def test_only_processes_that_handle_the_signal_are_told() -> None:
    """The others are still starting, or have no key file: it would end them."""
    ours, processes = [], []
    for handles in (True, False):
        mine, its = SPAWN.Pipe()
        process = SPAWN.Process(target=serve, args=(handles, its), name=f"ApiServer_{handles}")
        process.start()
        assert mine.poll(60)
        assert mine.recv() == "ready"
        ours.append(mine)
        processes.append(process)
    _tell_api_processes(signal.SIGHUP, None)
    assert ours[0].poll(60)
    assert ours[0].recv() == "told"
    for mine, process in zip(ours, processes, strict=True):
        mine.send("end")
        process.join(60)
        assert process.exitcode == 0


@pytest.mark.parametrize(
    "words",
    [
        ["--hf-overrid", "{}"],
        ["--hf_overrid={}"],
        ["--max-model-l", "8"],
        ["--grp"],
        ["--data-parallel-multi-p"],
    ],
)
def test_abbreviations_of_what_we_read_do_not_pass_unread(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        _parsed(["serve", "model", *words])
    assert refused.value.code == 2
    assert "unrecognized arguments" in capsys.readouterr().err


def test_flags_have_all_of_vllms_spellings() -> None:
    words = ["--max_model_len=32k", "--hf-overrides.rope_theta", "7", "-O3", "-tp", "2"]
    _, args = _parsed(["serve", "model", *words])
    assert (args.max_model_len, args.tensor_parallel_size) == (32_000, 2)
    assert args.hf_overrides == {"rope_theta": 7}
    assert args.compilation_config
