"""The flags of `longrope serve` that are ours, as they come out of `compose`."""

from pathlib import Path

import pytest
from longrope_server.errors import UsageError
from longrope_server.front_end import connections, takes_requests
from longrope_server.front_end.admission.limits import Limit
from longrope_server.front_end.settings import VARIABLE, Settings
from longrope_server.keys import key_file
from longrope_server.keys.key_file import Key
from longrope_server.serve import environment
from longrope_server.serve.command import compose
from longrope_server.serve.front_end_flags import SECONDS_TO_EXIT, refuse_other_front_ends


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(key_file.line_of(Key("alice", key_file.digest_of("x"))))
    return path


def test_our_flags_become_settings_and_vllm_sees_none_of_them(model: Path, keys: Path) -> None:
    command = compose(
        [
            str(model),
            f"--api-key-file={keys}",
            "--open-paths=/metrics,/version",
            f"--accounting={keys.parent / 'accounts'}",
            "--limits.in_flight=8",
            "--limits.classes.8192.queued=2",
            "--limits",
            '{"queue_seconds": 5}',
            "--max-body-bytes=1000",
            "--body-timeout=2.5",
            "--page=off",
            "--drain-timeout=7",
            "--port=9",
        ]
    )
    assert command.words == [str(model), "--shutdown-timeout", "22", "--port=9"]
    settings = command.settings
    assert settings.key_file == str(keys)
    assert settings.open_paths == ("/metrics", "/version")
    assert settings.accounting == str(keys.parent / "accounts")
    assert settings.limits.in_flight == 8
    assert settings.limits.queue_seconds == 5
    assert settings.limits.classes == {8192: Limit(queued=2)}
    assert (settings.body_bytes, settings.body_seconds) == (1000, 2.5)
    assert not settings.page
    assert settings.drain_seconds == 7


def test_priorities_of_keys_need_a_scheduler_that_heeds_them(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(key_file.line_of(Key("alice", key_file.digest_of("x"), priority=3)))
    words = [str(model), f"--api-key-file={path}"]
    with pytest.raises(UsageError, match="serve with --scheduling-policy priority"):
        compose(words)
    assert compose([*words, "--scheduling-policy", "priority"]).settings.key_file == str(path)


def test_settings_reach_another_process_as_they_were(model: Path) -> None:
    settings = compose([str(model), "--limits.classes.10.tokens=3"]).settings
    variables: dict[str, str] = {}
    with environment.front_end(variables, settings):
        arrived = Settings.from_environment(variables)
        assert Path(arrived.ledger).parent.is_dir()
    assert not Path(arrived.ledger).parent.exists()
    assert arrived.limits == settings.limits
    assert Settings.from_environment({}) == Settings()
    with pytest.raises(UsageError, match=VARIABLE):
        Settings.from_environment({VARIABLE: '{"x": 1}'})


@pytest.mark.parametrize("flag", ["--drain-timeout", "--shutdown-timeout"])
@pytest.mark.parametrize(("value", "seconds", "until_killed"), [("3", 3, 18), ("0.5", 0.5, 16)])
def test_vllm_kills_no_process_that_still_tells_its_clients(
    model: Path, flag: str, value: str, seconds: float, until_killed: int
) -> None:
    command = compose([str(model), flag, value])
    assert command.words == [str(model), "--shutdown-timeout", str(until_killed)]
    assert command.settings.drain_seconds == seconds
    telling = takes_requests.SECONDS_TO_SAY_SO + connections.SECONDS_TO_CLOSE
    assert telling + 5 <= SECONDS_TO_EXIT


def test_the_time_to_drain_may_be_in_a_file(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "vllm.yaml"
    file.write_text("shutdown-timeout: 3\n")
    command = compose([str(model), "--config", str(file)])
    assert command.words[:3] == [str(model), "--shutdown-timeout", "18"]
    assert command.settings.drain_seconds == 3


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--limits.in_flight=0"], "--limits.in_flight: input should be greater than or equal"),
        (["--limits.running=1"], "--limits.running: extra inputs are not permitted"),
        (
            ["--limits.classes.short.queued=1"],
            "--limits.classes.short: input should be a valid int",
        ),
        (["--limits=8"], "--limits should be a JSON object"),
        (["--api-key-file=/nowhere/keys"], "/nowhere/keys cannot be read: No such file"),
        (["--accounting=/dev/null/x"], "/dev/null/x/usage.sqlite3 cannot be opened"),
        (["--api-key-file=keys", "--api-key", "a"], "no request can send both"),
        (["--open-paths=/metrics"], "goes with --api-key-file"),
        (["--max-body-bytes=many"], "--max-body-bytes: input should be a valid integer"),
        (["--body-timeout=0"], "--body-timeout: input should be greater than 0"),
        (["--page=never"], "--page: input should be a valid boolean"),
        (["--drain-timeout=soon"], "--drain-timeout is 'soon'; it should be a number"),
        (["--drain-timeout=-1"], "should be a number of seconds"),
        (["--drain-timeout=1_5"], "--drain-timeout is '1_5'; it should be a number"),
        (["--drain-timeout=\uff15"], "should be a number of seconds"),
        (["--drain-timeout=nan"], "should be a number of seconds"),
        (["--drain-timeout=inf"], "should be a number of seconds"),
        (["--shutdown-timeout=soon"], "--shutdown-timeout is 'soon'; it should be a number"),
        (["--drain-timeout=1", "--shutdown-timeout=1"], "are the same: give one"),
    ],
)
def test_a_flag_that_cannot_be_used_is_refused_by_name(
    model: Path, words: list[str], part: str
) -> None:
    with pytest.raises(UsageError) as refused:
        compose([str(model), *words])
    assert part in str(refused.value)
    assert str(refused.value).endswith(".")


def test_keys_are_refused_beside_vllms_own_from_the_environment(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "a")
    with pytest.raises(UsageError, match="no request can send both: leave it out"):
        compose([str(model), "--api-key-file=keys"])


def test_a_front_end_without_our_pieces_is_refused() -> None:
    with pytest.raises(UsageError, match="--grpc chooses a front end without API keys"):
        refuse_other_front_ends(["model", "--grpc"], {})
    with pytest.raises(UsageError, match="VLLM_USE_RUST_FRONTEND"):
        refuse_other_front_ends([], {"VLLM_USE_RUST_FRONTEND": "1"})
    refuse_other_front_ends(["--grpc-port=1"], {"VLLM_USE_RUST_FRONTEND": "0"})


@pytest.mark.parametrize(
    "switch",
    [
        "--data-parallel-multi-port-external-lb",
        "--data_parallel_multi_port_external_lb",
        "-dpm",
    ],
)
def test_several_servers_in_one_are_refused(switch: str) -> None:
    with pytest.raises(UsageError, match="once for each port") as refused:
        refuse_other_front_ends(["model", "--data-parallel-size=2", switch], {})
    assert str(refused.value).endswith(".")


@pytest.mark.parametrize(
    ("flag", "part"),
    [
        ("data-parallel-multi-port-external-lb", "once for each port"),
        ("data_parallel_multi_port_external_lb", "once for each port"),
        ("grpc", "--grpc chooses a front end"),
    ],
)
def test_front_ends_of_a_file_are_refused(flag: str, part: str, tmp_path: Path) -> None:
    file = tmp_path / "vllm.yaml"
    file.write_text(f"{flag}: false\n")
    refuse_other_front_ends(["model", "--config", str(file)], {})
    file.write_text(f"{flag}: true\n")
    with pytest.raises(UsageError, match=part):
        refuse_other_front_ends(["model", "--config", str(file)], {})
