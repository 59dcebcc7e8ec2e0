"""One page of all kinds of results, and what it says of them."""

import json
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from longrope_factors.cli import app
from longrope_factors.evaluating import results
from longrope_factors.evaluating.evaluation import Evaluation
from longrope_factors.evaluating.passkey import Retrieval
from longrope_factors.evaluating.report import sections, short_tasks
from longrope_factors.evaluating.report.commands import commands
from longrope_factors.evaluating.report.measured import read, told_apart
from longrope_factors.evaluating.results import Result
from longrope_factors.evaluating.retrieval.results import Asking
from typer.testing import CliRunner

from tests.factors.test_evaluation import measured
from tests.factors.test_retrieval_scores import asking

NOTHING, HALF, ALL = [False] * 4, [True, True, False, False], [True] * 4


def found(length: int, method: str, depth: float, key_found: bool) -> Retrieval:
    fields = set(Result.model_fields)
    common = measured("original", length, 1.0).model_dump(include=fields)
    return Retrieval(
        **{**common, "method": method},
        tokens=length - 5,
        depth=depth,
        trial=0,
        seed=0,
        pass_key=12345,
        found=key_found,
        answer_loss=1.5,
    )


def written(path: Path, *some: Result) -> Path:
    for result in some:
        results.append(path, result)
    return path


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """One file of each kind; the last method is a factor file called with a tag."""
    retrieval = [
        asking(length, task, given, method)
        for method, of_long in (("original", NOTHING), ("<b>new</b>.json", ALL))
        for length, given in ((4096, ALL), (16384, of_long))
        for task in ("lines", "multi_key")
    ]
    retrieval.append(asking(32768, "lines", HALF, "<b>new</b>.json"))
    return [
        written(tmp_path / "r.jsonl", *retrieval),
        written(
            tmp_path / "p.jsonl",
            *(measured("original", length, 20.0 + length / 1000) for length in (8192, 16384)),
            measured("pi", 8192, 28.192, "a"),
        ),
        written(
            tmp_path / "k.jsonl", found(512, "original", 0, True), found(512, "original", 1, False)
        ),
    ]


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, ["evaluate", "report", *map(str, arguments)])


