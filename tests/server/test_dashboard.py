"""Every query of the Grafana dashboard finds its series in a live `/metrics`."""

import json
import re
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import promql_parser
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.serving import Server

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "deploy/grafana/longrope.json").read_text())
TARGETS = [target for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]

Series = list[tuple[str, dict[str, str]]]


@pytest.fixture(scope="module")
def series(embedded_server: Server) -> Series:
    """What a server says after a chat and a refusal."""
    body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}
    with httpx.Client(base_url=embedded_server.url, timeout=60) as client:
        assert client.post("/v1/chat/completions", json=body).status_code == 200
        assert _status_of_a_body_too_large(embedded_server) == 413
        text = client.get("/metrics").text
    families = text_string_to_metric_families(text)
    return [(sample.name, sample.labels) for family in families for sample in family.samples]


def _status_of_a_body_too_large(server: Server) -> int:
    connection = HTTPConnection(server.url.removeprefix("http://"), timeout=60)
    connection.putrequest("POST", "/v1/chat/completions")
    connection.putheader("Content-Length", str(10**12))
    connection.endheaders()
    status = connection.getresponse().status
    connection.close()
    return status


def selectors(expression: Any) -> Iterator[Any]:
    """Every vector selector below a parsed expression."""
    if isinstance(expression, promql_parser.VectorSelector):
        yield expression
    for name in ("expr", "lhs", "rhs", "vector_selector"):
        if (below := getattr(expression, name, None)) is not None:
            yield from selectors(below)
    for below in getattr(expression, "args", ()) or ():
        yield from selectors(below)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target["legendFormat"])
def test_a_query_finds_series_with_the_labels_that_it_shows(
    target: dict[str, str], series: Series
) -> None:
    expression = target["expr"].replace("$__rate_interval", "1m")
    found = list(selectors(promql_parser.parse(expression)))
    assert found
    shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
    for selector in found:
        labels = [labels for name, labels in series if name == selector.name]
        assert labels, selector.name
        if "by" in expression and "ignoring" not in expression:
            assert shown <= labels[0].keys()


def test_the_documentation_names_our_metrics_and_no_others(series: Series) -> None:
    suffixes = re.compile(r"_(bucket|count|sum|created)$")
    live = {suffixes.sub("", name) for name, _ in series if name.startswith("longrope_")}
    live = {name for name in live if f"{name}_total" not in live}
    text = (ROOT / "docs/metrics.md").read_text()
    assert set(re.findall(r"^\| `(longrope_\w+)`", text, re.MULTILINE)) == live


def test_panels_have_names_of_their_own_and_no_address() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    assert "://" not in json.dumps(DASHBOARD)
