import multiprocessing
import signal
from multiprocessing.connection import Connection

from longrope_server.serve.vllm_command import _tell_api_processes

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
