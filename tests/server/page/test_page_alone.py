"""The page in Chromium against a stand-in for the server: refusals, restarts and odd input."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.page.browser import Browser
from tests.server.page.person import DROP, INPUT, Person, before_the_page
from tests.server.page.stand_in import StandIn, serving

QUESTION = "What is the capital?"


@pytest.fixture
def server() -> Iterator[StandIn]:
    with serving() as stand_in:
        yield stand_in


@pytest.fixture
def person(server: StandIn, browser: Browser) -> Iterator[Person]:
    """Someone in front of the page, which has learnt what is served."""
    with before_the_page(browser, server.url) as person:
        person.wait_for_text("#model", "tiny, up to 1,000 tokens")
        yield person


def documents(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).write_text(f"The text of {name}.")
    return [folder / name for name in names]


def test_documents_are_read_in_turn_and_wait_for_a_full_server(
    server: StandIn, person: Person, tmp_path: Path
) -> None:
    server.refuse("v1/text", 429, "This API key's quota is 1 request at once.", Retry_After="1")
    server.refuse("v1/text", 503, "As many PDFs as it takes.", Retry_After="1")
    person.drop(*documents(tmp_path, "a.txt", "b.txt", "c.txt"))
    person.wait_for_text("#documents", "This API key's quota is 1 request at once.")
    person.ask(QUESTION)
    assert person.wait_for_end() == "Complete"
    names = ("a.txt", "b.txt", "c.txt")
    texts = "\n\n".join(f"{name}:\n\nThe text of {name}." for name in names)
    assert server.asked == [f"{texts}\n\n{QUESTION}"]
    assert server.at_once == 1


def test_nothing_is_asked_without_a_document_that_was_refused(
    server: StandIn, person: Person, tmp_path: Path
) -> None:
    server.refuse("v1/text", 400, "The file is encrypted.")
    person.drop(*documents(tmp_path, "a.txt", "b.txt"))
    person.ask(QUESTION)
    person.wait_for_text("#refusal", "a.txt could not be read: remove it, or choose another.")
    assert server.asked == []
    person["#documents li:first-child button"].click()
    person.ask(QUESTION)
    assert person.wait_for_end() == "Complete"
    assert server.asked == [f"The text of b.txt.\n\n{QUESTION}"]


def test_documents_that_a_missing_key_refused_are_read_with_the_key(
    server: StandIn, person: Person, tmp_path: Path
) -> None:
    server.refuse("v1/text", 401, "No API key came with the request.")
    person.drop(*documents(tmp_path, "a.txt"))
    person.wait_for_text("#documents", "No API key came with the request.")
    person.give_key("lr-key")
    person.wait_for_text("#documents", "a.txt\n18 characters")
    person.ask(QUESTION)
    assert person.wait_for_end() == "Complete"
    assert server.asked == [f"The text of a.txt.\n\n{QUESTION}"]


def test_a_document_that_the_browser_cannot_read_is_no_silent_server(
    person: Person, tmp_path: Path
) -> None:
    (gone,) = documents(tmp_path, "gone.txt")
    held = person.browser.execute_script(INPUT)
    held.send_keys(str(gone))
    gone.unlink()
    person.browser.execute_script(DROP, held, person["#drop"])
    (tmp_path / "folder").mkdir()
    dragged = {"items": [], "files": [str(tmp_path / "folder")], "dragOperationsMask": 1}
    for what in ("dragEnter", "dragOver", "drop"):
        place = {"type": what, "x": 200, "y": 150, "data": dragged}
        person.browser.execute_cdp_cmd("Input.dispatchDragEvent", place)
    for name in ("gone.txt", "folder"):
        person.wait_for_text("#documents", f"{name}\nThe browser cannot read it: choose a file")


def test_text_can_be_dropped_into_the_question(person: Person) -> None:
    taken = """
        const [type, target] = arguments;
        const dataTransfer = new DataTransfer();
        if (type === "text") dataTransfer.setData("text/plain", "words");
        else dataTransfer.items.add(new File(["words"], "words.txt"));
        return ["dragover", "drop"].map((name) => !target.dispatchEvent(
            new DragEvent(name, {dataTransfer, bubbles: true, cancelable: true})));
    """
    question = person["#question"]
    assert person.browser.execute_script(taken, "text", question) == [False, False]
    assert person.browser.execute_script(taken, "file", question) == [True, True]


def test_a_key_that_http_cannot_carry_is_refused(person: Person) -> None:
    for key in ("lr-\u200bkey", "lr key", "lr-k\u00e9y"):
        person.give_key(key)
        person.wait_for_text("#refusal", "The API key holds a space or a character outside ASCII")
        person.give_key("lr-key")
        person.wait_for(lambda: not person.text("#refusal"))


def test_what_is_served_after_a_restart_is_asked_next(server: StandIn, person: Person) -> None:
    server.model = "other"
    person.ask(QUESTION)
    assert person.wait_for_end() == "Complete"
    assert "other, up to 1,000 tokens" in person.text("#model")
    server.limit = 100
    person.ask(QUESTION * 10)
    person.wait_for_text("#refusal", "in the 100 that the server takes")
    assert "other, up to 100 tokens" in person.text("#model")
    assert len(server.asked) == 1


def test_a_server_that_no_longer_answers_is_not_called_ready(
    server: StandIn, person: Person
) -> None:
    person.wait_for_text("#server-state", "Ready")
    server.hanging.add("metrics")
    person.wait_for_text("#server-state", "The server does not answer")
    server.hanging.clear()
    person.wait_for_text("#server-state", "Ready")


def test_a_server_that_asks_for_a_key_is_not_asked_on_and_on(
    server: StandIn, person: Person
) -> None:
    server.locked = True
    person.wait_for_text("#server-state", "No API key came with the request.")
    before = server.paths.count("metrics")
    time.sleep(5)
    assert server.paths.count("metrics") == before
    person.give_key("lr-key")
    person.wait_for_text("#server-state", "Ready")
    person.wait_for(lambda: server.paths.count("metrics") > before + 2)


def test_a_refusal_goes_with_the_document_that_it_was_about(
    server: StandIn, person: Person, tmp_path: Path
) -> None:
    server.refuse("tokenize", 413, "The body of the request is too large.")
    person.drop(*documents(tmp_path, "a.txt"))
    person.wait_for_text("#refusal", "The body of the request is too large.")
    person["#documents li:first-child button"].click()
    person.wait_for(lambda: not person.text("#refusal"))


def test_an_answer_and_names_are_no_markup(server: StandIn, person: Person, tmp_path: Path) -> None:
    server.model = "<img src=x onerror=alert(1)>"
    name = "<img src=x onerror=alert(1)>.txt"
    server.refuse("v1/text", 400, "<b>no</b>")
    person.browser.refresh()
    person.wait_for_text("#model", server.model)
    person.drop(*documents(tmp_path, name))
    person.wait_for_text("#documents", "<b>no</b>")
    assert name in person.text("#documents")
    assert not person.browser.find_elements("css selector", "img, b b, #documents b")


def test_minutes_have_at_most_59_seconds(person: Person) -> None:
    said = person.browser.execute_async_script(
        "const done = arguments[0]; import('./page/words.js').then(({seconds}) =>"
        " done([0.5, 9.994, 59.4, 59.6, 60, 119.6, 3599.7].map(seconds)))"
    )
    assert said == ["0.50 s", "9.99 s", "59 s", "1 min 0 s", "1 min 0 s", "2 min 0 s", "60 min 0 s"]
