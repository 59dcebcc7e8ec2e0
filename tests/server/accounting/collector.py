"""An OpenTelemetry collector that keeps what it is sent."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass
class Collector:
    """Spans by name, as OTLP's protobuf messages, each with its attributes as a dictionary."""

    endpoint: str = ""
    spans: list[tuple[Any, dict[str, Any]]] = field(default_factory=list)

    def named(self, name: str) -> list[tuple[Any, dict[str, Any]]]:
        return [(span, attributes) for span, attributes in self.spans if span.name == name]

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    attributes = {
                        attribute.key: getattr(
                            attribute.value, str(attribute.value.WhichOneof("value"))
                        )
                        for attribute in span.attributes
                    }
                    self.spans.append((span, attributes))


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a free port of 127.0.0.1, over HTTP."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        collector.endpoint = f"http://127.0.0.1:{server.server_address[1]}/v1/traces"
        yield collector
        server.shutdown()
