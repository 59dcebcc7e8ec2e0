"""Conversations: what is sent, when, and the figures of their turns."""

import io
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from longrope_loadtest.live_view import print_summary
from longrope_loadtest.results.conversations import MOST_ROWS, chosen, conversations
from longrope_loadtest.results.figures import summary
from longrope_loadtest.run.answers import Answer
from longrope_loadtest.run.driving import Run
from longrope_loadtest.run.record import Record
from rich.console import Console

from tests.loadtest.examples import answered, failed, result_of
from tests.loadtest.mock_server import Truth
from tests.loadtest.mocking import MockServer, driven, profile
from tests.loadtest.test_report import page, titles

TALK = {"kind": "conversation", "tokens": 30, "growth": 10, "turns": 3}
ONE = {"kind": "closed", "users": 1, "requests": 1}
Json = dict[str, Any]


def bodies(run: Run, answer: Json) -> list[bytes]:
    """The bodies that a server should get that gives the same answer to every turn of ONE."""
    history: list[Json] = []
    made = []
    for turn in run.plan:
        body = json.loads(bytes(run.bodies.of(turn.number)))
        history += body["messages"]
        made.append(json.dumps(body | {"messages": history}, separators=(",", ":")).encode())
        history.append(answer)
    return made


def sent(truths: list[Truth]) -> list[int]:
    return [truth.body for truth in truths]


@pytest.mark.parametrize("stream", [True, False])
def test_a_turn_sends_all_messages_and_answers_before_it(server: MockServer, stream: bool) -> None:
    prompt = TALK | {"system": {"tokens": 5, "hit_rate": 1}}
    run = driven(profile(ONE, {"tokens": 3}, prompt=prompt, stream=stream), server.url)
    expected = bodies(run, {"role": "assistant", "content": " word word word"})
    assert sent(server.truths()) == [zlib.crc32(body) for body in expected]
    roles = [message["role"] for message in json.loads(expected[-1])["messages"]]
    assert roles == ["system", *["user", "assistant"] * 2, "user"]
    assert [record.body_bytes for record in run.records] == [len(body) for body in expected]
    assert [r.prompt_tokens for r in run.records] == [35, 35 + 13, 35 + 26]  # words
    assert [r.planned_prompt_tokens for r in run.records] == [35, 35 + 18, 35 + 36]
    assert [(r.conversation, r.turn, r.turns) for r in run.records] == [
        (0, n, 3) for n in (1, 2, 3)
    ]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("history", ["answer", "reasoning_and_answer"])
def test_what_of_a_thinking_models_answer_goes_back(
    server: MockServer, history: str, stream: bool
) -> None:
    prompt = TALK | {"history": history}
    run = driven(
        profile(ONE, {"tokens": 3, "thinks": "Hm."}, prompt=prompt, stream=stream), server.url
    )
    answer = {"role": "assistant", "content": " word word word"}
    if history == "reasoning_and_answer":
        answer["reasoning"] = "Hm."
    assert sent(server.truths()) == [zlib.crc32(body) for body in bodies(run, answer)]


@pytest.mark.parametrize(
    ("text", "reasoning", "content"),
    [
        ("<think>Hm.</think>\n\nYes.", False, "Yes."),
        ("Hm.</think> Yes.", False, "Yes."),  # a template may write the first <think>
        ("<think>Hm", False, ""),
        (" Yes.", False, " Yes."),
        ("<think>Hm.</think>\n\nYes.", True, "<think>Hm.</think>\n\nYes."),
    ],
)
def test_thoughts_that_the_server_did_not_separate_are_taken_off(
    text: str, reasoning: bool, content: str
) -> None:
    answer = Answer(Record(0, "a", 0, 1, 1, 1))
    answer.whole(json.dumps({"choices": [{"message": {"content": text}}]}).encode(), 1)
    assert answer.message(reasoning=reasoning) == {"role": "assistant", "content": content}


def test_a_turn_is_due_when_the_user_has_thought(server: MockServer) -> None:
    run = driven(profile(ONE, {"first": 0.05}, prompt=TALK | {"think": 0.2}), server.url)
    first, second, third = run.records
    assert second.intended == pytest.approx(first.ended + 0.2)
    assert third.intended == pytest.approx(second.ended + 0.2)
    # The event loop's timers have a resolution of a millisecond.
    assert all(record.dispatched >= record.intended - 0.002 for record in run.records)
    assert all((record.ttft("intended") or 1) < 0.2 for record in run.records)


def test_arrivals_begin_conversations(server: MockServer) -> None:
    arrivals = {"kind": "constant", "rate": 20, "requests": 4}
    run = driven(profile(arrivals, {"first": 0.2}, prompt=TALK), server.url)
    assert len(server.truths()) == 12
    begun = [record.intended for record in run.records if record.turn == 1]
    assert begun == pytest.approx([0, 0.05, 0.1, 0.15])
    found = summary(run.records, run.profile)["a"]["conversations"]
    assert (found["begun"], found["whole"]) == (4, 4)


def test_a_conversation_that_begins_in_the_warm_up_is_not_counted(server: MockServer) -> None:
    arrivals = {"kind": "constant", "rate": 10, "requests": 2}
    made = profile(arrivals, {"first": 0.1}, prompt=TALK, warm_up=0.05)
    run = driven(made, server.url)
    assert [record.warm_up for record in run.records] == [True] * 3 + [False] * 3


