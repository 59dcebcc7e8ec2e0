import html
import re
import time
from pathlib import Path

import pytest
from longrope_loadtest.profiles.profile import Profile
from longrope_loadtest.report import server, write_report
from longrope_loadtest.report.lengths import wilson
from longrope_loadtest.report.texts import duration, percent
from longrope_loadtest.results.results import Result
from longrope_loadtest.run.scrape import Scrape
from scipy.stats import binomtest

from tests.loadtest import examples
from tests.loadtest.examples import answered, crowd, failed, load_of, result_of, scrapes_of

FEW_SECONDS = 30  # of processor time for 50,000 requests, on a slow machine


def page(result: Result) -> str:
    path = write_report(result)
    assert path == result.directory / "report.html"
    return path.read_text(encoding="utf-8")


def titles(text: str) -> list[str]:
    return re.findall(r"<figcaption>(.*?)</figcaption>", text)


def in_row(text: str, name: str) -> list[list[str]]:
    """The cells of each row of the summary of that name."""
    rows = re.findall(rf'<th scope="row">{re.escape(name)}</th>(.*?)</tr>', text, re.DOTALL)
    return [re.findall(r"<td>(.*?)</td>", row, re.DOTALL) for row in rows]


def test_names_no_outside_address_but_the_server_s(tmp_path: Path) -> None:
    scrapes = scrapes_of(30, vllm__num_requests_running=lambda s: s % 5)
    text = page(result_of(tmp_path, crowd(2000), scrapes=scrapes))
    assert re.findall(r"https?://[^<\"]*", text) == ["http://127.0.0.1:8000"]
    assert "xmlns" not in text
    assert "<script" not in text
    assert "<image" in text  # 2,000 points are one picture within the SVG
    for link in re.findall(r'(?:href|src)="([^"]*)"', text):
        assert link.startswith(("#", "data:image/png;base64,"))
    assert "default-src 'none'" in text


def test_anybody_s_words_are_text(tmp_path: Path) -> None:
    evil = "<script>alert('$x^{')</script>"
    records = [*crowd(5, evil), failed(9, evil, message=f"</table>{evil}", error=f"<b>{evil}")]
    scrapes = [Scrape(examples.BEGAN + s, {evil: float(s)}) for s in range(5)]
    profile = examples.profile_of(evil, description=f"<h1>{evil}")
    text = page(result_of(tmp_path, records, profile, scrapes, model=evil, url=evil))
    assert "<script" not in text
    assert "</table>&lt;script" not in text
    assert text.count(html.escape(evil).replace("&#x27;", "&#39;")) > 8


def test_shows_the_figures(tmp_path: Path) -> None:
    records = [answered(n, ttft=0.1 if n < 50 else 0.3) for n in range(100)]
    records += [failed(100), failed(101, error="stalled", message=None)]
    text = page(result_of(tmp_path, records)).replace("\u00a0", " ")
    assert in_row(text, "complete") == [["100"]]
    assert in_row(text, "failed") == [["2"]]
    assert in_row(text, "TTFT p50") == [["200 ms"], ["201 ms"]]
    assert in_row(text, "TTFT p99") == [["300 ms"], ["301 ms"]]
    assert in_row(text, "TPOT p50") == [["23.3 ms"]]
    assert "The server is full." in text
    assert "<td>stalled</td>" in text.replace(' class="kind"', "")
    assert "98 % of the requests" in text


def test_all_classes_have_a_column_and_one_look(tmp_path: Path) -> None:
    text = page(result_of(tmp_path, [*crowd(20), *crowd(20, "long", slower=9)]))
    assert [len(cells) for cells in in_row(text, "complete")] == [3]
    marks = set(re.findall(r'<span class="mark" style="color: (#\w+)">(.)</span> (\w+)', text))
    assert {name: (color, mark) for color, mark, name in marks} == {
        "chat": ("#1A7FC1", "●"),
        "long": ("#D55E00", "■"),
    }
    assert len(marks) == 2
    assert "#1a7fc1" in text
    assert "#d55e00" in text


def test_verdicts_are_seen(tmp_path: Path) -> None:
    quiet = page(result_of(tmp_path, crowd(5)))
    assert "The client kept up" in quiet
    assert "Ended early" not in quiet
    client = load_of("The client was saturated, really.").as_json()
    loud = page(result_of(tmp_path, crowd(5), interrupted=True, client=client))
    assert "The client was saturated, really." in loud
    assert "The client kept up" not in loud
    assert "Ended early" in loud


def test_objectives(tmp_path: Path) -> None:
    records = [answered(n, ttft=0.1 if n else 9) for n in range(10)]
    profile = examples.profile_of("chat").model_dump(mode="json", exclude_unset=True)
    profile["classes"]["chat"]["slo"] = {"ttft": 1, "tpot": 0.25}
    text = page(result_of(tmp_path, records, Profile.model_validate(profile)))
    text = text.replace("\u00a0", " ")
    assert "Objectives missed" in text
    assert "90 % of the requests met" in text
    assert in_row(text, "objectives") == [["TTFT ≤ 1 s\nTPOT ≤ 250 ms"]]


def test_passkeys_beside_latency(tmp_path: Path) -> None:
    records = [
        answered(n, prompt_tokens=1000 * length, passkey="1", correct=length < 8 or n % 2 == 0)
        for n in range(20)
        for length in (1, 8)
    ]
    text = page(result_of(tmp_path, records)).replace("\u00a0", " ")
    assert "Passkeys right, by length" in titles(text)
    assert in_row(text, "passkeys right") == [["75 % of 40"]]
    cells = re.findall(r'<td class="number">(.*?)</td>', text)
    assert cells == ["1,024", "20", "20", "100 %", "200 ms", "8,192", "20", "10", "50 %", "200 ms"]


