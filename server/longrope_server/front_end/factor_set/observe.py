"""Notes every request to the engine, in the Answer of its HTTP call, the metrics and the accounts.

It also checks what the request's key allows, and corrects the place that an HTTP request was given
by an estimate: at this point its prompts are tokenised, and the engine has not seen them yet.
"""

import inspect
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, TypeAlias

from vllm.outputs import PoolingRequestOutput, RequestOutput
from vllm.pooling_params import PoolingParams
from vllm.sampling_params import RequestOutputKind, SamplingParams

from longrope_server.front_end import metrics
from longrope_server.front_end.admission.admission import current_place
from longrope_server.front_end.factor_set.answer import (
    Answer,
    EngineRequest,
    SelectsSets,
    current_answer,
)
from longrope_server.front_end.key_limits import KeyLimits, priority
from longrope_server.front_end.vllm_patches.engine_counts import EngineCounts, current_counts
from longrope_server.keys.key_file import Key
from longrope_server.keys.usage_ledger import Amounts

Output: TypeAlias = RequestOutput | PoolingRequestOutput
Asking = Callable[..., AsyncGenerator[Output, None]]
Ended = Callable[[Key | None, int, Amounts], None]
"""Called when an engine request has ended, with its key, the max_length of the set that it started
with (0 without sets) and what it took."""

ASKING = ("generate", "encode")
"""The methods of vLLM's EngineClient that take a prompt; all its APIs go through them."""


class _NoSets:
    """Stands for the selection of a model without factor sets: one set, without limit or name."""

    def start(self, prompt_tokens: int, max_tokens: int | None) -> int:
        return 0

    def finish(self, start: int, total_tokens: int) -> int:
        return 0

    def start_session(self) -> int:
        return 0

    def limit(self, index: int) -> int:
        return 0


def ignore_end(key: Key | None, factor_set: int, amounts: Amounts) -> None:
    """Does nothing, for requests of which nobody keeps accounts."""


def observed(
    ask: Asking,
    selection: SelectsSets | None,
    key_limits: KeyLimits | None = None,
    request_ended: Ended = ignore_end,
) -> Asking:
    """Wraps one of the engine client's ASKING methods to note each call inside an HTTP request.

    The wrapper is a plain function, so that the set is known as soon as it is called: for chat and
    completions, vLLM calls it before it starts a streamed answer, and iterates the generator only
    afterwards. selection: None for a model without factor sets.
    """
    signature = inspect.signature(ask)

    def noting(*args: Any, **kwargs: Any) -> AsyncGenerator[Output, None]:
        answer = current_answer.get()
        if answer is None:
            return ask(*args, **kwargs)
        given = signature.bind(*args, **kwargs)
        prompt, parameters, request_id, *_ = given.args
        length = prompt_length(prompt)
        if key_limits is not None and answer.key is not None:
            adapter = given.arguments.get("lora_request")
            key_limits.check(answer.key, adapter and adapter.lora_name, length)
            given.arguments["priority"] = priority(answer.key, given.arguments.get("priority"))
        outputs = ask(*given.args, **given.kwargs)
        call = _Call(answer, selection, prompt, parameters, request_id, request_ended)
        if length is not None:
            call.note(length)
        return call.counted(outputs)

    return noting


