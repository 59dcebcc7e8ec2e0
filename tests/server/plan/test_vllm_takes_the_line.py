"""The command lines of a plan are parsed by vLLM, and its configuration is made of them."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from longrope_server.serve.command import compose

from tests.server.models import write_model
from tests.server.plan import configs
from tests.server.plan.test_plan_command import Run

pytestmark = pytest.mark.long  # vLLM is imported

TWO_MILLION = 2_097_152
MODEL_TYPES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Phi3ForCausalLM": "phi3",
    "Qwen3ForCausalLM": "qwen3",
}
FEW_KV_HEADS = {**configs.LLAMA2_7B, "num_key_value_heads": 2}


@pytest.fixture(scope="module", autouse=True)
def vllm_is_imported() -> None:
    """Before a test's capsys: its log goes on to the output that it finds."""
    import vllm.engine.arg_utils  # noqa: F401


@pytest.mark.parametrize(
    ("config", "words", "expected"),
    [
        pytest.param(
            configs.LLAMA2_7B,
            "--factors llama2-7b-ft256k --gpu H100:8 --nodes 2",
            (8, 2, 1, TWO_MILLION, 64, 8192, "auto"),
            id="on two machines",
        ),
        pytest.param(
            configs.MISTRAL_7B,
            "--factors mistral-7b-ft256k --gpu A100-80:8",
            (4, 1, 1, TWO_MILLION, 64, 2048, "auto"),
            id="on one machine",
        ),
        pytest.param(
            configs.MISTRAL_7B,
            "--factors mistral-7b-ft256k --gpu H100:8 --kv-dtype fp8",
            (1, 3, 1, TWO_MILLION, 64, 8192, "fp8"),
            id="in fp8",
        ),
        pytest.param(
            configs.MISTRAL_7B,
            "--factors mistral-7b-ft256k --gpu H200:8 --kv-dtype bf16",
            (1, 3, 1, TWO_MILLION, 64, 8192, "bfloat16"),
            id="in bfloat16",
        ),
        pytest.param(
            FEW_KV_HEADS,
            "--factors llama2-7b-ft256k --gpu 15GiB:8",
            (8, 1, 4, TWO_MILLION, 64, 2048, "auto"),
            id="with context parallelism",
        ),
        pytest.param(
            configs.PHI_3_MINI_128K,
            "--factors phi-3-mini-128k --gpu H100",
            (1, 1, 1, 131072, 256, 8192, "auto"),
            id="on one GPU",
        ),
        pytest.param(
            configs.QWEN3_0_6B,
            "--gpu 24GiB:2 --gpu-memory-utilization 0.85",
            (1, 1, 1, 40960, 256, 2048, "auto"),
            id="without factor sets",
        ),
    ],
)
def test_vllm_makes_its_configuration_of_the_line(
    config: dict[str, Any],
    words: str,
    expected: tuple[object, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    model_type = MODEL_TYPES[config["architectures"][0]]
    write_model(tmp_path / "model", {**config, "model_type": model_type})
    run = Run(capsys, "model", *words.split(), "--json")
    (placed,) = [
        length["placed"]
        for length in run.document["lengths"]
        if length["tokens"] == run.document["served_tokens"]
    ]
    made = engine_config(placed["commands"][-1]["line"])
    parallel, scheduler, cache = made.parallel_config, made.scheduler_config, made.cache_config
    assert expected == (
        parallel.tensor_parallel_size,
        parallel.pipeline_parallel_size,
        parallel.decode_context_parallel_size,
        made.model_config.max_model_len,
        scheduler.max_num_seqs,
        scheduler.max_num_batched_tokens,
        cache.cache_dtype,
    )
    on_ray = parallel.distributed_executor_backend == "ray"
    assert on_ray == ("--nodes" in words)
    assert cache.gpu_memory_utilization == run.document["gpu"]["memory_share"]
    assert placed["layout"] == dict(zip(("tp", "pp", "dcp"), expected[:3], strict=True))
    assert placed["max_num_seqs"] == scheduler.max_num_seqs
    kv_heads = made.model_config.get_num_kv_heads(parallel)
    assert kv_heads == max(
        1, config.get("num_key_value_heads", 32) // parallel.tensor_parallel_size
    )


def engine_config(line: str) -> Any:
    """What `longrope serve` and vLLM make of a command line, short of an engine."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    program, command, *words = shlex.split(line)
    assert (program, command) == ("longrope", "serve")
    parsed = make_arg_parser(FlexibleArgumentParser()).parse_args(compose(words).words)
    parsed.model = parsed.model_tag  # as `vllm serve` has it
    return AsyncEngineArgs.from_cli_args(parsed).create_engine_config()


def test_a_config_that_needs_its_own_code_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    own = {"model_type": "minicpm", "auto_map": {"AutoConfig": "configuration_minicpm.MiniCPM"}}
    assert own["model_type"] not in CONFIG_MAPPING  # else the flag is not needed any more
    model = str(write_model(tmp_path / "own", {**configs.MINICPM4_8B, **own}))
    assert "--trust-remote-code" in shlex.split(_last(Run(capsys, model, "--gpu", "H100")))
    # Others have such a map too, and are read by transformers.
    phi = {**configs.PHI_3_MINI_128K, "model_type": "phi3", "auto_map": own["auto_map"]}
    model = str(write_model(tmp_path / "phi", phi))
    assert "--trust-remote-code" not in _last(Run(capsys, model, "--gpu", "H100"))


def _last(run: Run) -> str:
    return run.out.splitlines()[-1]


@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")
def test_ray_takes_its_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from ray.scripts.scripts import start

    llama = str(write_model(tmp_path / "llama", configs.LLAMA2_7B))
    words = ("--factors", "llama2-7b-ft256k", "--gpu", "H100:8", "--nodes", "2", "--json")
    lengths = Run(capsys, llama, *words).document["lengths"]
    head, worker, _ = lengths[-1]["placed"]["commands"]
    assert _ray(start, head) == {"head": True, "port": 6379, "num_gpus": 8}
    assert _ray(start, worker) == {"address": "FIRST_MACHINE:6379", "num_gpus": 8}


def _ray(start: Any, command: Mapping[str, str]) -> dict[str, Any]:
    """The options that ray's own parser finds set in a line."""
    program, subcommand, *words = shlex.split(command["line"])
    assert (program, subcommand) == ("ray", "start")
    context = start.make_context("start", words)
    return {
        name: value
        for name, value in context.params.items()
        if context.get_parameter_source(name).name == "COMMANDLINE"
    }
