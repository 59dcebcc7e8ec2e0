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


def test_a_gpu_engine_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "on_cpu", lambda: False)
    variables: dict[str, str] = {}
    assert environment.reserve_kv_space(variables) is None
    assert variables == {}
