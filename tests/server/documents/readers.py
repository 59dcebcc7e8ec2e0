"""The processes that read documents for this one."""

import contextlib

import psutil
from longrope_server.documents import apart


def readers() -> list[psutil.Process]:
    """The processes that read a PDF for this one."""
    running = []
    for process in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if apart.__name__ in process.cmdline():
                running.append(process)
    return running
