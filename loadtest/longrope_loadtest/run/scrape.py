"""The server's own metrics, scraped once a second during a run."""

import math
import threading
import time
import zlib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
from prometheus_client.parser import text_string_to_metric_families

from longrope_loadtest.run.direct import direct

SECONDS = 1.0
TOO_FINE = ("_bucket", "_created")  # endings of samples that are not needed


@dataclass(frozen=True)
class Scrape:
    """One scrape: the Unix time, and each metric summed over its labels."""

    at: float
    values: dict[str, float]


class Scraper:
    """Scrapes `url`/metrics in its own thread; texts are kept compressed until after the run."""

    def __init__(self, url: str, key: str | None) -> None:
        self._url = f"{url}/metrics"
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._texts: list[tuple[float, bytes]] = []
        self._over = threading.Event()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Scrape while the context is open, at least once; a server without metrics only once.

        One that had metrics may refuse them for a while, as it may requests.
        """
        thread = threading.Thread(target=self._watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join(timeout=SECONDS * 5)

    def scrapes(self) -> list[Scrape]:
        """All scrapes."""
        return [Scrape(at, _sums(zlib.decompress(text).decode())) for at, text in self._texts]

    def _watch(self) -> None:
        with httpx.Client(headers=self._headers, timeout=SECONDS * 4, **direct()) as client:
            while True:
                began = time.time()
                try:
                    answer = client.get(self._url)
                except httpx.HTTPError:  # the server is busy or down, as the requests will show
                    answer = None
                if answer is not None and answer.status_code == 200:
                    packed = zlib.compress(answer.text.encode())
                    self._texts.append(((began + time.time()) / 2, packed))
                elif answer is not None and not self._texts:
                    return
                if self._over.wait(SECONDS):
                    return


def _sums(text: str) -> dict[str, float]:
    sums: dict[str, float] = defaultdict(float)
    # Most lines of vLLM's are buckets, and an hour has 3,600 texts, so they are not even parsed.
    lines = (line for line in text.split("\n") if not line.partition("{")[0].endswith(TOO_FINE))
    try:
        for family in text_string_to_metric_families("\n".join(lines)):
            for sample in family.samples:
                if not sample.name.endswith(TOO_FINE) and math.isfinite(sample.value):
                    sums[sample.name] += sample.value
    except ValueError:  # not the text format of Prometheus
        return {}
    return dict(sums)