@pytest.mark.parametrize("mock", [{"status": 500}, {"cut_at": 1}, {"gap": 0.2}])
def test_a_turn_that_is_not_answered_ends_the_conversation(server: MockServer, mock: Json) -> None:
    cancel = {"share": 1, "after": 0.2} if "gap" in mock else None
    run = driven(profile({**ONE, "requests": 2}, mock, prompt=TALK, cancel=cancel), server.url)
    assert [(record.conversation, record.turn) for record in run.records] == [(0, 1), (3, 1)]
    assert len(server.truths()) == 2


def talk(begin: int, *turns: Json, planned: int | None = None) -> list[Record]:
    """The records of a conversation; each of `turns` has what differs from one of the examples."""
    return [
        answered(begin + at, conversation=begin, turn=at + 1, turns=planned or len(turns), **turn)
        for at, turn in enumerate(turns)
    ]


CROSSING = [
    {"prompt_tokens": 4000, "factor_set": "8192", "cached_tokens": 0, "ttft": 1},
    {"prompt_tokens": 8000, "factor_set": "8192", "cached_tokens": 4000, "ttft": 2},
    {"prompt_tokens": 12000, "factor_set": "32768", "cached_tokens": 0, "ttft": 9},
    {"prompt_tokens": 16000, "factor_set": "32768", "cached_tokens": 12000, "ttft": 3},
]
PROMOTED = [
    {"prompt_tokens": 8190, "factor_set": "8192", "promoted_to": "32768", "gaps": [0.1, 5, 0.1]},
    {"prompt_tokens": 9000, "factor_set": "32768"},
]


def test_figures_by_turn() -> None:
    found = conversations(talk(0, *CROSSING) + talk(4, *CROSSING[:2], planned=4))
    assert found is not None
    assert (found["begun"], found["whole"]) == (2, 1)
    rows = found["by_turn"]
    assert [row["turn"] for row in rows] == [1, 2, 3, 4]
    assert [row["requests"] for row in rows] == [2, 2, 1, 1]
    assert [row["prompt_tokens_p50"] for row in rows] == [4000, 8000, 12000, 16000]
    assert [row["cached_share"] for row in rows] == [0, 0.5, 0, 0.75]
    assert [row["ttft_p50"] for row in rows] == pytest.approx([1, 2, 9, 3])
    assert [row["output_tokens_p50"] for row in rows] == [4] * 4
    assert [row["crossed"] for row in rows] == [0, 0, 1, 0]
    # Of what each turn could have found: the prompt and the answer (4 tokens) before it.
    assert found["history_cached_share"] == pytest.approx(20000 / (2 * 4004 + 8004 + 12004))


def test_a_prompt_that_crosses_a_set_and_an_answer_that_does() -> None:
    found = conversations(talk(0, *CROSSING) + talk(4, *PROMOTED))
    assert found is not None
    prompt, answer = found["crossings"]
    assert (prompt["from"], prompt["to"], prompt["in"]) == ("8192", "32768", "prompt")
    assert (prompt["turn_p50"], prompt["prompt_tokens_p50"]) == (3, 12000)
    assert (prompt["cached_share"], prompt["ttft_p50"]) == (0, pytest.approx(9))
    assert (answer["from"], answer["to"], answer["in"]) == ("8192", "32768", "answer")
    assert (answer["turn_p50"], answer["longest_gap_p50"]) == (1, 5)


def test_without_turns_sets_or_counts_there_are_no_such_figures() -> None:
    assert conversations([answered(0)]) is None
    found = conversations(talk(0, {}, {"prompt_tokens": None}))
    assert found is not None
    assert (found["history_cached_share"], found["crossings"]) == (None, [])
    failing = failed(1, conversation=0, turn=2, turns=2)
    ended = conversations([*talk(0, {}, planned=2), failing])
    assert ended is not None
    assert (ended["begun"], ended["whole"], len(ended["by_turn"])) == (1, 0, 1)


def test_a_table_has_the_first_turn_and_the_last() -> None:
    rows: list[Json] = [{"turn": turn} for turn in range(1, 101)]
    assert chosen(rows[:5]) == rows[:5]
    few = [row["turn"] for row in chosen(rows)]
    assert (few[0], few[-1], len(few)) == (1, 100, MOST_ROWS)


def test_the_summary_shows_turns_and_says_what_the_server_did_not(tmp_path: Path) -> None:
    out = io.StringIO()
    console = Console(file=out, width=200)
    print_summary(result_of(tmp_path, talk(0, *CROSSING)), console)
    text = out.getvalue()
    assert "chat: 1 of 1 conversations answered to the end; 66.6 % of their histories" in text
    assert "crossed from set 8192 to 32768 in the prompt of turn 3, with a prompt of 12000" in text
    assert "does not state cached tokens" not in text
    print_summary(result_of(tmp_path, talk(0, {}, {})), console)
    assert "does not state cached tokens" in out.getvalue()


@pytest.mark.long
def test_the_report_shows_turns_and_crossings(tmp_path: Path) -> None:
    text = page(result_of(tmp_path, talk(0, *CROSSING) + talk(4, *PROMOTED)))
    assert {"TTFT by turn", "Prompt by turn"} <= set(titles(text))
    assert "8192 → 32768" in text
    assert "with every turn answered" in text
    assert "TTFT by turn" not in page(result_of(tmp_path, [answered(0)]))
