"""Ask about a long document with httpx alone, and show how much of it the server has computed.

    longrope serve
    python examples/prefill_progress.py manual.txt "What is the code of the locker in the hall?"

While a prompt is computed, `longrope serve` puts a comment a second into the stream, such as
": prefill 2048/9596". The progress goes to stderr, the answer to stdout.

LONGROPE_URL is the server's address (http://127.0.0.1:8000), LONGROPE_API_KEY its key, if it asks
for one.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx

URL = os.environ.get("LONGROPE_URL", "http://127.0.0.1:8000")
KEY = os.environ.get("LONGROPE_API_KEY", "none")
PROGRESS = ": prefill "


def main() -> None:
    """Asks one question."""
    parser = argparse.ArgumentParser(description="Ask about a long document.")
    parser.add_argument("document", type=Path, help="a text file")
    parser.add_argument("question")
    arguments = parser.parse_args()
    document = arguments.document.read_text(encoding="utf-8")

    # An hour between two bytes: servers other than longrope's are silent until the first token.
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=URL, headers=headers, timeout=3600) as client:
        models = client.get("/v1/models").raise_for_status().json()
        body = {
            "model": models["data"][0]["id"],
            "messages": [{"role": "user", "content": f"{document}\n\n{arguments.question}"}],
            "max_tokens": 500,
            "temperature": 0,
            "stream": True,
        }
        with client.stream("POST", "/v1/chat/completions", json=body) as response:
            if response.is_error:
                sys.exit(response.read().decode())
            show(response)


def show(response: httpx.Response) -> None:
    """Prints the factor set, the progress, and the answer as it arrives."""
    print("factor set", response.headers["x-longrope-factor-set"], file=sys.stderr)
    for line in lines(response):
        if line.startswith(PROGRESS):
            computed, total = line.removeprefix(PROGRESS).split("/")
            print(f"{computed} of {total} tokens", file=sys.stderr)
        elif line.startswith("data: {"):
            chunk = json.loads(line.removeprefix("data: "))
            if "error" in chunk:
                sys.exit(chunk["error"]["message"])
            for choice in chunk["choices"]:
                print(choice["delta"].get("content") or "", end="", flush=True)
    print()


def lines(response: httpx.Response) -> Iterator[str]:
    """The lines of a stream of events.

    httpx's own `iter_lines` also splits at U+2028 and the like, which an answer may contain.
    """
    rest = b""
    for received in response.iter_bytes():
        *whole, rest = (rest + received).split(b"\n")
        for line in whole:
            yield line.decode()


if __name__ == "__main__":
    main()
