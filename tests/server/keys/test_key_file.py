from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from unittest import mock

import pytest
from longrope_server.errors import UsageError
from longrope_server.keys import key_file
from longrope_server.keys.command import app
from longrope_server.keys.key_file import Key, Keys, Quota
from typer.testing import CliRunner

DIGEST = "ab" * 32


def key(name: str, token: str = "", **quota: int) -> Key:
    return Key(name, key_file.digest_of(token or name), Quota(**quota))


def written(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "keys"
    path.write_text("\n".join(lines))
    return path


def test_a_line_is_read_as_it_was_written(tmp_path: Path) -> None:
    keys = [
        key("a"),
        key("b", requests_per_minute=60, tokens_per_minute=10**6),
        key("c", in_flight=1),
        Key("d", key_file.digest_of("d"), Quota(), 8192, ("phi", "mine"), date(2027, 1, 31), -5),
    ]
    path = written(tmp_path, "# keys", "", *map(key_file.line_of, keys), "  ")
    assert key_file.load(path) == keys


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("alice", "followed by sha256:"),
        ("alice secret", "followed by sha256:"),
        ("alice sha256:abc", "64 hexadecimal digits"),
        (f"alice sha256:{DIGEST} speed=4", "one of requests_per_minute, tokens_per_minute"),
        (f"alice sha256:{DIGEST} longest_prompt=many", "whole number of 1 or more"),
        (f"alice sha256:{DIGEST} models=a,,b", "models should be names of models with commas"),
        (f"alice sha256:{DIGEST} expires=tomorrow", "expires should be a day as YYYY-MM-DD"),
        (f"alice sha256:{DIGEST} expires=2026-02-30", "expires should be a day as YYYY-MM-DD"),
        (f"alice sha256:{DIGEST} priority=high", "priority should be a whole number"),
        (f"- sha256:{DIGEST}", "- stands for requests without a key"),
        (f"alice sha256:{DIGEST} in_flight", "whole number of 1 or more"),
        (f"alice sha256:{DIGEST} in_flight=0", "whole number of 1 or more"),
        (f"alice sha256:{DIGEST} in_flight=1e3", "whole number of 1 or more"),
        (f"alice sha256:{DIGEST} in_flight=1_5", "whole number of 1 or more"),
        (f"alice sha256:{DIGEST} in_flight=+5", "whole number of 1 or more"),
        (f"alice sha256:{DIGEST} in_flight=\uff15", "whole number of 1 or more"),
        (f"alice sha256:{DIGEST} in_flight=1 in_flight=9", "in_flight is there twice"),
        (f"alice sha256:{DIGEST} expires=2026-01-01 expires=2036-01-01", "expires is there twice"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: str, part: str) -> None:
    path = written(tmp_path, "# first", line)
    with pytest.raises(UsageError, match=part) as refused:
        key_file.load(path)
    assert f"{path}, line 2" in str(refused.value)


def test_a_file_that_gives_no_keys_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no key"):
        key_file.load(written(tmp_path, "# none"))
    with pytest.raises(UsageError, match="No such file"):
        key_file.load(tmp_path / "nowhere")
    (tmp_path / "binary").write_bytes(b"\xff\xfd")
    with pytest.raises(UsageError, match="not UTF-8"):
        key_file.load(tmp_path / "binary")


def test_priorities_that_nobody_heeds_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, key_file.line_of(Key("a", key_file.digest_of("a"), priority=1)))
    assert key_file.load(path, has_priorities=True)
    with pytest.raises(UsageError, match=r"'a' a priority, .* --scheduling-policy priority"):
        key_file.load(path, has_priorities=False)


@pytest.mark.parametrize(("days", "over"), [(-1, True), (0, False), (1, False)])
def test_a_key_is_good_until_its_last_day_is_over(days: int, over: bool) -> None:
    last = datetime.now(UTC).date() + timedelta(days)
    assert Key("a", b"", expires=last).has_expired is over
    assert not Key("a", b"").has_expired


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path, line_end: str) -> None:
    path = tmp_path / "keys"
    line = key_file.line_of(key("alice"))
    path.write_bytes(b"\xef\xbb\xbf" + f"{line}{line_end}".encode())
    assert [loaded_key.name for loaded_key in key_file.load(path)] == ["alice"]
    path.write_bytes(line.encode("utf-16"))
    with pytest.raises(UsageError, match=rf"key file {path}: is UTF-16 text by .*\(BOM\)"):
        key_file.load(path)


