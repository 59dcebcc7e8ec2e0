"""The server's own metrics, while it is in trouble and afterwards."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from longrope_loadtest.run import scrape
from longrope_loadtest.run.scrape import Scraper

TEXT = """# TYPE vllm:ttft histogram
vllm:ttft_bucket{engine="0",le="0.1"} 3.0
vllm:ttft_bucket{engine="0",le="+Inf"} 4.0
vllm:ttft_count{engine="0"} 4.0
vllm:ttft_count{engine="1"} 2.0
vllm:ttft_sum{engine="0"} 1.5
# TYPE vllm:running gauge
vllm:running{engine="0"} 1.0
vllm:running{engine="1"} NaN
vllm:longest_wait +Inf
vllm:running_created 5.0
"""


@contextmanager
def answering(*statuses: int) -> Iterator[tuple[str, list[int]]]:
    """A server that answers with these statuses and then with 200; its address, and what it did."""
    left, done = list(statuses), []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            done.append(left.pop(0) if left else 200)
            self.send_response(done[-1])
            self.end_headers()
            self.wfile.write(TEXT.encode())

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", done
        finally:
            server.shutdown()
            thread.join()


def test_metrics_are_summed_over_their_labels_without_buckets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parsed: list[str] = []
    parse = scrape.text_string_to_metric_families
    monkeypatch.setattr(
        scrape, "text_string_to_metric_families", lambda text: parsed.append(text) or parse(text)
    )
    assert scrape._sums(TEXT) == {"vllm:ttft_count": 6, "vllm:ttft_sum": 1.5, "vllm:running": 1}
    assert "_bucket" not in parsed[0]  # parsing them would take most of the time


@pytest.mark.parametrize(("statuses", "seen"), [((200, 503), 2), ((404,), 0)])
def test_a_server_may_refuse_its_metrics_for_a_while(
    monkeypatch: pytest.MonkeyPatch, statuses: tuple[int, ...], seen: int
) -> None:
    monkeypatch.setattr(scrape, "SECONDS", 0.05)
    with answering(*statuses) as (url, done):
        scraper = Scraper(url, None)
        with scraper.watching():
            deadline = time.monotonic() + (10 if seen else 0.5)
            while len(done) < 4 and time.monotonic() < deadline:
                time.sleep(0.02)
    assert len(scraper.scrapes()) >= seen
    assert len(done) >= 4 if seen else len(done) == 1
