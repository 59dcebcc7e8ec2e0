"""The examples that ask a server, as a user runs them.

They come after test_readme.py, whose document the server's prefix cache then has.
"""

import pydoc_data.topics
import re
from pathlib import Path

from tests.examples.running import EXAMPLES, run
from tests.server.test_readme import LESS, QUESTION, document
from tests.serving import Server

NOTE = "\n\nThe code of the locker in the hall is 48213."


def saved(folder: Path, text: str) -> Path:
    file = folder / "document.txt"
    file.write_text(text)
    return file


def test_a_chat_is_served_by_the_set_of_its_document(
    embedded_server: Server, tmp_path: Path
) -> None:
    typed = f"{QUESTION}\nThank you.\n"
    printed = run(
        "chat.py", saved(tmp_path, document(LESS)), typed=typed, LONGROPE_URL=embedded_server.url
    )
    turns = re.findall(r"(.*)\n\[(\d+) tokens, set 32768\]\n", printed)
    (first, length), (_, longer) = turns
    assert first == "48213"
    assert 8_192 < int(length) < int(longer) < int(length) + 50


def test_the_progress_of_a_prefill_is_shown(embedded_server: Server, tmp_path: Path) -> None:
    text = pydoc_data.topics.topics["comparisons"][:9_000] + NOTE
    printed = run(
        "prefill_progress.py", saved(tmp_path, text), QUESTION, LONGROPE_URL=embedded_server.url
    )
    assert printed.startswith("factor set 8192\n")
    progress = re.findall(r"^(\d+) of (\d+) tokens$", printed, re.MULTILINE)
    assert progress, printed
    assert all(int(computed) < int(total) for computed, total in progress), printed
    answer = printed.split(" tokens\n")[-1]
    assert answer.strip()


def test_langchain_asks_about_a_document(embedded_server: Server, tmp_path: Path) -> None:
    file = saved(tmp_path, pydoc_data.topics.topics["integers"] + NOTE + " {not a variable}")
    printed = run("langchain_question.py", file, QUESTION, LONGROPE_URL=embedded_server.url)
    assert "48213" in printed
    assert re.search(r"^\[\d+ tokens, set 8192\]$", printed, re.MULTILINE)


def test_a_profile_is_run_and_its_figures_are_read(embedded_server: Server, tmp_path: Path) -> None:
    profile = tmp_path / "profile.yaml"
    example_profile = (EXAMPLES / "load_test.yaml").read_text()
    # How fast this machine is must not matter.
    quicker = example_profile.replace("rate: 1,", "rate: 4,")
    profile.write_text(quicker.replace("attainment: 0.9", "attainment: 0"))
    printed = run("load_test.py", profile, tmp_path / "result", LONGROPE_URL=embedded_server.url)
    complete = dict(re.findall(r"^(\w+): (\d+) complete", printed, re.MULTILINE))
    assert complete.keys() == {"chat", "needle", "all"}
    assert complete["all"] == "8"
    assert int(complete["needle"]) > 0
    assert re.search(r"^  passkeys: \d+ of \d+ right$", printed, re.MULTILINE)
    assert "  set 8192: 8 requests" in printed
