"""An example as a user runs it: a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(program: str | Path, *arguments: str | Path, typed: str = "", **environment: str) -> str:
    """What an example prints on stdout and stderr; it must succeed.

    program: a file of examples/, or the path of a copy. typed: its standard input.
    """
    interpreter = [sys.executable] if Path(program).suffix == ".py" else []
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [*interpreter, EXAMPLES / program, *arguments],
        env={**os.environ, "PATH": path, **environment},
        input=typed,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout
