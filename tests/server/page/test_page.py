"""The page in Chromium against `longrope serve` of the embedded model."""

import pydoc_data.topics
from pathlib import Path
from typing import Any

import httpx
import pytest
from selenium.webdriver.common.keys import Keys

from tests.server.documents.pdfs import encrypted, pdf
from tests.server.page.conftest import BEHIND, KEY
from tests.server.page.person import Person
from tests.serving import Server

MANUAL = "\n\n".join(pydoc_data.topics.topics.values())
HEADERS = {"Authorization": f"Bearer {KEY}"}
MODEL = "smollm2-135m"
QUESTION = "What is the code of the locker in the hall?"
NOTE = "The code of the locker in the hall is 48213."
FIRST = 8_192


def post(server: Server, path: str, **body: Any) -> Any:
    answer = httpx.post(
        f"{server.url}/{path}", json={"model": MODEL, **body}, headers=HEADERS, timeout=500
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def said(server: Server, content: str) -> str:
    """What the model answers without the page."""
    messages = [{"role": "user", "content": content}]
    answer = post(server, "v1/chat/completions", messages=messages, temperature=0, max_tokens=40)
    return str(answer["choices"][0]["message"]["content"])


def test_the_page_needs_no_key_and_asks_nothing_of_others(server: Server) -> None:
    page = httpx.get(f"{server.url}/")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "://" not in page.text

    without_slash = httpx.get(server.url)
    assert without_slash.is_redirect
    assert without_slash.headers["location"].endswith(f"{BEHIND}/")

    for path in ("page/none.js", "v1/text", "metrics"):
        assert httpx.get(f"{server.url}/{path}").status_code == 401
    assert httpx.get(f"{server.url}/page/none.js", headers=HEADERS).status_code == 404


def test_a_wrong_key_is_refused_and_the_right_one_kept_for_the_session(stranger: Person) -> None:
    stranger.wait_for_text("#refusal", "No API key came with the request")
    stranger.give_key("wrong")
    for place in ("#refusal", "#server-state"):
        stranger.wait_for_text(place, "The API key that came with the request is not known here.")
    stranger.give_key(KEY)
    stranger.wait_for_text("#model", "smollm2-135m, up to 32,768 tokens")
    assert stranger.text("#refusal") == ""
    stranger.browser.refresh()
    stranger.wait_for_text("#model", "smollm2-135m, up to 32,768 tokens")
    kept = stranger.browser.execute_script("return [localStorage.length, document.cookie]")
    assert kept == [0, ""]


def test_two_dropped_documents_are_asked(server: Server, person: Person, tmp_path: Path) -> None:
    note, minutes = tmp_path / "note.txt", tmp_path / "minutes.pdf"
    note.write_text(f"{MANUAL[:1500]}\n\n{NOTE}\n\n{MANUAL[1500:2500]}\n")
    minutes.write_bytes(pdf("The meeting is on Tuesday.", "The budget was approved."))
    person.drop(note, minutes)
    person.wait_for_text("#documents", "note.txt\n2,5")
    person.wait_for_text("#documents", "minutes.pdf\n52 characters")
    person.wait_for_text("#ruler", "tokens: a prompt for the factor set of 8,192")

    person.settle("#temperature", "0")
    person.settle("#max-tokens", "40")
    person.ask(QUESTION)
    parts = person.wait_for(lambda: person.text(".answer"))
    assert person.wait_for_end() in ("Complete", "Cut at the longest answer")
    read = "The meeting is on Tuesday.\n\nThe budget was approved."
    documents = f"note.txt:\n\n{note.read_text()}\n\nminutes.pdf:\n\n{read}"
    answer = said(server, f"{documents}\n\n{QUESTION}")
    assert person["div.answer"].get_property("textContent") == answer
    assert answer.startswith(parts)
    assert len(parts) < len(answer)
    assert person.text(".facts").startswith("Factor set\n8,192\nPrompt\n")


def test_an_answer_is_text_and_never_markup(person: Person) -> None:
    person.settle("#temperature", "0")
    person.settle("#max-tokens", "20")
    person.ask("Repeat exactly: <b>bold</b>")
    person.wait_for_end()
    assert "<" in person.text(".answer")
    assert not person.browser.find_elements("css selector", ".answer *")


def test_it_works_by_keyboard_alone(person: Person, tmp_path: Path) -> None:
    person.browser.refresh()
    person.wait_for_text("#model", MODEL)
    order = []
    while "ask" not in order:
        person.press(Keys.TAB)
        order.append(person.focused)
    assert order == ["a", "files", "question", "summary", "ask"]
    for _ in range(2):
        person.press(Keys.TAB, holding=Keys.SHIFT)
    assert person.focused == "question"
    person.press("Name three colours.")
    person.press(Keys.TAB)
    person.press(Keys.ENTER)
    assert person["#settings"].get_attribute("open")
    person.press(Keys.TAB)
    assert person.focused == "max-tokens"
    person.press("a", holding=Keys.CONTROL)
    person.press("300")
    person.press(Keys.ENTER)
    person.wait_for(lambda: person.text(".answer"))
    while person.focused != "cancel":
        person.press(Keys.TAB)
    person.press(Keys.ENTER)
    assert person.wait_for_end() == "Cancelled"
    assert person.focused == "ask"
    person["#question"].click()
    person.press(Keys.ENTER, holding=Keys.CONTROL)
    person.wait_for(lambda: len(person.browser.find_elements("css selector", ".exchange")) == 2)
    person["#cancel"].click()
    person.wait_for_end()


def test_cancelling_ends_the_request_at_the_server(server: Server, person: Person) -> None:
    def cancelled() -> float:
        metrics = httpx.get(f"{server.url}/metrics", headers=HEADERS).text.splitlines()
        return sum(
            float(line.split()[-1])
            for line in metrics
            if line.startswith("longrope_requests_total") and 'finish_reason="cancelled"' in line
        )

    before = cancelled()
    person.settle("#max-tokens", "8000")
    person.ask("Write a long story about a lighthouse.")
    person.wait_for(lambda: person.text(".answer"))
    person["#cancel"].click()
    assert person.wait_for_end() == "Cancelled"
    person.wait_for(lambda: cancelled() == before + 1)


def test_what_cannot_be_read_or_does_not_fit_is_said_in_a_sentence(
    person: Person, tmp_path: Path
) -> None:
    picture, locked, long = (tmp_path / name for name in ("a.png", "locked.pdf", "long.txt"))
    picture.write_bytes(b"\x89PNG\r\n")
    locked.write_bytes(encrypted(pdf("Secret."), "password", "AES-256"))
    long.write_text(MANUAL)
    person.choose(picture, locked)
    person.wait_for_text("#documents", "The file is not UTF-8 text (byte 0x89 at offset 0)")
    person.wait_for_text("#documents", "The file is encrypted: give a copy without a password.")
    person["#documents li:first-child button"].click()
    assert "a.png" not in person.text("#documents")
    person.ask(QUESTION)
    person.wait_for_text("#refusal", "locked.pdf could not be read: remove it, or choose another.")
    person["#documents li:first-child button"].click()

    person.choose(long)
    person.wait_for_text("#ruler", "tokens: 32,768 fit")
    person.ask(QUESTION)
    person.wait_for_text("#refusal", "The documents and the question have 11")
    person.wait_for_text(
        "#refusal", "in the 32,768 that the server takes: ask about a part of them"
    )
    assert not person.browser.find_elements("css selector", ".exchange")

    person["#question"].clear()
    person["#ask"].click()
    person.wait_for_text("#refusal", "Ask something: the question is empty.")
    assert person.focused == "question"


def test_a_narrow_screen_never_scrolls_sideways(person: Person, tmp_path: Path) -> None:
    document = tmp_path / f"{'long-name-' * 8}.txt"
    document.write_text("word" * 300)
    person.browser.size(400, 800)
    person.choose(document)
    person.wait_for_text("#ruler", "tokens")
    person.settle("#max-tokens", "20")
    person.ask(f"What is this? {'x' * 200}")
    person.wait_for_end()
    person.wait_for_text("#classes", "8,192")
    assert not person.scrolls_sideways
    person.browser.size(320, 800)
    assert not person.scrolls_sideways


@pytest.mark.timeout(900)
@pytest.mark.slow
def test_an_answer_that_outgrows_its_set_is_shown_as_promoted(
    server: Server, person: Person, tmp_path: Path
) -> None:
    question = "What is this manual about? Answer in three sentences."
    document = tmp_path / "manual.txt"
    text, tokens = _just_below(server, FIRST, question)
    document.write_text(text)
    person.choose(document)
    person.wait_for_text("#ruler", "a prompt for the factor set of 8,192")
    person.settle("#temperature", "0")
    person.settle("#max-tokens", "12")
    person.ask(question)

    person.wait_for_text(".stage", "Reading the prompt")
    person.wait_for_text(".stage", f" of {tokens:,} tokens")
    person.wait_for(lambda: person["progress"].is_displayed())
    person.wait_for_text("#charts", f"{tokens:,}")  # tokens in flight
    person.wait_for_text("#classes", f"8,192 1 0 {tokens:,}")
    person.wait_for_text(".stage", "is computed again under that of 32,768", 400)
    before = person.text(".answer")

    assert person.wait_for_end() in ("Complete", "Cut at the longest answer")
    assert person.text(".answer").startswith(before)
    assert person.text(".facts").startswith(
        f"Factor set\n8,192 promoted to 32,768\nPrompt\n{tokens:,} tokens\n"
    )
    person.wait_for_text("#sets", "Promotions: 1 from 8,192 to 32,768")
    assert "8,192, 32,768" in str(person[".exchange .ruler"].get_attribute("aria-label"))


def _just_below(server: Server, limit: int, question: str) -> tuple[str, int]:
    """The beginning of the manual that makes the longest prompt of less than `limit` tokens."""

    def length(characters: int) -> int:
        messages = [{"role": "user", "content": f"{MANUAL[:characters]}\n\n{question}"}]
        return int(post(server, "tokenize", messages=messages)["count"])

    low, high = 20_000, 50_000
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if length(middle) < limit else (low, middle)
    return MANUAL[:low], length(low)
