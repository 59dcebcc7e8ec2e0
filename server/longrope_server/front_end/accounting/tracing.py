"""A span for each HTTP request, if vLLM exports traces (`--otlp-traces-endpoint`).

vLLM's own span of a request to the engine, `llm_request`, becomes its child, because vLLM takes the
parent from the request's headers.
"""

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers

from longrope_server.front_end.accounting.record import Exchange

NAME = "longrope_request"
# What a span says of the record, under OpenTelemetry's names where there are any.
ATTRIBUTES = {
    "method": "http.request.method",
    "path": "url.path",
    "status": "http.response.status_code",
    "request_id": "gen_ai.request.id",
    "prompt_tokens": "gen_ai.usage.input_tokens",
    "generated_tokens": "gen_ai.usage.output_tokens",
    **{
        name: f"longrope.{name}"
        for name in (
            "key",
            "complete",
            "refused",
            "factor_set",
            "finished_factor_set",
            "promoted",
            "cached_tokens",
            "admission_seconds",
            "queue_seconds",
            "first_token_seconds",
        )
    },
}


class Tracing:
    """Makes the spans of this process with the exporter that vLLM has set up."""

    def __init__(self) -> None:
        self.tracer = trace.get_tracer("longrope")
        self.propagator = TraceContextTextMapPropagator()

    def start(self, exchange: Exchange) -> Span:
        """Begins a span, and makes it the parent of what the request's headers lead to."""
        scope = exchange.scope
        span = self.tracer.start_span(
            NAME,
            context=self.propagator.extract(dict(Headers(scope=scope))),
            kind=SpanKind.SERVER,
            start_time=int(exchange.began * 1e9),
        )
        ours: dict[str, str] = {}
        self.propagator.inject(ours, trace.set_span_in_context(span))
        scope["headers"] = [
            *(
                (name, value)
                for name, value in scope["headers"]
                if name.decode("latin-1") not in ours
            ),
            *((name.encode(), value.encode()) for name, value in ours.items()),
        ]
        return span

    def end(self, span: Span, exchange: Exchange) -> None:
        """Ends it with what is on record."""
        record = exchange.record()
        for name, attribute in ATTRIBUTES.items():
            if record[name] is not None:
                span.set_attribute(attribute, record[name])
        if record["status"] is None or record["status"] >= 500:
            span.set_status(StatusCode.ERROR)
        span.end()