@pytest.mark.parametrize(
    ("records", "drawn", "missing"),
    [
        ([], "", "Requests in flight"),
        ([answered(0)], "TTFT of each request", "Passkeys right, by length"),
        ([failed(n) for n in range(3)], "Requests in flight", "TTFT of each request"),
        ([*crowd(3), answered(9, stream=False)], "TTFT of each request", ""),
        ([answered(n, stream=False) for n in range(9)], "E2E of each request", "TTFT"),
        ([answered(n, warm_up=True) for n in range(9)], "TTFT of each request", "distribution"),
        ([answered(n, outcome="cancelled") for n in range(9)], "Requests in flight", "TTFT"),
        ([answered(n, gaps=()) for n in range(9)], "TTFT of each request", "ITL"),
        ([answered(n, gaps=(0.0,) * 5) for n in range(9)], "Time between tokens (ITL)", ""),
        ([answered(0, prompt_tokens=None)], "TTFT by length of the prompt", ""),
        ([answered(0, stream=False, passkey="1", correct=True)], "Passkeys right, by length", ""),
        ([answered(n, ttft=10.0**n) for n in range(-4, 4)], "TTFT of each request", ""),
    ],
)
def test_copes_with_little(tmp_path: Path, records: list, drawn: str, missing: str) -> None:
    for record in records:
        record.planned_prompt_tokens = record.planned_prompt_tokens or 100
    text = page(result_of(tmp_path, records))
    assert drawn in (*titles(text), "")
    if missing:
        assert not any(missing in title for title in titles(text))
    assert "The server's metrics" not in text
    assert "nan" not in re.sub(r"base64,[^\"]*", "", text).lower()


def test_closed_loops_have_no_intended_rate(tmp_path: Path) -> None:
    profile = examples.profile_of("chat", arrivals={"kind": "closed", "users": 2, "requests": 20})
    text = page(result_of(tmp_path, crowd(20), profile))
    assert "Send lag of each request" in titles(text)
    assert "Rate, intended and achieved" not in titles(text)


@pytest.mark.long
def test_the_same_result_makes_the_same_page(tmp_path: Path) -> None:
    result = result_of(tmp_path, crowd(50))
    assert page(result) == page(result)


@pytest.mark.long
def test_fifty_thousand_requests(tmp_path: Path) -> None:
    result = result_of(tmp_path, crowd(50_000))
    began = time.process_time()
    write_report(result)
    assert time.process_time() - began < FEW_SECONDS
    assert (tmp_path / "report.html").stat().st_size < 4 << 20


def test_chooses_the_server_s_metrics_that_changed() -> None:
    scrapes = scrapes_of(
        10,
        other_gauge=lambda s: s,
        other_total=lambda s: s,
        longrope_refusals_total=lambda s: s,
        longrope_requests_in_flight=lambda s: s % 3,
        vllm__generation_tokens_total=lambda s: 10 * s,
        vllm__num_requests_running=lambda s: s % 2,
        vllm__num_requests_waiting=lambda s: 0,
        vllm__time_to_first_token_seconds_sum=lambda s: s,
        process_cpu_seconds_total=lambda s: s,
    )
    assert server.chosen(scrapes) == [
        "vllm:num_requests_running",
        "vllm:generation_tokens_total",
        "longrope_requests_in_flight",
        "longrope_refusals_total",
        "other_gauge",
        "other_total",
    ]


def test_shows_eight_of_the_server_s_metrics_and_says_how_many_more(tmp_path: Path) -> None:
    scrapes = scrapes_of(5, **{f"gauge_{n}": float for n in range(11)})
    text = page(result_of(tmp_path, crowd(5), scrapes=scrapes))
    assert sum(title.startswith("gauge_") for title in titles(text)) == 8
    assert "3 more are in server_metrics.jsonl" in text


def test_rates_of_counters_survive_a_restart_of_the_server() -> None:
    counts = [0, 10, 20, 5, 15]
    scrapes = scrapes_of(5, tokens_total=lambda s: counts[s])
    times, rates = server.series(scrapes, examples.BEGAN, "tokens_total")
    assert times.tolist() == [1, 2, 4]
    assert rates.tolist() == [10, 10, 10]


def test_a_metric_seen_once_has_no_panel(tmp_path: Path) -> None:
    scrapes = [Scrape(examples.BEGAN, {"a_total": 1.0}), Scrape(examples.BEGAN + 1, {"a_total": 2})]
    assert "a_total" not in titles(page(result_of(tmp_path, crowd(5), scrapes=scrapes)))


def test_wilson_s_interval() -> None:
    for correct, asked in ((0, 1), (8, 10), (10, 10), (499, 1000)):
        expected = binomtest(correct, asked).proportion_ci(method="wilson")
        assert wilson(correct, asked) == pytest.approx(expected, abs=1e-4)


def test_texts() -> None:
    texts = [duration(seconds) for seconds in (None, 0.0, 0.00012, 0.0123, 0.9999, 12.345, 1234.5)]
    assert [text.replace("\u00a0", " ") for text in texts] == [
        "\u2013", "0.00 ms", "0.12 ms", "12.3 ms", "1.00 s", "12.3 s", "1,234 s",
    ]  # fmt: skip
    assert [percent(share).replace("\u00a0", " ") for share in (1.0, 0.99999, 0.5)] == [
        "100 %", "> 99.9 %", "50 %",
    ]  # fmt: skip
