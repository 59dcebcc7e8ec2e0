"""Chat about a long document with the OpenAI SDK.

    longrope serve
    python examples/chat.py manual.txt

Type a question, then the next one; Ctrl-D ends the chat. The answer is printed as it arrives, and
after it the factor set that served it. Each turn sends the whole history. The server computes only
what is new in it: the document is in its prefix cache after the first turn.

LONGROPE_URL is the server's address (http://127.0.0.1:8000), LONGROPE_API_KEY its key, if it asks
for one.
"""

import argparse
import os
import sys
from pathlib import Path

from openai import OpenAI, Stream
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

URL = os.environ.get("LONGROPE_URL", "http://127.0.0.1:8000")
KEY = os.environ.get("LONGROPE_API_KEY", "none")


def main() -> None:
    """Reads questions from standard input and answers them."""
    parser = argparse.ArgumentParser(description="Chat about a long document.")
    parser.add_argument("document", type=Path, help="a text file")
    document = parser.parse_args().document.read_text(encoding="utf-8")

    # An hour: the first token of a very long document takes more than the SDK's ten minutes.
    client = OpenAI(base_url=f"{URL}/v1", api_key=KEY, timeout=3600)
    model = client.models.list().data[0].id
    messages: list[ChatCompletionMessageParam] = []
    for line in sys.stdin:
        question = line.strip()
        content = question if messages else f"{document}\n\n{question}"
        messages.append({"role": "user", "content": content})
        stream = client.chat.completions.create(
            model=model,
            messages=messages,
            max_tokens=500,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
        messages.append({"role": "assistant", "content": shown(stream)})


def shown(stream: Stream[ChatCompletionChunk]) -> str:
    """Prints an answer as it arrives, and then its factor set; returns the answer."""
    answer = ""
    for chunk in stream:
        for choice in chunk.choices:
            answer += choice.delta.content or ""
            print(choice.delta.content or "", end="", flush=True)
        if chunk.usage:
            served = chunk.usage.model_dump()["factor_set"]
            promoted = f", promoted to {served['finished']}" if served["promoted"] else ""
            print(f"\n[{chunk.usage.prompt_tokens} tokens, set {served['started']}{promoted}]")
    return answer


if __name__ == "__main__":
    main()
