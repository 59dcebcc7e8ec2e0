"""Notes every request to the engine in the Answer of the HTTP call that makes it."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from vllm.outputs import RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams

from longrope_server.answer import Answer, EngineRequest, SelectsSets, current_answer

Generate = Callable[..., AsyncGenerator[RequestOutput, None]]


def observed(generate: Generate, selection: SelectsSets) -> Generate:
    """`engine_client.generate`, with each call inside an HTTP request noted.

    A plain function, so that the set is known when it is called: vLLM calls it before it starts a
    streamed answer (chat and completions), and only iterates the generator afterwards.
    """

    def noting(
        prompt: Any, sampling_params: SamplingParams, *args: Any, **kwargs: Any
    ) -> AsyncGenerator[RequestOutput, None]:
        outputs = generate(prompt, sampling_params, *args, **kwargs)
        answer = current_answer.get()
        if answer is None:
            return outputs
        request = None
        if (length := prompt_length(prompt)) is not None:
            request = EngineRequest(selection, length, sampling_params.max_tokens)
            answer.requests.append(request)
        return _counted(outputs, request, answer, selection, sampling_params)

    return noting


async def _counted(
    outputs: AsyncGenerator[RequestOutput, None],
    request: EngineRequest | None,
    answer: Answer,
    selection: SelectsSets,
    sampling_params: SamplingParams,
) -> AsyncGenerator[RequestOutput, None]:
    cumulative = sampling_params.output_kind is not RequestOutputKind.DELTA
    async with aclosing(outputs):  # a caller that stops early aborts the request at once
        if answer.release is not None:
            await answer.release()
        async for output in outputs:
            if request is None:
                # A prompt whose length only the engine knew.
                length = len(output.prompt_token_ids or ())
                request = EngineRequest(selection, length, sampling_params.max_tokens)
                answer.requests.append(request)
            for sequence in output.outputs:
                request.add(sequence.index, len(sequence.token_ids), cumulative)
            yield output


def prompt_length(prompt: Any) -> int | None:
    """The tokens of an engine input; None for a prompt that is not tokenised yet."""
    if not isinstance(prompt, dict):
        tokens = getattr(prompt, "prompt_token_ids", None)  # an EngineCoreRequest
        return None if tokens is None else len(tokens)
    prompt = prompt.get("decoder_prompt") or prompt
    for name in ("prompt_token_ids", "prompt_embeds"):
        if (part := prompt.get(name)) is not None:
            return len(part)
    return None
