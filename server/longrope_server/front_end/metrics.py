"""What `GET /metrics` says in addition to vLLM's own metrics; docs/metrics.md explains all of it.

With several API processes, prometheus_client adds up their values. vLLM sets up this multiprocess
mode before any process of the server imports this module.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from prometheus_client import Counter, Gauge, Histogram

from longrope_server.keys.key_file import NOBODY
from longrope_server.keys.usage_ledger import Amounts

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500)
NO_SET = "none"  # the label for a model without factor sets

BY_SET = ["factor_set"]
BY_CLASS = ["length_class"]

REQUESTS = Counter(
    "longrope_requests",
    "Requests to the engine that have ended, by the set they started with and how they ended.",
    [*BY_SET, "finish_reason"],
)
PROMPT_TOKENS = Counter("longrope_prompt_tokens", "Tokens of prompts, by factor set.", BY_SET)
GENERATED_TOKENS = Counter("longrope_generated_tokens", "Generated tokens, by factor set.", BY_SET)
FIRST_TOKEN_SECONDS = Histogram(
    "longrope_time_to_first_token_seconds",
    "From the arrival of the HTTP request to the first token, by factor set.",
    BY_SET,
    buckets=SECONDS,
)
QUEUE_SECONDS = Histogram(
    "longrope_queue_seconds",
    "Waiting in the engine to be scheduled, by factor set.",
    BY_SET,
    buckets=SECONDS,
)
PREFILL_SECONDS = Histogram(
    "longrope_prefill_seconds",
    "From being scheduled to the first token, by factor set.",
    BY_SET,
    buckets=SECONDS,
)
PROMOTIONS = Counter("longrope_promotions", "Promotions of running sequences.", ["from", "to"])
REFUSALS = Counter("longrope_refusals", "HTTP requests that were refused or ended.", ["reason"])
ADMISSION_SECONDS = Histogram(
    "longrope_admission_wait_seconds",
    "Waiting to be let in, before tokenisation, by length class.",
    BY_CLASS,
    buckets=SECONDS,
)
UNDER_WAY = {
    state: Gauge(
        f"longrope_requests_{state}",
        f"HTTP requests {words}, by length class.",
        BY_CLASS,
        multiprocess_mode="livesum",
    )
    for state, words in (("in_flight", "that were let in"), ("queued", "that wait to be let in"))
}
TOKENS_IN_FLIGHT = Gauge(
    "longrope_tokens_in_flight",
    "Prompt tokens of the requests that were let in, by length class.",
    BY_CLASS,
    multiprocess_mode="livesum",
)
BY_KEY = ["key"]
KEY_REQUESTS = Counter(
    "longrope_key_requests", "Requests to the engine that ended, by key.", BY_KEY
)
KEY_PROMPT_TOKENS = Counter("longrope_key_prompt_tokens", "Tokens of prompts, by key.", BY_KEY)
KEY_GENERATED_TOKENS = Counter("longrope_key_generated_tokens", "Generated tokens, by key.", BY_KEY)
ACCOUNTING_FAILURES = Counter(
    "longrope_accounting_failures",
    "Writes of the usage ledger that failed, and lines of the request log that are lost.",
    ["part"],
)
# What alerts watch is shown as 0 at first: Prometheus does not see the first event of a new series.
REFUSALS.labels("server_full")
for _part in ("ledger", "log"):
    ACCOUNTING_FAILURES.labels(_part)

ENDS = ("stop", "length", "cancelled", "abort", "error")  # the usual finish reasons

MOST_KEYS = 100  # with a label of their own
OTHER_KEYS = "other"


def refused(reason: str) -> None:
    """Counts a refusal."""
    REFUSALS.labels(reason).inc()


def accounting_failed(part: str) -> None:
    """Counts a failed write of the ledger, or a lost line of the log."""
    ACCOUNTING_FAILURES.labels(part).inc()


class KeyMetrics:
    """The metrics by key. The first MOST_KEYS names have labels of their own, for good."""

    def __init__(self) -> None:
        self.names: set[str] = {NOBODY}

    def know(self, names: Iterable[str]) -> None:
        """Gives these names labels while there are any left; shows the metrics of each as 0."""
        for name in names:
            if len(self.names) <= MOST_KEYS:
                self.names.add(name)
            for metric in (KEY_REQUESTS, KEY_PROMPT_TOKENS, KEY_GENERATED_TOKENS):
                metric.labels(self._label(name))

    def ended(self, name: str, amounts: Amounts) -> None:
        """Adds what a request to the engine took."""
        label = self._label(name)
        KEY_REQUESTS.labels(label).inc(amounts.requests)
        KEY_PROMPT_TOKENS.labels(label).inc(amounts.prompt_tokens)
        KEY_GENERATED_TOKENS.labels(label).inc(amounts.generated_tokens)

    def _label(self, name: str) -> str:
        return name if name in self.names else OTHER_KEYS


class ClassMetrics:
    """The metrics of the length classes with these bounds."""

    def __init__(self, bounds: Sequence[int]) -> None:
        self.names = {high: f"{low + 1}-{high}" for low, high in pairwise([0, *bounds])}
        for name in self.names.values():
            ADMISSION_SECONDS.labels(name)
            TOKENS_IN_FLIGHT.labels(name)
            for gauge in UNDER_WAY.values():
                gauge.labels(name)

    def changed(self, bound: int, state: str, requests: int, tokens: int) -> None:
        """Adds requests and tokens, which may be negative, to those in this state."""
        name = self.names[bound]
        if state in UNDER_WAY:
            UNDER_WAY[state].labels(name).inc(requests)
        if state == "in_flight":
            TOKENS_IN_FLIGHT.labels(name).inc(tokens)

    def waited(self, bound: int, seconds: float) -> None:
        """Notes that a request was let in after this many seconds."""
        ADMISSION_SECONDS.labels(self.names[bound]).observe(seconds)


def prepare_sets(limits: Sequence[int]) -> None:
    """Shows the metrics of every factor set as 0 before the first request comes."""
    for limit in map(str, limits):
        for metric in (
            PROMPT_TOKENS,
            GENERATED_TOKENS,
            FIRST_TOKEN_SECONDS,
            QUEUE_SECONDS,
            PREFILL_SECONDS,
        ):
            metric.labels(limit)
        for reason in ENDS:
            REQUESTS.labels(limit, reason)
    for low, high in pairwise(map(str, limits)):
        PROMOTIONS.labels(low, high)
