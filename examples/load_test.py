"""Run a load-test profile of your own, and read the figures in its result.json.

    longrope serve
    python examples/load_test.py examples/load_test.yaml result

prints the median and the 99th percentile of the time to the first token of each class, and which
factor sets served it. For other classes and rates, copy and change load_test.yaml. The exit status
is that of `longrope loadtest run`: 1 if too few requests met their objectives.

LONGROPE_URL is the server's address (http://127.0.0.1:8000), LONGROPE_API_KEY its key, if it asks
for one.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

URL = os.environ.get("LONGROPE_URL", "http://127.0.0.1:8000")


def main() -> None:
    """Runs the profile and prints its figures."""
    parser = argparse.ArgumentParser(description="Run a load-test profile and read its result.")
    parser.add_argument("profile", type=Path, help="a YAML file")
    parser.add_argument("result", type=Path, help="the new directory for the result")
    arguments = parser.parse_args()

    command = ["longrope", "loadtest", "run", arguments.profile, "--url", URL]
    status = subprocess.run([*command, "-o", arguments.result], check=False).returncode
    if status not in (0, 1):
        sys.exit(status)
    result = json.loads((arguments.result / "result.json").read_text(encoding="utf-8"))
    for name, figures in result["figures"].items():
        complete, good = figures["requests"]["complete"], figures["goodput"]["good_requests"]
        print(f"{name}: {complete} complete, {good} within their objectives")
        if first := figures["latency"]["ttft_intended"]:
            print(f"  first token: p50 {first['p50']:.2f} s, p99 {first['p99']:.2f} s")
        if passkeys := figures["passkeys"]:
            print(f"  passkeys: {passkeys['correct']} of {passkeys['asked']} right")
        for factor_set, requests in figures["factor_sets"].items():
            print(f"  set {factor_set}: {requests} requests")
    sys.exit(status)


if __name__ == "__main__":
    main()
