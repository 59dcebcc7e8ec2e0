"""An example as a user runs it: a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str, *arguments: str | Path, typed: str = "", **environment: str) -> str:
    """What an example prints on stdout and stderr; it must succeed. typed: its standard input."""
    program = [sys.executable] if name.endswith(".py") else []
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [*program, EXAMPLES / name, *arguments],
        env={**os.environ, "PATH": path, **environment},
        input=typed,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout
