"""Answer a short and a long prompt in one batch with vLLM's `LLM` and a factor file: no server.

    python examples/offline.py "$(longrope model)" \
        "$(longrope factors library path smollm2-135m)" \
        manual.txt "What is the code of the locker in the hall?"

Each prompt runs under the set of its own length, which is printed with its answer. On a CPU, set
VLLM_CPU_KVCACHE_SPACE=1 (GiB).
"""

import argparse
from pathlib import Path

from longrope_factors.factor_file import hf, schema
from vllm import LLM, SamplingParams


def main() -> None:
    """Answers both prompts and prints their sets."""
    parser = argparse.ArgumentParser(description="Answer a short and a long prompt in one batch.")
    parser.add_argument("model", type=Path, help="the model's directory")
    parser.add_argument("factors", type=Path, help="a factor file for it")
    parser.add_argument("document", type=Path, help="a text file")
    parser.add_argument("question")
    arguments = parser.parse_args()

    factor_file = schema.load(arguments.factors)
    config = hf.read_config(arguments.model)
    llm = LLM(
        model=str(arguments.model),
        hf_overrides=hf.hf_overrides(factor_file, arguments.factors, config),
        max_model_len=factor_file.max_length,  # without it, vLLM ends at the model's own window
        enforce_eager=True,  # starts sooner; without it, many prompts are faster
    )
    document = arguments.document.read_text(encoding="utf-8")
    texts = ["Name three colours.", f"{document}\n\n{arguments.question}"]
    outputs = llm.chat(
        [[{"role": "user", "content": text}] for text in texts],
        SamplingParams(temperature=0, max_tokens=60),
    )
    for output in outputs:
        length = len(output.prompt_token_ids)
        factor_set = factor_file.sets[factor_file.select(length)]
        answer = output.outputs[0].text
        print(f"[{length} tokens, set {factor_set.max_length}] {answer}")


if __name__ == "__main__":  # vLLM starts a process that imports this file again
    main()