class Page(HTMLParser):
    """Text of a page, and every address and tag in it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text = ""
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += f"{data}\n"


@pytest.mark.long
def test_a_page(files: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "pages" / "model.html"
    result = run(*files, "-o", output)
    assert result.exit_code == 0, result.output
    content = output.read_text()
    page = Page(content)
    assert page.tags.count("img") == 3
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert not re.search(r"https?://|url\(|@import|<script|<link", content)
    assert "b" not in page.tags, "names are text"
    for words in (
        "effective length 16,384 tokens of 16,384 tried",
        "effective length 4,096 tokens of 16,384 tried",
        "36.38 (36.38)",
        "1 of 2 (1.50)",
        "100% [51 to 100] (0.75)",
        "50% [15 to 85] (0.75)",
        "Short texts and tasks",
    ):
        assert words in page.text, words
    assert output.read_bytes() == again(files, tmp_path), "the same results give the same page"


def again(files: list[Path], tmp_path: Path) -> bytes:
    run(*files, "-o", tmp_path / "again.html")
    return (tmp_path / "again.html").read_bytes()


def lm_eval(path: Path, accuracy: float, **more: Any) -> Path:
    """What lm-eval writes, cut down."""
    task = {
        "alias": "arc_easy",
        "acc,none": accuracy,
        "acc_stderr,none": 0.003,
        "exact_match,strict": 0.25,
        "exact_match_stderr,strict": "N/A",
        "sample_len": 100,
    }
    path.write_text(json.dumps({"results": {"arc_easy": task, **more}, "versions": {}}))
    return path


def test_short_tasks(files: list[Path], tmp_path: Path) -> None:
    before = lm_eval(tmp_path / "before.json", 0.61, gone={"acc,none": 1.0})
    after = lm_eval(tmp_path / "after.json", 0.6)
    output = tmp_path / "page.html"
    result = run(*files, "-o", output, "--lm-eval", before, after)
    assert result.exit_code == 0, result.output
    page = Page(output.read_text())
    for words in (
        "arc_easy, acc",
        "0.6100 ± 0.0030",
        "-0.0100 ± 0.0042",
        "+0.0000 ± 0.0000",
        "+0.00%",  # perplexity of pi at 8,192
        "+0 points",
        "the same weights and rotation",
    ):
        assert words in page.text, words
    assert "gone" not in page.text
    assert "sample_len" not in page.text


def test_changes_are_those_of_the_texts_and_tasks_that_both_have() -> None:
    def row(method: str, text: str, perplexity: float) -> Evaluation:
        named = measured(method, 8192, perplexity)
        return named.model_copy(update={"corpus": text, "corpus_sha256": text * 64})

    told = told_apart(
        [row("pi", "a", 10.0), row("pi", "b", 40.0), row("ntk", "b", 44.0), row("yarn", "c", 9.0)]
    )
    table = short_tasks._perplexity(told)
    assert table is not None
    assert [cells[1:3] for cells in table.rows] == [
        ("20.00", "+0.00%"),
        ("44.00", "+10.00%"),
        ("9.00", ""),
    ]
    asked = [asking(8192, "lines", ALL, "pi"), asking(8192, "key_value", NOTHING, "pi")]
    table = short_tasks._retrieval(told_apart([*asked, asking(8192, "key_value", ALL, "ntk")]))
    assert table is not None
    assert [cells[1:3] for cells in table.rows] == [("50%", "+0 points"), ("100%", "+100 points")]


def test_unlike_results_are_told_apart() -> None:
    one = measured("pi", 8192, 20.0)
    changes: list[tuple[dict[str, Any], str]] = [
        ({"dtype": "float32"}, "pi (float32)"),
        ({"weights_sha256": "1" * 64}, "pi (weights 11111111)"),
        ({"weights_sha256": "1" * 64, "model": "tuned"}, "pi (tuned)"),
        ({"window": 512, "stride": 256}, "pi (window 512, stride 256)"),
        ({"method": "ntk"}, "ntk"),
        ({"device": "cuda"}, "pi"),
    ]
    for change, name in changes:
        other = one.model_copy(update=change)
        assert told_apart([one, other]).methods[-1] == name
    forms = [asking(8192, "lines", ALL), asking(8192, "lines", ALL)]
    forms[1] = forms[1].model_copy(update={"form": "chat"})
    assert told_apart([one, forms[0]]).methods == ["pi", "ntk"]
    assert told_apart(forms).methods == ["ntk (plain form)", "ntk (chat form)"]


def test_files_of_one_name_are_told_apart() -> None:
    short = asking(4096, "lines", ALL, "factors.json")
    long = [
        asking(16384, "lines", given, "factors.json").model_copy(update={"fingerprint": sign * 16})
        for given, sign in ((ALL, "a"), (NOTHING, "b"))
    ]
    measured = told_apart([short, *long])
    assert measured.methods == [
        "factors.json",
        "factors.json (set aaaaaaaa)",
        "factors.json (set bbbbbbbb)",
    ]
    sentences = dict(sections.effective(measured.of(Asking), measured.methods))
    assert "not every task was measured at 4,096" in sentences["factors.json (set aaaaaaaa)"]


def test_fillers_are_told_apart() -> None:
    noise = [asking(4096, task, ALL) for task in ("lines", "key_value")]
    book = noise[1].model_copy(update={"filler_sha256": "c" * 64})
    assert told_apart([noise[0], book]).methods == ["ntk"], "one run: lines have no filler"
    assert told_apart([*noise, book]).methods == ["ntk", "ntk (books cccccccc)"]


def test_what_is_given_twice_counts_once() -> None:
    one = asking(4096, "lines", ALL)
    assert told_apart([one, one]).results == told_apart([one]).results


def test_commands(files: list[Path]) -> None:
    lines = [shlex.split(line) for line in commands(read(files))]
    by_kind = {line[3]: line for line in lines}
    assert list(by_kind) == ["perplexity", "passkey", "retrieval"]
    for line in lines:
        assert line[:3] == ["longrope", "factors", "evaluate"]
        # Each option is one of the command's.
        shown = CliRunner().invoke(app, ["evaluate", line[3], "--help"], terminal_width=200).stdout
        for word in line:
            assert not word.startswith("-") or re.search(rf"\s{word}[ ,]", shown), word
    retrieval = by_kind["retrieval"]
    assert retrieval[retrieval.index("--factors") + 1] == "<b>new</b>.json"
    assert [retrieval[at + 1] for at, word in enumerate(retrieval) if word == "--task"] == [
        "lines",
        "multi_key",
    ]
    assert retrieval[retrieval.index("--documents") + 1] == "1"
    assert by_kind["perplexity"].count("--length") == 2
    assert by_kind["passkey"].count("--depth") == 2


def test_a_command_for_each_run() -> None:
    sliding = measured("pi", 8192, 20.0).model_copy(update={"window": 512, "stride": 256})
    single = asking(8192, "single_key", [True]).model_copy(update={"facts": 5, "document": 14})
    runs = [measured("pi", 8192, 20.0), sliding, single.model_copy(update={"seed": 1}), single]
    whole, windows, first, second = commands(runs)
    assert "--window" not in whole
    assert "--window 512 --stride 256" in windows
    assert "--seed 1" in first
    assert "--documents 3" in second


@pytest.mark.long
def test_refusals(files: list[Path], tmp_path: Path) -> None:
    empty, other, broken = (tmp_path / name for name in ("e.jsonl", "o.json", "b.jsonl"))
    empty.write_text("")
    other.write_text('{"results": {}}\n')
    broken.write_text(files[0].read_text() + '{"task": 3}\n')
    evaluation = lm_eval(tmp_path / "lm.json", 0.5)
    unlike = tmp_path / "unlike.json"
    unlike.write_text('{"results": {"mmlu": {"acc,none": 0.5}}}')
    output = tmp_path / "page.html"
    for arguments, words in (
        ([empty], "e.jsonl: has no results"),
        ([tmp_path / "absent.jsonl"], "absent.jsonl: has no results"),
        ([other], "o.json: is not a results file of"),
        ([broken], "line 10 is not one of this version's Asking"),
        ([*files, "--lm-eval", other, evaluation], "o.json: is not a results file of lm-eval"),
        ([*files, "--lm-eval", evaluation, unlike], "unlike.json: has no task of"),
    ):
        result = run(*arguments, "-o", output)
        assert result.exit_code == 2, words
        assert result.stderr.count("\n") == 1
        assert words in result.stderr
        assert not output.exists()
    assert run(*files, "-o", files[0] / "page.html").exit_code == 2
