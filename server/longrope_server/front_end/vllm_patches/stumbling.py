"""Turns the errors that a malformed request causes in vLLM into the client's errors."""

import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Any

from longrope_plugin.compat.touch import Touch, replace, resolve

# What code raises when it meets a value that it does not expect. Every RuntimeError except
# RecursionError is the server's error, and so are errors of the system.
_STUMBLES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)


def is_stumble(error: BaseException, engine_has_it: bool) -> bool:
    """Whether a request made vLLM raise `error`, as far as its type tells.

    Once an engine has the request, only arithmetic tells: it works on the request's own numbers,
    such as `length_penalty`. vLLM itself answers 400 to every OverflowError.
    """
    if engine_has_it:
        return isinstance(error, (ArithmeticError, _validation_error()))
    return isinstance(error, (*_STUMBLES, _validation_error()))


def stumble_sentence(error: BaseException) -> str:
    """What the client is told: vLLM's own sentence about a request, or ours for any other text."""
    if isinstance(error, _validation_error()):
        return str(error)
    return (
        f"The request cannot be read ({type(error).__name__}): a field of it has a value that this "
        "API does not take."
    )


def _validation_error() -> type[Exception]:
    from vllm.exceptions import VLLMValidationError

    return VLLMValidationError


_WHY = "some malformed requests are answered with 500"
_UNTIL = "vLLM answers 400 to whatever a client's values make it raise"
_CHAT = Touch("vllm.renderers.online_renderer", "OnlineRenderer.preprocess_chat", _WHY, _UNTIL)
_REQUEST, _SENT, _GENERATE = (
    Touch("vllm.v1.engine.async_llm", f"AsyncLLM.{name}", _WHY, _UNTIL)
    for name in ("add_request", "_add_request:output_processor", "generate")
)
_INPUTS = Touch(
    "vllm.v1.engine.input_processor",
    "InputProcessor.process_inputs",
    "what ends an engine is not refused before it gets there",
    _UNTIL,
)
_ROOM_ON_V2 = "a request that names many tokens ends Model Runner V2's engine"
_ROOM_CHECKED = "vLLM refuses what its runner has no room for"

_LOGIT_BIAS = "vllm.v1.worker.gpu.sample.logit_bias"
# How many tokens of a request Model Runner V2 has room for.
V2_ROOM: dict[str, Touch] = {
    "logit_bias": Touch(_LOGIT_BIAS, "MAX_NUM_LOGIT_BIAS_TOKENS", _ROOM_ON_V2, _ROOM_CHECKED),
    "allowed_token_ids": Touch(
        _LOGIT_BIAS, "MAX_NUM_ALLOWED_TOKEN_IDS", _ROOM_ON_V2, _ROOM_CHECKED
    ),
    "stop_token_ids": Touch(_LOGIT_BIAS, "MAX_NUM_STOP_TOKEN_IDS", _ROOM_ON_V2, _ROOM_CHECKED),
    "bad_words": Touch("vllm.envs", "VLLM_MAX_BAD_WORDS_TOTAL_TOKENS", _ROOM_ON_V2, _ROOM_CHECKED),
}
TOUCHES = (_CHAT, _REQUEST, _SENT, _GENERATE, _INPUTS, *V2_ROOM.values())


def refuse_what_stumbles(engine_has_it: Callable[[], None]) -> None:
    """Turns errors that a request causes before an engine has it into the client's errors.

    It does so where vLLM itself turns every exception into an answer: while messages become a
    prompt, and between `AsyncLLM.generate` and the engine. engine_has_it: called once an engine has
    the request.
    """

    def adding(original: Any) -> Any:
        refusing = _refusing(original)

        async def add_request(
            self: Any, request_id: str, prompt: Any, *args: Any, **more: Any
        ) -> Any:
            queue = await refusing(self, request_id, prompt, *args, **more)
            if not isinstance(prompt, AsyncGenerator):  # a session has sent nothing yet
                engine_has_it()
            return queue

        return add_request

    def giving(original: Any) -> Any:
        async def _add_request(self: Any, request: Any, *args: Any, **kwargs: Any) -> None:
            try:
                await original(self, request, *args, **kwargs)
            except _STUMBLES:  # it cannot be sent; remove what waits for its outputs
                self.output_processor.abort_requests([request.request_id], internal=True)
                raise
            engine_has_it()

        return _add_request

    replace(_CHAT, _refusing)
    replace(_REQUEST, adding)
    replace(_SENT, giving)
    replace(_INPUTS, _refusing_what_ends_an_engine)
    replace(_GENERATE, _refusing_dead_ends)


def _refusing(original: Any) -> Any:
    """A coroutine function that raises vLLM's own error for a malformed request."""

    async def refusing(*args: Any, **kwargs: Any) -> Any:
        try:
            return await original(*args, **kwargs)
        except _STUMBLES as error:
            if isinstance(error, _validation_error()):
                raise
            raise _validation_error()(stumble_sentence(error)) from error

    return refusing


def _refusing_what_ends_an_engine(original: Any) -> Any:
    """Wraps `process_inputs`, which all requests go through, to refuse some of them."""

    def process_inputs(self: Any, *args: Any, **kwargs: Any) -> Any:
        request = original(self, *args, **kwargs)
        if request.sampling_params is not None:
            _refuse_other_transfer_params(request.sampling_params.extra_args or {})
            if self.vllm_config.use_v2_model_runner:
                _refuse_what_v2_has_no_room_for(request.sampling_params)
        return request

    return process_inputs


def _refuse_other_transfer_params(extra_args: dict[str, Any]) -> None:
    """Raises vLLM's own error where `vllm_xargs` has no object, whose fields connectors ask for."""
    for name in ("kv_transfer_params", "ec_transfer_params"):
        value = extra_args.get(name)
        if value is not None and not isinstance(value, dict):
            raise _validation_error()(f"{name} is {str(value)[:50]!r}; it should be an object.")


def _refuse_what_v2_has_no_room_for(sampling_params: Any) -> None:
    """Raises vLLM's own error for what would make its sampler raise, which ends the engine."""
    params = sampling_params
    named: dict[str, Any] = {
        "logit_bias": params.logit_bias,
        "allowed_token_ids": params.allowed_token_ids,
        "stop_token_ids": params.min_tokens and params.all_stop_token_ids,  # and the model's own
        "bad_words": [token for word in params.bad_words_token_ids or () for token in word],
    }
    for field, tokens in named.items():
        room = resolve(V2_ROOM[field])
        if tokens and len(tokens) > room:
            beside = " with min_tokens" if field == "stop_token_ids" else ""
            raise _validation_error()(
                f"{field}{beside} names {len(tokens)} tokens; this engine has room for {room}."
            )


def _refusing_dead_ends(original: Any) -> Any:
    """Wraps `generate` to say why the engine gave up a structured output.

    vLLM cannot tell beforehand: the grammar does not compile, or together with the request's other
    constraints (allowed tokens, bad words) it leaves no token to go on with.
    """

    async def constrained(outputs: Any) -> Any:
        async with contextlib.aclosing(outputs):
            async for output in outputs:
                if any(sequence.finish_reason == "error" for sequence in output.outputs):
                    raise _validation_error()(
                        "The answer cannot continue: its structured output, together with the "
                        "request's other constraints, allows no token at this point."
                    )
                yield output

    def generate(self: Any, prompt: Any, sampling_params: Any, *args: Any, **kwargs: Any) -> Any:
        outputs = original(self, prompt, sampling_params, *args, **kwargs)
        return outputs if sampling_params.structured_outputs is None else constrained(outputs)

    return generate
