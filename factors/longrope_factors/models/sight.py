"""Whether all of a model's layers see a whole text."""

from typing import Any


def partial(config: Any, tokens: int) -> str | None:
    """What some layers have in place of attention over `tokens` tokens; None if all see them.

    `config` is transformers' configuration of the model.
    """
    config = config.get_text_config()
    kinds = getattr(config, "layer_types", None)
    window = getattr(config, "sliding_window", None)
    # Models with layer_types say there whether the window is used; older ones use it if it is set.
    sliding = window is not None if kinds is None else "sliding_attention" in kinds
    if others := set(kinds or ()) - {"full_attention", "sliding_attention"}:
        return str(min(others))
    if sliding and (window is None or window < tokens):
        return f"a sliding window of {window} tokens"
    return None
