"""Write a result as report.html."""

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from longrope_loadtest.report import (
    client,
    conversations,
    latencies,
    lengths,
    server,
    tables,
    template,
    texts,
    timelines,
)
from longrope_loadtest.report.drawing import Picture
from longrope_loadtest.report.looks import looks_of
from longrope_loadtest.report.tables import Table
from longrope_loadtest.results.figures import share_within_objectives
from longrope_loadtest.results.results import Result, early_end
from longrope_loadtest.text_files import writing

FILE = "report.html"


@dataclass(frozen=True)
class Verdict:
    """A sentence in a box at the top of the page."""

    good: bool
    head: str
    text: str


@dataclass(frozen=True)
class Section:
    """Pictures and figures under a heading."""

    title: str
    pictures: list[Picture]
    note: str = ""
    by_class: bool = True  # whether it needs the legend of classes
    tables: list[Table] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)


def write(result: Result) -> Path:
    """Write report.html to the result's directory and return its path."""
    path = result.directory / FILE
    page = template.render(__package__, "page.html", **_content(result))
    with writing(path):
        path.write_text(page, encoding="utf-8")
    return path


def _content(result: Result) -> dict[str, Any]:
    about, profile = result.about, result.profile
    figures = about["figures"]
    looks = looks_of(profile.classes)
    return {
        "source": "longrope loadtest",
        "title": profile.description or "Load test",
        "facts": _facts(result),
        "verdicts": _verdicts(result),
        "looks": list(looks.values()),
        "columns": [(name, looks.get(name)) for name in figures],
        "groups": tables.summary(figures, profile),
        "failures": tables.failures(result.records),
        "duration": texts.duration,
        "sections": _sections(result),
        "profile": yaml.safe_dump(about["profile"], sort_keys=False, allow_unicode=True),
    }


def _facts(result: Result) -> list[tuple[str, str]]:
    about = result.about
    began = datetime.fromisoformat(about["began_at"])
    return [
        ("model", about["model"]),
        ("server", about["url"]),
        ("began", f"{began:%Y-%m-%d %H:%M:%S} UTC"),
        ("requests sent", f"{texts.count(len(result.records))} of "
                          f"{texts.count(about['planned_requests'])} planned"),
        ("seed", str(about["seed"])),
        ("sha256 of the requests", about["requests_sha256"]),
        ("longrope", about["longrope"]),
    ]  # fmt: skip


def _verdicts(result: Result) -> list[Verdict]:
    about, profile = result.about, result.profile
    figures = about["figures"]
    share = share_within_objectives(figures)
    goal = f"{texts.percent(profile.attainment)} is the goal."
    good = share is not None and share >= profile.attainment
    if share is None:
        verdicts = [Verdict(False, "Nothing to count", "No request after the warm-up was over.")]
    elif any(request_class.slo for request_class in profile.classes.values()):
        text = f"{texts.percent(share)} of the requests met the objectives of their class; {goal}"
        verdicts = [Verdict(good, "Objectives met" if good else "Objectives missed", text)]
    else:
        text = f"{texts.percent(share)} of the requests were answered, their only objective; {goal}"
        verdicts = [Verdict(good, "Answered" if good else "Too few were answered", text)]
    sentences = about["client"]["verdicts"]
    verdicts += [
        Verdict(False, "Not the server's figures alone", sentence) for sentence in sentences
    ]
    lag = about["client"]["send_lag_p99"]
    if not sentences and lag is not None:
        text = f"99 % were sent within {texts.duration(lag)} of due."
        verdicts.append(Verdict(True, "The client kept up", text))
    if (why := early_end(about)) is not None:
        verdicts.append(Verdict(False, "Ended early", why))
    return verdicts


def _sections(result: Result) -> list[Section]:
    by_class = {
        name: [record for record in result.records if record.class_name == name]
        for name in result.profile.classes
    }
    figures, looks = result.about["figures"], looks_of(by_class)
    warm_up = result.profile.warm_up
    shaded = " Shaded: the warm-up, which no figure counts." if warm_up else ""
    names = server.chosen(result.scrapes)
    panels = server.panels(result.scrapes, result.about["began_at_unix"], names[: server.PANELS])
    more = len(names) - server.PANELS
    sections = [
        Section(
            "Distributions",
            latencies.distributions(by_class, looks),
            "The share of requests that took at most so long. Solid: from dispatch.",
        ),
        Section(
            "Over time",
            timelines.timelines(by_class, looks, warm_up),
            f"Each request is at its intended time. Crosses at the top: failures.{shaded}",
        ),
        Section("By length of the prompt", lengths.by_prompt_length(by_class, looks)),
        Section(
            "Conversations",
            conversations.by_turn(by_class, looks),
            "A turn sends the whole history. Where the history crosses a factor set, all of it is "
            "computed again.",
            tables=_present(tables.turns(figures), tables.crossings(figures)),
        ),
        Section(
            "Passkeys",
            lengths.passkeys(figures, looks),
            tables=_present(tables.passkeys(figures)),
        ),
        Section(
            "The server's metrics",
            panels,
            "From its /metrics, once a second, summed over labels; only those that changed."
            + (f" {more} more are in server_metrics.jsonl." if more > 0 else ""),
            by_class=False,
        ),
        Section(
            "The client's own load",
            client.client_pictures(by_class, looks, is_open=result.profile.is_open()),
            facts=client.client_facts(result.about["client"]),
        ),
    ]
    return [section for section in sections if section.pictures or section.facts]


def _present(*several: Table | None) -> list[Table]:
    return [table for table in several if table is not None]
