import os

import pytest
from longrope_server.serve import environment


def test_all_other_plugins_stay_loaded() -> None:
    variables: dict[str, str] = {}
    environment.allow_endpoint_plugin(variables)
    names = variables["VLLM_PLUGINS"].split(",")
    assert {"longrope", "lora_filesystem_resolver", "lora_hf_hub_resolver"} <= set(names)
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("before", "after"),
    [("", "longrope"), ("a,b", "a,b,longrope"), ("longrope,a", "longrope,a")],
)
def test_a_list_that_someone_chose_is_only_added_to(before: str, after: str) -> None:
    variables = {"VLLM_PLUGINS": before}
    environment.allow_endpoint_plugin(variables)
    assert variables["VLLM_PLUGINS"] == after


def test_a_cpu_engine_gets_room_unless_someone_said_how_much() -> None:
    variables: dict[str, str] = {}
    note = environment.reserve_kv_space(variables)
    assert variables == {"VLLM_CPU_KVCACHE_SPACE": "4"}
    assert note is not None
    assert "4 GiB" in note
    variables["VLLM_CPU_KVCACHE_SPACE"] = "9"
    assert environment.reserve_kv_space(variables) is None
    assert variables == {"VLLM_CPU_KVCACHE_SPACE": "9"}


@pytest.mark.parametrize("cores", [1, 2, 4])
def test_few_cores_all_compute(monkeypatch: pytest.MonkeyPatch, cores: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    variables: dict[str, str] = {}
    note = environment.compute_on_every_core(variables)
    assert variables == {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    assert note is not None
    assert "VLLM_ENABLE_V1_MULTIPROCESSING is 0" in note


def test_of_many_cores_one_is_left_to_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(5)))
    variables: dict[str, str] = {}
    assert environment.compute_on_every_core(variables) is None
    assert variables == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VLLM_ENABLE_V1_MULTIPROCESSING", "1"),
        ("VLLM_CPU_OMP_THREADS_BIND", "0-1"),
        ("VLLM_CPU_NUM_OF_RESERVED_CPU", "0"),
    ],
)
def test_who_chose_the_cores_keeps_the_choice(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    variables = {name: value}
    assert environment.compute_on_every_core(variables) is None
    assert variables == {name: value}


def test_a_cpu_engine_finds_what_it_has_compiled() -> None:
    variables: dict[str, str] = {}
    environment.keep_what_was_compiled(variables)
    assert variables == {"VLLM_USE_AOT_COMPILE": "0"}
    variables["VLLM_USE_AOT_COMPILE"] = "1"
    environment.keep_what_was_compiled(variables)
    assert variables == {"VLLM_USE_AOT_COMPILE": "1"}


def test_a_gpu_engine_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "on_cpu", lambda: False)
    variables: dict[str, str] = {}
    assert environment.reserve_kv_space(variables) is None
    assert environment.compute_on_every_core(variables) is None
    environment.keep_what_was_compiled(variables)
    assert variables == {}
