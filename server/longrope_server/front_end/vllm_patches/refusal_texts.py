"""Makes vLLM's refusals say the whole length of a prompt, and repeat nothing of a request."""

from typing import Any

from longrope_plugin.compat.touch import Touch, replace

_ENCODING = Touch(
    "vllm.renderers.params",
    "TokenizeParams.get_encode_kwargs:truncate_prompt_tokens",
    "the refusal of a prompt that is too long says 'at least' in place of its length",
    "vLLM counts the whole prompt",
)


def count_whole_prompts() -> None:
    """Makes vLLM's refusal of a prompt that is too long say how long it is.

    vLLM makes the tokenizer cut every prompt off one token past the limit. By then the tokenizer
    has done all its work, and the size of a body is already limited.
    """

    def counting(original: Any) -> Any:
        def get_encode_kwargs(self: Any) -> dict[str, Any]:
            arguments = original(self)
            is_whole = self.truncate_prompt_tokens is None
            if is_whole and arguments.pop("max_length", None) is not None:
                arguments["truncation"] = False
            return arguments

        return get_encode_kwargs

    replace(_ENCODING, counting)


_FORMATTED = Touch(
    "vllm.entrypoints.serve.exception_handling.handlers.validation",
    "_format_error",
    "refusals of a malformed request repeat what is in it",
    "vLLM leaves the input out",
)
_DESCRIBED = Touch(
    "vllm.exceptions",
    "VLLMValidationError.__str__:value",
    "refusals of a malformed request repeat what is in it",
    "vLLM leaves the input out",
)


def keep_inputs_out_of_errors() -> None:
    """Makes vLLM's refusals say what is wrong with a value, but not the value: it may be a prompt.

    Numbers are repeated.
    """

    def without_input(original: Any) -> Any:
        def format_error(error: Any) -> str:
            if isinstance(error, dict):
                error = {name: error[name] for name in ("type", "loc", "msg") if name in error}
            return original(error)

        return format_error

    def without_value(original: Any) -> Any:
        def describe(self: Any) -> str:
            if self.value is None or isinstance(self.value, int | float):
                return original(self)
            return Exception.__str__(self)

        return describe

    replace(_FORMATTED, without_input)
    replace(_DESCRIBED, without_value)


TOUCHES = (_ENCODING, _FORMATTED, _DESCRIBED)
