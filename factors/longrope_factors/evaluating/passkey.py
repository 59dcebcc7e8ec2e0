"""Passkey retrieval: one number in a long, meaningless text, and a question about the number.

The task is that of Mohtashami and Jaggi (arXiv 2305.16300), as in YaRN (arXiv 2309.00071) and
LongRoPE (arXiv 2402.13753): plain text without a chat template.
"""

import random
import time
from collections.abc import Callable
from functools import partial
from itertools import cycle, islice
from typing import Any

from longrope_factors.evaluating.contenders import Served
from longrope_factors.evaluating.measuring import Measurement, common_fields
from longrope_factors.evaluating.results import Result
from longrope_factors.factor_file.errors import UsageError
from longrope_factors.factor_file.schema import FactorSet
from longrope_factors.models import tokenizers
from longrope_factors.models.loading import LoadedModel

GREATEST_KEY = 50_000
_TASK = (
    "There is an important info hidden inside a lot of irrelevant text. Find it and memorize it. "
    "I will quiz you about the important information there."
)
_FILLER = (
    "The grass is green.",
    "The sky is blue.",
    "The sun is yellow.",
    "Here we go.",
    "There and back again.",
)
_QUESTION = "What is the pass key? The pass key is"


class Retrieval(Result):
    """Whether a model found one pass key in a text of `tokens` tokens, at most `length`.

    `found`: greedy decoding after the question gives the key and then no further digit.
    `answer_loss`: mean loss of the key's tokens in nats, which is informative even for missed keys.
    """

    tokens: int
    depth: float
    trial: int
    seed: int
    pass_key: int
    found: bool
    answer_loss: float

    @property
    def key(self) -> tuple[Any, ...]:
        """Weights and dtype, rotation, and what determines the prompt."""
        return (
            *(self.weights_sha256, self.dtype, self.fingerprint),
            *(self.length, self.depth, self.trial, self.seed),
        )


def prompt(tokenizer: Any, length: int, depth: float, key: int) -> tuple[list[int], int]:
    """Tokens of a passkey text with its answer, and the index of the answer's first token.

    The text has as many sentences of filler as fit into `length` tokens together with the answer.
    The key is after the share `depth`, 0 to 1, of these sentences. The answer is the key and ends
    the text. Raises UsageError if `length` is too short for a text without filler, or for any other
    depth.
    """
    if not 0 <= depth <= 1:
        raise UsageError(f"A passkey's depth is a share of the text from 0 to 1, not {depth:g}.")

    def tokens(sentences: int) -> list[int]:
        (ids,) = tokenizers.prompt_ids(tokenizer, [_text(sentences, depth, key)])
        return ids

    shortest = len(tokens(0))
    if shortest > length:
        raise UsageError(
            f"A passkey prompt has {shortest} tokens before any filler: {length} are too few."
        )
    # A long text takes seconds to tokenize, so guess from short ones, then step to what just fits.
    few = 20 * len(_FILLER)
    per_sentence = (len(tokens(2 * few)) - len(tokens(few))) / few
    sentences = max(few + int((length - len(tokens(few))) / per_sentence), 0)
    ids = tokens(sentences)
    while len(ids) > length:
        sentences -= 1
        ids = tokens(sentences)
    while len(longer := tokens(sentences + 1)) <= length:
        sentences, ids = sentences + 1, longer
    return ids, len(ids) - _answer_tokens(tokenizer, key)


def measurement(
    tokenizer: Any,
    weights_sha256: str,
    dtype: str,
    length: int,
    depth: float,
    trial: int,
    seed: int,
    served: Served,
) -> Measurement[Retrieval]:
    """The plan of one retrieval; seed, length, depth and trial determine its key."""
    return Measurement(
        key=(
            *(weights_sha256, dtype, served.factor_set.fingerprint),
            *(length, depth, trial, seed),
        ),
        method=served.method,
        title=f"passkey {length} at {depth:g} {served.method}",
        window=length,
        windows=1,
        make=partial(
            retrieve, tokenizer, length, depth, trial, seed, served.method, served.factor_set
        ),
        adapter=served.adapter,
    )


def retrieve(
    tokenizer: Any,
    length: int,
    depth: float,
    trial: int,
    seed: int,
    method: str,
    factor_set: FactorSet,
    loaded: LoadedModel,
    on_layer: Callable[[], None],
) -> Retrieval:
    """Ask for one pass key, in one forward pass; `on_layer` is called after each decoder layer.

    Greedy decoding gives the key if each of its tokens is the likeliest after those before it.
    """
    import torch

    from longrope_factors.models import perplexity

    started = time.monotonic()
    pass_key = random.Random(f"{seed}/{length}/{depth}/{trial}").randint(1, GREATEST_KEY)
    token_ids, start = prompt(tokenizer, length, depth, pass_key)
    logits = perplexity.logits_from(
        loaded.model, token_ids, start - 1, factor_set, loaded.identity, on_layer
    )
    answer = torch.tensor(token_ids[start:], device=logits.device)
    *said, next_token = logits.argmax(dim=-1).tolist()
    # A model that continues to 1234 did not answer 123.
    goes_on = tokenizer.decode([next_token])[:1].isdigit()
    loss = torch.nn.functional.cross_entropy(logits[:-1], answer).item()
    return Retrieval(
        **common_fields(loaded, factor_set, method, length, started),
        tokens=len(token_ids),
        depth=depth,
        trial=trial,
        seed=seed,
        pass_key=pass_key,
        found=said == token_ids[start:] and not goes_on,
        answer_loss=loss,
    )


def even_depths(count: int) -> list[float]:
    """`count` depths from the text's beginning to its end; a single one is in the middle."""
    if count == 1:
        return [0.5]
    return [round(index / (count - 1), 4) for index in range(count)]


def _text(sentences: int, depth: float, key: int) -> str:
    filler = list(islice(cycle(_FILLER), sentences))
    cut = round(depth * sentences)
    parts = (
        _TASK,
        " ".join(filler[:cut]),
        f"The pass key is {key}. Remember it. {key} is the pass key.",
        " ".join(filler[cut:]),
        f"{_QUESTION} {key}",
    )
    return "\n".join(part for part in parts if part)


def _answer_tokens(tokenizer: Any, key: int) -> int:
    # Tokenizing the last line alone avoids tokenizing the long text a second time.
    question = tokenizer(_QUESTION, add_special_tokens=False)["input_ids"]
    answered = tokenizer(f"{_QUESTION} {key}", add_special_tokens=False)["input_ids"]
    common = 0
    while common < len(question) and question[common] == answered[common]:
        common += 1
    return len(answered) - common
