"""The alerts of docs/metrics.md: Prometheus can read them, and their metrics are in its table."""

import re
from pathlib import Path

import promql_parser

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")


def test_alerts_can_be_read_and_ask_for_metrics_that_there_are() -> None:
    metrics = set(re.findall(r"^\| `(longrope_\w+)`", PAGE, re.MULTILINE))
    alerts = re.findall(r"^\| `(.+ > .+?)` \|", PAGE, re.MULTILINE)
    assert len(alerts) == 4
    for alert in alerts:
        promql_parser.parse(alert)
        names = re.findall(r"longrope_\w+", alert)
        assert {name.removesuffix("_bucket") for name in names} <= metrics
