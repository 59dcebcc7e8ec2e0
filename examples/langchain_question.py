"""Ask about a document with LangChain.

    longrope serve
    python examples/langchain_question.py manual.txt "What is the code of the locker in the hall?"

The whole document is in the prompt: there is no index and no search. The answer is followed by the
factor set that served it.

LONGROPE_URL is the server's address (http://127.0.0.1:8000), LONGROPE_API_KEY its key, if it asks
for one.
"""

import argparse
import os
from pathlib import Path

import httpx
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

URL = os.environ.get("LONGROPE_URL", "http://127.0.0.1:8000")
KEY = os.environ.get("LONGROPE_API_KEY", "none")


def main() -> None:
    """Asks one question."""
    parser = argparse.ArgumentParser(description="Ask about a document.")
    parser.add_argument("document", type=Path, help="a text file")
    parser.add_argument("question")
    arguments = parser.parse_args()

    headers = {"Authorization": f"Bearer {KEY}"}
    models = httpx.get(f"{URL}/v1/models", headers=headers).raise_for_status().json()
    model = ChatOpenAI(
        base_url=f"{URL}/v1",
        api_key=SecretStr(KEY),
        model=models["data"][0]["id"],
        max_completion_tokens=500,
        temperature=0,
        timeout=3600,  # seconds; the default is ten minutes
    )
    chain = ChatPromptTemplate.from_messages([("human", "{document}\n\n{question}")]) | model
    document = arguments.document.read_text(encoding="utf-8")
    answer = chain.invoke({"document": document, "question": arguments.question})
    usage = answer.response_metadata["token_usage"]
    print(answer.content)
    print(f"[{usage['prompt_tokens']} tokens, set {usage['factor_set']['started']}]")


if __name__ == "__main__":
    main()