class _Call:
    """One call of an ASKING method."""

    def __init__(
        self,
        answer: Answer,
        selection: SelectsSets | None,
        prompt: Any,
        parameters: SamplingParams | PoolingParams,
        request_id: str,
        request_ended: Ended,
    ) -> None:
        self.answer = answer
        answer.ids.append(request_id)
        self.request_ended = request_ended
        self.counts = EngineCounts()
        self.prompt_tokens = 0  # those that were counted
        self.selection = selection
        self.max_tokens = 0 if isinstance(parameters, PoolingParams) else parameters.max_tokens
        self.cumulative = parameters.output_kind is not RequestOutputKind.DELTA
        self.request_id = request_id
        # A session of the realtime API brings its prompt in parts, as they are spoken.
        self.is_session = isinstance(prompt, AsyncGenerator)
        self.request: EngineRequest | None = None

    def note(self, prompt_tokens: int) -> EngineRequest:
        """Makes and notes the engine request, now that the length of the prompt is known."""
        selection = self.selection or _NoSets()
        start = (
            selection.start_session()
            if self.is_session
            else selection.start(prompt_tokens, self.max_tokens)
        )
        request = EngineRequest(selection, prompt_tokens, start, self.request_id)
        self.request = request
        if self.selection is not None:
            self.answer.requests.append(request)
        return request

    async def counted(self, outputs: AsyncGenerator[Output, None]) -> AsyncGenerator[Output, None]:
        """Yields the same outputs, and counts them."""
        place = current_place.get()
        tokens = None if self.request is None else self.request.prompt_tokens
        ended = "cancelled"
        self.answer.asking += 1
        try:
            # A caller that stops early aborts the request at once.
            async with aclosing(outputs):
                if self.answer.release is not None:
                    await self.answer.release()
                try:
                    if place is not None and tokens is not None:
                        await place.tokenised(tokens)  # may wait for another place
                    if place is not None:
                        place.asks()
                    submitted = time.monotonic()
                    current_counts.set(self.counts)
                    async for output in outputs:
                        # Sometimes only the engine knows the length of the prompt.
                        request = self.request or self.note(len(output.prompt_token_ids or ()))
                        if not request.has_answered:
                            self._count_prompt(request, request.prompt_tokens)
                            if not self.is_session:  # its first token waits for speech
                                self._time(request, output, submitted - self.answer.began)
                        self._count(request, output)
                        if output.finished:
                            ended = _finish_reason(output)
                        yield output
                except Exception:
                    ended = "error"
                    raise
                finally:
                    if place is not None and tokens is not None:
                        place.computed(tokens)
        finally:
            self._end(ended)

    def _count_prompt(self, request: EngineRequest, total: int) -> None:
        metrics.PROMPT_TOKENS.labels(_label(request)).inc(total - self.prompt_tokens)
        self.prompt_tokens = total

    def _count(self, request: EngineRequest, output: Output) -> None:
        if isinstance(output, PoolingRequestOutput):
            request.add(0, 0, cumulative=True)
            return
        for sequence in output.outputs:
            new = len(sequence.token_ids)
            total = new if self.cumulative else request.tokens(sequence.index) + new
            self._count_sequence(request, sequence.index, total)

    def _count_sequence(self, request: EngineRequest, index: int, total: int) -> None:
        """Notes that sequence `index` has `total` tokens now."""
        tokens, before = request.tokens(index), request.finish_of(index)
        request.add(index, total, cumulative=True)
        metrics.GENERATED_TOKENS.labels(_label(request)).inc(total - tokens)
        if (after := request.finish_of(index)) > before:
            limits = [str(request.selection.limit(finish)) for finish in (before, after)]
            metrics.PROMOTIONS.labels(*limits).inc()

    def _time(self, request: EngineRequest, output: Output, seconds_before: float) -> None:
        """Notes the times of the first token. seconds_before: on the way to the engine."""
        label = _label(request)
        stats: Any = getattr(output, "metrics", None)
        # There are none with --disable-log-stats, after an early end, or for a vector, which has no
        # tokens.
        if stats is None or not stats.first_token_ts:
            return
        # The engine's clock may be that of another machine, so only differences count.
        queued, prefill = (
            stats.scheduled_ts - stats.queued_ts,
            stats.first_token_ts - stats.scheduled_ts,
        )
        metrics.QUEUE_SECONDS.labels(label).observe(queued)
        metrics.PREFILL_SECONDS.labels(label).observe(prefill)
        metrics.FIRST_TOKEN_SECONDS.labels(label).observe(seconds_before + queued + prefill)
        if self.answer.first_token_seconds is None:
            self.answer.queue_seconds = queued
            self.answer.first_token_seconds = seconds_before + queued + prefill

    def _end(self, ended: str) -> None:
        """Notes how the request ended, with the engine's counts of what no output has told."""
        answer, counts = self.answer, self.counts
        if self.request is None and counts.has_computed_prompt:
            self.note(counts.prompt_tokens or 0)
        if (request := self.request) is not None:
            if request.has_answered or counts.has_computed_prompt:
                # The prompt of a session has grown.
                self._count_prompt(request, max(request.prompt_tokens, counts.prompt_tokens or 0))
            for index, tokens in counts.generated().items():
                if tokens > request.tokens(index):
                    self._count_sequence(request, index, tokens)
            metrics.REQUESTS.labels(_label(request), ended).inc()
            amounts = Amounts(
                requests=1,
                aborted=int(ended in ("cancelled", "abort")),
                failed=int(ended == "error"),
                promoted=int(request.finish > request.start),
                prompt_tokens=self.prompt_tokens,
                cached_tokens=counts.cached_tokens,
                generated_tokens=sum(request.generated.values()),
            )
            answer.amounts += amounts
            self.request_ended(answer.key, request.selection.limit(request.start), amounts)
        answer.asking -= 1
        if not answer.asking:
            answer.quiet.set()


def _finish_reason(output: Output) -> str:
    """How a request ended, from its last output."""
    if isinstance(output, PoolingRequestOutput):
        return "stop" if output.error is None else "error"
    return str(output.outputs[0].finish_reason)


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
