from pathlib import Path

import pytest
from longrope_loadtest.errors import UsageError
from longrope_loadtest.profiles import profile as profiles
from longrope_loadtest.profiles import shipped
from longrope_loadtest.profiles.arrivals import Poisson

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
    with pytest.raises(UsageError) as error:
        profiles.load(path)
    sentence = str(error.value)
    assert str(path) in sentence
    assert "\n" not in sentence
    return sentence


CONVERSATION = "{kind: conversation, tokens: 9, growth: 9, turns: 2"
# A change of WHOLE, and what the sentence says of it.
WRONG = [
    ("rate: 2", "rate: 0", "arrivals.poisson.rate: Input should be greater than 0, not 0"),
    ("rate: 2", "rate: fast", "arrivals.poisson.rate: "),
    ("rate: 2", "rate: 1_5", "arrivals.poisson.rate: Input should be a valid number, not '1_5'"),
    ("rate: 2", "rate: '2'", "arrivals.poisson.rate: Input should be a valid number, not '2'"),
    ("rate: 2", "rate: \uff12", "arrivals.poisson.rate: Input should be a valid number"),
    ("rate: 2", "rate: .inf", "arrivals.poisson.rate: Input should be a finite number"),
    ("rate: 2", "rate: .nan", "arrivals.poisson.rate: "),
    ("rate: 2", "rate: true", "arrivals.poisson.rate: Input should be a valid number"),
    ("duration: 60", "duration: 1:00", "arrivals.poisson.duration: Input should be a valid number"),
    ("duration: 60", "requests: 1.5", "arrivals.poisson.requests: "),
    ("tokens: 10", "tokens: 1_0", "classes.chat.prompt.words.tokens: "),
    ("tokens: 10", "tokens: {kind: choice, values: [1, '2']}", "tokens.choice.values.1: "),
    (", duration: 60", "", "arrivals.poisson: say when it ends: duration (seconds)"),
    ("kind: poisson", "kind: posson", "arrivals: Input tag 'posson'"),
    ("tokens: 10", "tokens: -1", "classes.chat.prompt.words.tokens.constant.value: "),
    ("tokens: 10", "words: 10", "classes.chat.prompt.words.tokens: Field required"),
    ("kind: words", "kind: prose", "classes.chat.prompt: Input tag 'prose'"),
    ("kind: words", "kind: token_ids", "token_ids needs api: completions"),
    ("    output_tokens: 4", "", "classes.chat: output_tokens is missing"),
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
    (
        "output_tokens: 4",
        "output_tokens: 4\n    extra: {stream: false}",
        "classes.chat: extra has stream: set the class's own stream instead",
    ),
    (
        "output_tokens: 4",
        "output_tokens: 4\n    weight: 2\n    arrivals: {kind: constant, rate: 1, requests: 1}",
        "classes.chat: weight shares out the profile's arrivals, and this class has arrivals of "
        "its own: leave out one of them",
    ),
    (
        "kind: poisson, rate: 2, duration: 60",
        "kind: closed, users: 3, requests: 2",
        "arrivals.closed: users (3) above requests (2) send nothing",
    ),
    *(
        (
            "output_tokens: 4",
            f"output_tokens: 4\n    extra: {{{name}: 5}}",
            f"class's own {own} ins",
        )
        for name, own in (
            ("messages", "prompt"),
            ("prompt", "prompt"),
            ("max_tokens", "output_tokens"),
            ("max_completion_tokens", "output_tokens"),
        )
    ),
    *(
        ("output_tokens: 4", f"output_tokens: 4\n    extra: {{a: {value}}}", "what JSON can say: ")
        for value in (".nan", "2026-01-01", "!!set {b}", "!!binary aGk=")
    ),
    (
        "rate: 2",
        "rate: 1e9",
        "arrivals.poisson.rate: Input should be less than or equal to 1000000",
    ),
    (
        "rate: 2",
        "rate: 1e8",
        "100,000,000 a second for 60 s would be 6,000,000,000 requests; a run has",
    ),
    ("duration: 60", "duration: 1e9", "arrivals.poisson.duration: Input should be less than"),
    (
        "duration: 60",
        "duration: 1e8",
        "would be 200,000,000 requests; a run has at most 10,000,000",
    ),
    (
        "duration: 60",
        "requests: 10000001",
        "requests: Input should be less than or equal to 10000000",
    ),
    (
        "poisson, rate: 2",
        "ramp, rate_from: 0, rate_to: 1e6",
        "500,000 a second for 60 s would be 30,000,000 requests; a run has at most 10,000,000",
    ),
    ("poisson,", "gamma, burstiness: 1e-300,", "burstiness: Input should be greater than or equal"),
    (
        "poisson, rate: 2, duration: 60",
        "closed, users: 1e9, requests: 9",
        "arrivals.closed.users: ",
    ),
    (
        "poisson, rate: 2, duration: 60",
        "closed, users: 100001, requests: 10000000",
        "arrivals.closed.users: Input should be less than or equal to 100000, not 100001",
    ),
    (
        "poisson, rate: 2, duration: 60",
        "trace, path: a, block_tokens: 1000000",
        "arrivals.trace.block_tokens: Input should be less than or equal to 65536",
    ),
    ("tokens: 10", "tokens: 1e9", "tokens.constant.value: Input should be less than or equal to"),
    (
        "tokens: 10",
        "tokens: {kind: lognormal, median: 9, sigma: 1000}",
        "tokens.lognormal.sigma: Input should be less than or equal to 10, not 1000",
    ),
    (
        "tokens: 10",
        "tokens: {kind: choice, values: [1, 2], weights: [1e308, 1e308]}",
        "tokens.choice.weights.0: Input should be less than or equal to 100000000",
    ),
    ("tokens: 10", "tokens: 10, shared_prefix: {tokens: 1000000000, hit_rate: 1}", "tokens: Input"),
    *(
        (
            "output_tokens: 4",
            f"output_tokens: 4\n    {field}: 1e300",
            f"classes.chat.{field}: Input",
        )
        for field in ("weight", "timeout", "stall")
    ),
    ("classes:", "warm_up: 1e300\nclasses:", "warm_up: Input should be less than or equal to"),
    ("classes:", f"seed: {2**63}\nclasses:", "seed: Input should be less than or equal to"),
    ("  chat:", "  all:", "a class may not be named all"),
    ("classes:", "class:", "classes: Field required (and 1 more)"),
    (
        "{kind: words, tokens: 10}",
        CONVERSATION + "}\n    api: completions",
        "a conversation needs api: chat",
    ),
    ("{kind: words, tokens: 10}", "{kind: file, path: a, think: 1}", "think needs by_turn: true"),
    ("{kind: words, tokens: 10}", CONVERSATION + ", history: all}", "conversation.history: Input"),
]


