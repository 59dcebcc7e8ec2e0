"""Compare our scores of RULER's needles in haystacks with lm-eval's, on the very same samples.

`make bench-niah`: lm-eval makes the samples, runs the model with transformers and scores its
answers; then the code of `longrope factors evaluate retrieval` runs the model and scores it.
"""

from pathlib import Path
from typing import Annotated, Any

import typer
from longrope_factors.cli_errors import one_sentence
from longrope_factors.evaluating.retrieval.asking import Question, answers
from longrope_factors.evaluating.retrieval.documents import Asked, Document
from longrope_factors.evaluating.retrieval.measurement import contained
from longrope_factors.evaluating.retrieval.niah import SAID
from longrope_factors.evaluating.retrieval.prompts import Prompts
from longrope_factors.factor_file import methods
from longrope_factors.models import loading
from longrope_factors.models.loading import LoadedModel
from rich.console import Console
from rich.progress import track
from rich.table import Table
from transformers import AutoTokenizer

# The two of RULER's tasks whose haystacks are not downloaded, and ours with the same prompts.
TASKS = {"niah_single_1": "single_key", "niah_multikey_2": "multi_key"}


def main(
    model: Annotated[Path, typer.Option(metavar="DIR", help="Model directory.")],
    tokens: Annotated[int, typer.Option(help="Tokens of a sample.")] = 512,
    samples: Annotated[int, typer.Option(min=1, max=500, help="Samples of each task.")] = 100,
    dtype: Annotated[str, typer.Option(help="Dtype that the model computes in.")] = "float32",
) -> None:
    """Print the share of facts that the model finds by lm-eval and by us, for each task."""
    with one_sentence():
        found = by_lm_eval(model, tokens, samples, dtype)
        loaded = loading.load(model, "cpu", dtype)
        prompts = Prompts(AutoTokenizer.from_pretrained(model), "plain")
        table = Table(title=f"{tokens} tokens, {samples} samples of each task, {dtype}")
        for heading in ("lm-eval", "ours", "found by lm-eval", "by us", "points", "same score"):
            table.add_column(heading, justify="right")
        for task, evaluated in found.items():
            theirs = [float(sample[str(tokens)]) for sample in evaluated]
            ours = [
                by_us(loaded, prompts, sample["doc"])
                for sample in track(evaluated, TASKS[task], console=Console(stderr=True))
            ]
            mean, own = sum(theirs) / len(theirs), sum(ours) / len(ours)
            same = sum(one == other for one, other in zip(theirs, ours, strict=True))
            table.add_row(
                *(task, TASKS[task], f"{mean:.1%}", f"{own:.1%}"),
                *(f"{100 * (own - mean):+.1f}", f"{same} of {len(ours)}"),
            )
        Console().print(table)


def by_lm_eval(
    model: Path, tokens: int, samples: int, dtype: str
) -> dict[str, list[dict[str, Any]]]:
    """lm-eval's samples of each task, with their scores by number of tokens."""
    from lm_eval import simple_evaluate

    evaluated = simple_evaluate(
        model="hf",
        model_args={"pretrained": str(model), "dtype": dtype},
        tasks=list(TASKS),
        limit=samples,
        batch_size=8,
        device="cpu",
        metadata={"pretrained": str(model), "max_seq_lengths": [tokens]},
        bootstrap_iters=0,
    )
    assert evaluated is not None
    return {task: evaluated["samples"][task] for task in TASKS}


def by_us(loaded: LoadedModel, prompts: Prompts, sample: dict[str, Any]) -> float:
    """The share of a sample's numbers that are found as `evaluate retrieval` asks and scores."""
    expected = tuple(sample["outputs"])
    asked = Asked("", sample["gen_prefix"], expected, (0.5,) * len(expected))
    [(token_ids, start)] = prompts.answered(Document(sample["input"], (asked,)))
    question = Question(token_ids[start - 1 : start], token_ids[start:], SAID)
    identity = loaded.identity
    original = methods.factor_set("original", identity, identity.original_max_position_embeddings)
    [said] = answers(loaded, original, token_ids[: start - 1], [question])
    found = contained(prompts.tokenizer.decode(said.said_ids), expected)
    return sum(found) / len(found)


if __name__ == "__main__":
    typer.run(main)