def test_a_name_or_a_key_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'a' twice \(name\)"):
        key_file.load(written(tmp_path, *map(key_file.line_of, [key("a", "1"), key("a", "2")])))
    with pytest.raises(UsageError, match=r"twice \(digest\)"):
        key_file.load(written(tmp_path, *map(key_file.line_of, [key("a", "1"), key("b", "1")])))


def test_every_key_is_compared_whichever_it_is() -> None:
    keys = Keys([key("a"), key("b"), key("c")])
    for token, found in (("a", "a"), ("c", "c"), ("d", None), ("", None)):
        with mock.patch.object(
            key_file.hmac, "compare_digest", wraps=key_file.hmac.compare_digest
        ) as (compared):
            match = keys.find(token)
        assert compared.call_count == 3
        assert (match.name if match else None) == found


def test_a_key_with_a_new_secret_is_revoked_and_one_with_a_new_quota_is_not() -> None:
    keys = Keys([key("a"), key("b"), key("c")])
    assert keys.replace([key("a", "other"), key("b", in_flight=1)]) == {"a", "c"}
    assert keys.find("b") is not None
    assert keys.find("c") is None


def test_no_secret_shows_in_what_is_printed_of_a_key() -> None:
    assert "digest" not in repr(key("a"))
    assert "secret" not in key_file.line_of(key("a", "secret"))


def test_the_command_prints_a_key_once_and_files_its_hash(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    run = CliRunner().invoke
    first = run(app, ["new", "alice", "--file", str(file)]).stdout.strip()
    second = run(app, ["new", "bob", "--file", str(file), "--in-flight", "2"]).stdout.strip()
    assert first not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    keys = Keys(key_file.load(file))
    assert keys.find(first) == Key("alice", key_file.digest_of(first))
    found = keys.find(second)
    assert found is not None
    assert found.quota == Quota(in_flight=2)
    limits = ["--longest-prompt=9", "--models=a,b", "--expires=2027-01-31", "--priority=-2"]
    run(app, ["new", "carol", "--file", str(file), *limits])
    carol = key_file.load(file)[-1]
    assert (carol.longest_prompt, carol.models, carol.priority) == (9, ("a", "b"), -2)
    assert carol.expires == date(2027, 1, 31)
    again = run(app, ["new", "bob", "--file", str(file)])
    assert isinstance(again.exception, UsageError)
    assert "has a key named 'bob' already" in str(again.exception)
    wrong = run(app, ["new", "two words", "--file", str(file)])
    assert isinstance(wrong.exception, UsageError)


def test_a_path_that_cannot_be_looked_at_is_a_sentence() -> None:
    for words in (["new", "alice", "--file", "x" * 300], ["usage", "x" * 300]):
        result = CliRunner().invoke(app, words)
        assert isinstance(result.exception, UsageError)
        assert str(result.exception).endswith(": File name too long.")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-"], "stands for requests without a key"),
        (["bob", "--models", "phi, my-lora"], "models should be names of models with commas"),
        (["bob", "--models", "phi,my lora"], "a limit should be one of"),
        (["bob", "--models", "org/x#1"], "without '#' and spaces"),
        (["bob", "--models", "phi\udcff"], "without '#' and spaces"),
        (["bob", "--expires", "2020-02-03"], "--expires is 2020-02-03; it should be today"),
        (["bob", "--priority", "12345678901"], "priority should be a whole number"),
        (["bob", "--requests-per-minute", str(10**19)], "requests_per_minute should be"),
    ],
)
def test_no_line_is_written_that_cannot_be_read(
    tmp_path: Path, words: list[str], said: str
) -> None:
    file = tmp_path / "keys"
    result = CliRunner().invoke(app, ["new", "--file", str(file), *words])
    assert isinstance(result.exception, UsageError)
    assert said in str(result.exception)
    assert not file.exists()
    assert result.stdout == ""
