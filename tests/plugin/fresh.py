"""A Python process without what the test's own has imported and set."""

import os
import subprocess
import sys


def run(code: str, **environment: str) -> str:
    """What the code prints there, Triton not interpreted."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, "TRITON_INTERPRET": "0", **environment},
        text=True,
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
