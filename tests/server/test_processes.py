"""Several API processes are one server: its counters, its limits and its keys."""

import signal
import time
from pathlib import Path

import httpx
import pytest
from longrope_server.keys import key_file
from longrope_server.keys.key_file import Key
from prometheus_client.parser import text_string_to_metric_families

from tests.serving import LONGROPE_SERVE, running

BODY = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}
CHATS = 24


def total(text: str, name: str) -> float:
    families = text_string_to_metric_families(text)
    return sum(each.value for family in families for each in family.samples if each.name == name)


def key_line(name: str, key: str) -> str:
    return key_file.line_of(Key(name, key_file.digest_of(key)))


@pytest.mark.slow
def test_two_processes_count_as_one_and_both_forget_a_key(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"{key_line('ops', 'ops')}\n{key_line('alice', 'alice')}\n")
    flags = [f"--api-key-file={keys}", "--api-server-count=2"]

    def chat(url: str, key: str) -> int:
        # A connection each: whichever process accepts it.
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.post(
            f"{url}/v1/chat/completions", json=BODY, headers=headers, timeout=60
        ).status_code

    with running((*LONGROPE_SERVE, *flags), tmp_path / "log") as server:
        assert [chat(server.url, "alice") for _ in range(CHATS)] == [200] * CHATS
        ops = {"Authorization": "Bearer ops"}
        texts = [httpx.get(f"{server.url}/metrics", headers=ops).text for _ in range(6)]
        for text in texts:  # each process says the same
            assert total(text, "longrope_requests_total") == CHATS
            assert total(text, "longrope_tokens_in_flight") == 0
        keys.write_text(f"{key_line('ops', 'ops')}\n")
        server.process.send_signal(signal.SIGHUP)
        time.sleep(2)
        assert {chat(server.url, "alice") for _ in range(12)} == {401}
