"""Notes every request to the engine: in the Answer of the HTTP call that makes it, in the metrics.

It is also where the place that an HTTP request was given by estimate is corrected: here its prompts
are tokenised, and the engine has not seen them yet.
"""

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from vllm.outputs import RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams

from longrope_server import metrics
from longrope_server.admission.admission import current_place
from longrope_server.answer import Answer, EngineRequest, SelectsSets, current_answer

Generate = Callable[..., AsyncGenerator[RequestOutput, None]]


class _NoSets:
    """The selection of a model without factor sets: one, which has no limit and no name."""

    def start(self, prompt_tokens: int, max_tokens: int | None) -> int:
        return 0

    def finish(self, start: int, total_tokens: int) -> int:
        return 0

    def limit(self, index: int) -> int:
        return 0


def observed(generate: Generate, selection: SelectsSets | None) -> Generate:
    """`engine_client.generate`, with each call inside an HTTP request noted.

    A plain function, so that the set is known when it is called: vLLM calls it before it starts a
    streamed answer (chat and completions), and only iterates the generator afterwards.
    selection: None for a model without factor sets.
    """

    def noting(
        prompt: Any, sampling_params: SamplingParams, request_id: str, *args: Any, **kwargs: Any
    ) -> AsyncGenerator[RequestOutput, None]:
        outputs = generate(prompt, sampling_params, request_id, *args, **kwargs)
        answer = current_answer.get()
        if answer is None:
            return outputs
        call = _Call(answer, selection, sampling_params, request_id)
        if (length := prompt_length(prompt)) is not None:
            call.note(length)
        return call.counted(outputs)

    return noting


class _Call:
    """One call of `generate`."""

    def __init__(
        self,
        answer: Answer,
        selection: SelectsSets | None,
        sampling_params: SamplingParams,
        request_id: str,
    ) -> None:
        self.answer = answer
        self.selection = selection
        self.max_tokens = sampling_params.max_tokens
        self.cumulative = sampling_params.output_kind is not RequestOutputKind.DELTA
        self.request_id = request_id
        self.request: EngineRequest | None = None

    def note(self, prompt_tokens: int) -> EngineRequest:
        """The length of the prompt is known."""
        selection = self.selection or _NoSets()
        request = EngineRequest(selection, prompt_tokens, self.max_tokens, self.request_id)
        self.request = request
        if self.selection is not None:
            self.answer.requests.append(request)
        return request

    async def counted(
        self, outputs: AsyncGenerator[RequestOutput, None]
    ) -> AsyncGenerator[RequestOutput, None]:
        """The same outputs."""
        place = current_place.get()
        ended = "cancelled"
        async with aclosing(outputs):  # a caller that stops early aborts the request at once
            if self.answer.release is not None:
                await self.answer.release()
            if place is not None and self.request is not None:
                await place.tokenised(self.request.prompt_tokens)  # may wait for another place
            submitted = time.monotonic()
            try:
                async for output in outputs:
                    # Only the engine may have known the length of the prompt.
                    request = self.request or self.note(len(output.prompt_token_ids or ()))
                    if not request.has_answered:
                        _time(request, output, submitted - self.answer.began)
                    self._count(request, output)
                    if output.finished:
                        ended = str(output.outputs[0].finish_reason)
                    yield output
            except Exception:
                ended = "error"
                raise
            finally:
                if self.request is not None:
                    metrics.REQUESTS.labels(_label(self.request), ended).inc()

    def _count(self, request: EngineRequest, output: RequestOutput) -> None:
        for sequence in output.outputs:
            tokens, before = request.tokens(sequence.index), request.finish_of(sequence.index)
            request.add(sequence.index, len(sequence.token_ids), self.cumulative)
            tokens = request.tokens(sequence.index) - tokens
            metrics.GENERATED_TOKENS.labels(_label(request)).inc(tokens)
            if (after := request.finish_of(sequence.index)) > before:
                limits = [str(request.selection.limit(each)) for each in (before, after)]
                metrics.PROMOTIONS.labels(*limits).inc()


def _time(request: EngineRequest, output: RequestOutput, seconds_before: float) -> None:
    """Notes the times of a request's first output; `seconds_before` its way to the engine."""
    label = _label(request)
    metrics.PROMPT_TOKENS.labels(label).inc(request.prompt_tokens)
    stats: Any = output.metrics
    if stats is None or not stats.first_token_ts:  # --disable-log-stats, or an early end
        return
    # The engine's clock, which may be another machine's: only its differences count.
    queued, prefill = (
        stats.scheduled_ts - stats.queued_ts,
        stats.first_token_ts - stats.scheduled_ts,
    )
    metrics.QUEUE_SECONDS.labels(label).observe(queued)
    metrics.PREFILL_SECONDS.labels(label).observe(prefill)
    metrics.FIRST_TOKEN_SECONDS.labels(label).observe(seconds_before + queued + prefill)


def _label(request: EngineRequest) -> str:
    limit = request.selection.limit(request.start)
    return str(limit) if limit else metrics.NO_SET


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
