from pathlib import Path

import pytest
from longrope_loadtest import profile as profiles
from longrope_loadtest import shipped
from longrope_loadtest.errors import LoadTestError

WHOLE = """
arrivals: {kind: poisson, rate: 2, duration: 60}
classes:
  chat:
    prompt: {kind: words, tokens: 10}
    output_tokens: 4
"""


def refusal(folder: Path, text: str) -> str:
    path = folder / "bad.yaml"
    path.write_text(text)
    with pytest.raises(LoadTestError) as error:
        profiles.load(path)
    sentence = str(error.value)
    assert str(path) in sentence
    assert "\n" not in sentence
    return sentence


# A change of WHOLE, and what the sentence says of it.
WRONG = [
    ("rate: 2", "rate: 0", "arrivals.poisson.rate: Input should be greater than 0, not 0"),
    ("rate: 2", "rate: fast", "arrivals.poisson.rate: "),
    (", duration: 60", "", "arrivals.poisson: say when it ends: duration (seconds)"),
    ("kind: poisson", "kind: posson", "arrivals: Input tag 'posson'"),
    ("tokens: 10", "tokens: -1", "classes.chat.prompt.words.tokens.constant.value: "),
    ("tokens: 10", "words: 10", "classes.chat.prompt.words.tokens: Field required"),
    ("kind: words", "kind: prose", "classes.chat.prompt: Input tag 'prose'"),
    ("kind: words", "kind: token_ids", "token_ids needs api: completions"),
    ("    output_tokens: 4", "", "classes.chat.output_tokens: Field required"),
    ("output_tokens: 4", "output_tokens: 4\n    slo: {ttfb: 1}", "classes.chat.slo.ttfb: Extra"),
    ("output_tokens: 4", "output_tokens: 4\n    slo: {ttft: 0}", "classes.chat.slo.ttft: "),
    ("output_tokens: 4", "output_tokens: 4\n    api: chats", "classes.chat.api: "),
    (
        "tokens: 10",
        "tokens: 10, shared_prefix: {tokens: 5, hit_rate: 90}",
        "hit_rate: Input should be less than or equal to 1, not 90",
    ),
    ("arrivals: {kind: poisson, rate: 2, duration: 60}", "", "class chat has no arrivals"),
    ("classes:", "attainment: 99\nclasses:", "attainment: Input should be less than or equal"),
    ("classes:", "seed: -1\nclasses:", "seed: Input should be greater than or equal to 0, not -1"),
    (
        "output_tokens: 4",
        "output_tokens: 4\n    stream: false\n    slo: {e2e: 1, ttft: 1}",
        "slo.ttft needs stream: true",
    ),
    ("  chat:", "  all:", "a class may not be named all"),
    ("classes:", "class:", "classes: Field required (and 1 more)"),
]


@pytest.mark.parametrize(("old", "new", "says"), WRONG)
def test_a_wrong_field_is_named(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in WHOLE
    assert says in refusal(tmp_path, WHOLE.replace(old, new))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", "is not YAML"),
        ("", "must have fields"),
        ("- a\n- b", "must have fields"),
        ("classes: {}", "classes: Dictionary should have at least 1 item"),
    ],
)
def test_a_file_that_is_no_profile_is_named(tmp_path: Path, text: str, says: str) -> None:
    assert says in refusal(tmp_path, text)


def test_arrivals_that_no_class_uses_are_refused(tmp_path: Path) -> None:
    own = WHOLE + "    arrivals: {kind: constant, rate: 1, requests: 1}\n"
    assert "would be unused" in refusal(tmp_path, own)


def test_a_profile_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(LoadTestError, match=r"no file chta, .*: chat, documents, mixed") as error:
        shipped.find("chta")
    assert "\n" not in str(error.value)


def test_a_profile_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"description: \xff")
    with pytest.raises(LoadTestError, match=r"latin\.yaml cannot be read"):
        profiles.load(path)


def test_defaults(tmp_path: Path) -> None:
    path = tmp_path / "whole.yaml"
    path.write_text(WHOLE)
    loaded = profiles.load(path)
    assert (loaded.seed, loaded.warm_up, loaded.retries, loaded.attainment) == (0, 0, 0, 0.99)
    chat = loaded.classes["chat"]
    assert (chat.api, chat.stream, chat.stall, chat.timeout) == ("chat", True, 600, 3600)


def test_a_file_is_preferred_to_a_profile_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert shipped.find("chat").name == "chat.yaml"
    Path("chat").write_text(WHOLE)
    assert shipped.find("chat") == Path("chat")
