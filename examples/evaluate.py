"""Measure a text's perplexity in transformers, under the factor set that would serve it.

    python examples/evaluate.py "$(longrope model)" factors.json manual.txt

prints it beside that of the model as it ships. own_factor_file.sh makes such a factor file. While
`rotated_by` is open, transformers rotates exactly as the server does, whatever you measure.
`longrope factors evaluate` measures many sets and lengths, with their adapters. `longrope factors
export --to hf` writes a config.json for programs that take nothing else, and says what it loses.
"""

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import torch
from longrope_factors.factor_file import model_directory, schema
from longrope_factors.models.rotation import rotated_by
from transformers import AutoModelForCausalLM, AutoTokenizer


def main() -> None:
    """Prints both perplexities."""
    parser = argparse.ArgumentParser(description="Measure the perplexity of a text.")
    parser.add_argument("model", type=Path, help="the model's directory")
    parser.add_argument("factors", type=Path, help="a factor file for it")
    parser.add_argument("text", type=Path, help="a text file")
    arguments = parser.parse_args()

    factor_file = schema.load(arguments.factors)
    model_directory.base_of(arguments.model).check(factor_file, arguments.factors)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32).eval()
    text = arguments.text.read_text(encoding="utf-8")
    ids = tokenizer(text, return_tensors="pt").input_ids

    factor_set = factor_file.sets[factor_file.select(ids.shape[1])]
    if factor_set.adapter is not None:
        sys.exit("The set has an adapter: measure it with `longrope factors evaluate`.")
    print(f"{ids.shape[1]} tokens")
    print(f"as it ships: {perplexity(model, ids):.3f}")
    with rotated_by(model, factor_set, factor_file.model):
        print(f"set {factor_set.max_length}: {perplexity(model, ids):.3f}")


@torch.inference_mode()
def perplexity(model: Any, ids: torch.Tensor) -> float:
    """The perplexity of `ids`, shape [1, n]."""
    return math.exp(model(ids, labels=ids).loss)


if __name__ == "__main__":
    main()
