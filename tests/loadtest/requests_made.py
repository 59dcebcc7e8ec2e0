"""Prints the hash of every request of a profile, for tests that compare processes.

python -m tests.loadtest.requests_made PROFILE SEED
"""

import sys
from pathlib import Path

from longrope_loadtest.profiles import plan, profile
from longrope_loadtest.run import bodies


def sha256(path: Path, seed: int) -> str:
    """The hash of all that a run would send."""
    loaded = profile.load(path)
    planned = plan.make(loaded, seed, path.parent)
    with bodies.made(planned, loaded, "model", seed, lambda done: None) as made:
        return made.sha256


if __name__ == "__main__":
    print(sha256(Path(sys.argv[1]), int(sys.argv[2])))