@pytest.mark.parametrize(("old", "new", "says"), WRONG)
def test_a_wrong_field_is_named(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in WHOLE
    assert says in refusal(tmp_path, WHOLE.replace(old, new))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", "is not YAML"),
        ("a: " + "[" * 1000, "is nested too deeply"),
        ("a: " + "1" * 5000, "is not YAML"),
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


def test_conversations_do_not_follow_a_trace(tmp_path: Path) -> None:
    text = WHOLE.replace("{kind: words, tokens: 10}", CONVERSATION + "}")
    text = text.replace("{kind: poisson, rate: 2, duration: 60}", "{kind: trace, path: a}")
    says = "class chat has conversations, but a trace has the lengths of single requests"
    assert says in refusal(tmp_path, text)


def test_a_profile_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(
        UsageError, match=r"no file chta, .*: agent, chat, documents, mixed"
    ) as error:
        shipped.find("chta")
    assert "\n" not in str(error.value)


def test_a_profile_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"description: \xff")
    with pytest.raises(UsageError, match=r"latin\.yaml cannot be read"):
        profiles.load(path)


@pytest.mark.parametrize(
    ("written", "rate"),
    [("1e1", 10.0), ("1.5e3", 1500.0), ("010", 10.0), ("0x10", 16.0), ("0o17", 15.0), ("+5", 5.0),
     (".5", 0.5), ("2.", 2.0)],
)  # fmt: skip
def test_numbers_are_yamls(tmp_path: Path, written: str, rate: float) -> None:
    """Of YAML 1.2, which are also JSON's: PyYAML's own are of YAML 1.1."""
    path = tmp_path / "whole.yaml"
    path.write_text(WHOLE.replace("rate: 2", f"rate: {written}"))
    loaded = profiles.load(path)
    assert isinstance(loaded.arrivals, Poisson)
    assert loaded.arrivals.rate == rate


def test_numbers_that_go_to_the_server_are_yamls(tmp_path: Path) -> None:
    path = tmp_path / "whole.yaml"
    path.write_text(WHOLE + "    extra: {a: 1e-1, b: 1_5, c: 1:30, d: -7, e: 1.0}\n")
    extra = profiles.load(path).classes["chat"].extra
    assert extra == {"a": 0.1, "b": "1_5", "c": "1:30", "d": -7, "e": 1.0}
    assert [type(value) for value in extra.values()] == [float, str, str, int, float]


@pytest.mark.parametrize(
    "name", ["no", "Yes", "on", "off", "true", "5", "1e3", "null", "2026-01-01"]
)
def test_a_class_may_have_any_name(tmp_path: Path, name: str) -> None:
    """Without quotes, though YAML has other values than text that are written so."""
    path = tmp_path / "whole.yaml"
    path.write_text(WHOLE.replace("chat:", f"{name}:"))
    assert list(profiles.load(path).classes) == [name]


def test_a_merged_key_is_text(tmp_path: Path) -> None:
    path = tmp_path / "whole.yaml"
    path.write_text(WHOLE + "    extra: {a: &a {on: yes}, b: {<<: *a, 5: off}}\n")
    extra = profiles.load(path).classes["chat"].extra
    assert extra == {"a": {"on": True}, "b": {"on": True, "5": False}}


def test_a_byte_order_mark_is_taken_off(tmp_path: Path) -> None:
    path = tmp_path / "whole.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + WHOLE.encode())
    assert "chat" in profiles.load(path).classes


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_another_encoding_is_refused_by_its_mark(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(WHOLE.encode(encoding))
    with pytest.raises(UsageError, match=rf"\(BOM\) it is {encoding.upper()}; save it"):
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
