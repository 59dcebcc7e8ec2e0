"""What a key allows of an engine: its models, the length of a prompt, the priority of a request."""

from collections.abc import Sequence
from typing import Any

from vllm.exceptions import VLLMNotFoundError, VLLMValidationError

from longrope_server.front_end.openai_error import Count, ignore_refusal
from longrope_server.keys.key_file import Key


class KeyLimits:
    """Checks the requests to an engine whose model is served under `names`.

    The names are those of one model: a key that may use one of them may use them all. LoRA adapters
    are further models, each with its own name. Refusals are vLLM's own errors, which all of its
    APIs turn into answers of their own form.
    """

    def __init__(self, names: Sequence[str], refused: Count = ignore_refusal) -> None:
        self.names = names
        self.refused = refused

    def check(self, key: Key, adapter: str | None, prompt_tokens: int | None) -> None:
        """Raises VLLMNotFoundError (404) for the model, VLLMValidationError (400) for the length.

        adapter: the LoRA adapter that the caller names. prompt_tokens: None if they are not known
        before the engine computes them.
        """
        asked = self.names if adapter is None else [adapter]
        if key.models and not set(asked) & set(key.models):
            self.refused("key_model")
            raise VLLMNotFoundError(
                f"This API key may use {', '.join(key.models)}, and not {asked[0]}."
            )
        longest = key.longest_prompt
        if longest is None or (prompt_tokens is not None and prompt_tokens <= longest):
            return
        self.refused("key_prompt")
        if prompt_tokens is None:
            raise VLLMValidationError(
                f"This API key takes prompts of up to {longest:,} tokens, and the prompts of this "
                "API come in parts, which cannot be counted beforehand."
            )
        raise VLLMValidationError(
            f"This prompt has {prompt_tokens:,} tokens, and this API key takes prompts of up to "
            f"{longest:,}."
        )


def priority(key: Key, asked: Any) -> int:
    """The priority of a request: what it asks for, but never more urgent (lower) than its key's.

    To vLLM's APIs, a request that says nothing asks for 0.
    """
    return max(key.priority, asked) if asked else key.priority
