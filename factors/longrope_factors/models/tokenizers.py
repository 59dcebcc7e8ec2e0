"""A model's tokenizer, and how it writes the beginning of a text and a conversation."""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from longrope_factors.factor_file.errors import UsageError
from longrope_factors.models import loading

# Some chat templates write today's date, and then prompts could not be repeated. Llama 3.2's takes
# date_string; others have no other way than strftime_now.
_DAY = datetime.date(2024, 7, 26)


def of(model_dir: Path) -> Any:
    """The tokenizer in `model_dir`; raises UsageError, naming it, if none can be read."""
    from transformers import AutoTokenizer

    loading.config_of(model_dir)
    try:
        return AutoTokenizer.from_pretrained(model_dir)
    # tokenizers raises Exception itself for a tokenizer.json that it cannot parse.
    except Exception as error:
        raise UsageError(
            f"{model_dir}: has no tokenizer that can be read ({loading.reason(error)}); its files, "
            "such as tokenizer.json, should be beside the weights."
        ) from error


def prompt_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """The tokens of each text as the beginning of a longer one.

    These are the special tokens that begin a text, if the tokenizer has any, but not those with
    which some tokenizers (add_eos_token) end it.
    """
    ids: list[list[int]] = tokenizer(list(texts))["input_ids"]
    added = at_the_end(tokenizer)
    return [text[: len(text) - added] for text in ids]


def rendered(tokenizer: Any, messages: list[dict[str, str]], **options: Any) -> str:
    """The messages in the chat template of the tokenizer, the same on every day."""
    text = tokenizer.apply_chat_template(
        messages,
        tokenize=False,
        date_string=_DAY.strftime("%d %b %Y"),
        strftime_now=_DAY.strftime,
        **options,
    )
    assert isinstance(text, str)
    return text


def at_the_end(tokenizer: Any) -> int:
    """The number of special tokens that the tokenizer puts after a text."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    after = range(len(whole) - len(plain) + 1)
    return next(
        (n for n in after if whole[len(whole) - n - len(plain) :][: len(plain)] == plain), 0
    )
