"""`longrope plan` as it is called."""

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from longrope_server import cli
from longrope_server.plan.gpus import GPUS
from longrope_server.plan.units import duration, operations, size
from longrope_server.serve.command import compose

from tests.server.models import write_model
from tests.server.plan import configs

LENGTHS = [4096, 8192, 262144, 524288, 1048576, 2097152]


@pytest.fixture
def mistral(tmp_path: Path) -> str:
    return str(write_model(tmp_path / "mistral", configs.MISTRAL_7B))


class Run:
    """What one call printed, and its exit status."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *words: str) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["longrope", "plan", *words])
            with pytest.raises(SystemExit) as ended:
                cli.main()
        self.status = ended.value.code
        self.out, self.err = capsys.readouterr()

    @property
    def document(self) -> dict[str, Any]:
        return json.loads(self.out)


def test_json_equals_the_table(mistral: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = (mistral, "--factors", "mistral-7b-ft256k", "--gpu", "A100-80:8")
    table, plan = Run(capsys, *words).out, Run(capsys, *words, "--json").document
    assert f"{plan['parameters']:,}" in table
    assert f"{size(plan['weight_bytes'])}; {plan['weights_assumed']}" in table
    assert f"{size(plan['kv_bytes_per_token'])} a token" in table
    assert f"longest request  {plan['max_tokens_that_fit']:,} tokens" in table
    assert [length["tokens"] for length in plan["lengths"]] == LENGTHS
    for length in plan["lengths"]:
        flops = length["linear_flops"] + length["attention_flops"]
        placed = length["placed"]
        cells = [
            f"{length['tokens']:,}",
            *size(length["kv_bytes"]).split(),
            *operations(flops).split(),
            f"{length['attention_flops'] / flops:.0%}",
            f"{placed['layout']['tp'] * placed['layout']['pp']}",
            *(f"{placed['layout'][name]}" for name in ("tp", "pp", "dcp")),
            *duration(placed["prefill_seconds"]).split(),
            f"{placed['decode_milliseconds']:,.1f}",
            f"{placed['requests_at_once']}",
        ]
        assert cells in [line.split() for line in table.splitlines()]
    [command] = plan["lengths"][-1]["placed"]["commands"]
    assert command["line"] in table.splitlines()


def test_the_command_line_is_one_that_serve_takes(
    mistral: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(capsys, mistral, "--factors=mistral-7b-ft256k", "--gpu=h200:8", "--kv-dtype=bf16")
    assert run.status == 0
    line = run.out.splitlines()[-1]
    assert line == (
        f"longrope serve {mistral} --factors mistral-7b-ft256k --max-model-len 2097152 "
        "--pipeline-parallel-size 3 --kv-cache-dtype bfloat16 --max-num-seqs 64 "
        "--max-num-batched-tokens 8192 --gpu-memory-utilization 0.9"
    )
    assert "2,097,152" in compose(shlex.split(line)[2:]).notes[0]


def test_several_machines_are_a_ray_cluster(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    llama = str(write_model(tmp_path / "llama", configs.LLAMA2_7B))
    run = Run(capsys, llama, "--factors", "llama2-7b-ft256k", "--gpu", "H100:8", "--nodes", "2")
    assert run.status == 0
    *_, head, others, worker, first, serve = run.out.splitlines()
    assert head == "ray start --head --port=6379 --num-gpus=8"
    assert others == "# on each other machine:"
    assert worker == "ray start --address=FIRST_MACHINE:6379 --num-gpus=8"
    assert first == "# on the first machine:"
    assert "--tensor-parallel-size 8 --pipeline-parallel-size 2 " in serve
    assert serve.endswith("--distributed-executor-backend ray")


def test_what_does_not_fit_exits_with_1(mistral: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(capsys, mistral, "--factors", "mistral-7b-ft128k", "--gpu", "A100-80")
    assert run.status == 1
    assert "2,097,152 tokens do not fit on 1 x A100-80: 4 x A100-80 (tensor 4" in run.out
    assert "To serve up to 262,144 tokens" in run.out
    assert "--max-model-len 262144" in run.out.splitlines()[-1]


def test_two_million_may_not_fit_where_no_set_reaches_it(
    mistral: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = Run(capsys, mistral, "--gpu", "A100-80", "--json")
    assert plan.status == 0
    served, most = plan.document["lengths"]
    assert (served["tokens"], most["tokens"]) == (4096, 2097152)
    assert served["placed"]["commands"]
    assert most["does_not_fit"]
    assert not served["factor_set"]
    roomy = Run(capsys, mistral, "--gpu", "H200:8", "--json").document["lengths"][1]
    assert roomy["placed"]["commands"] == []  # `longrope serve` would refuse that length


def test_llama2_as_published_leaves_its_theta_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sparse = {key: value for key, value in configs.LLAMA2_7B.items() if "rope" not in key}
    models = [
        str(write_model(tmp_path / name, {**content, "model_type": "llama"}))
        for name, content in (("whole", configs.LLAMA2_7B), ("sparse", sparse))
    ]
    plans = [
        Run(capsys, model, "--factors", "llama2-7b-ft256k", "--json").document for model in models
    ]
    for plan in plans:
        assert plan.pop("model")
    assert plans[0] == plans[1]


@pytest.mark.parametrize(
    ("rope", "served"),
    [
        ({"rope_type": "linear", "factor": 4.0}, 16384),
        ({"rope_type": "linear", "factor": 2.5}, 10240),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}, 4096),
        ({"rope_type": "dynamic", "factor": 4.0}, 16384),
    ],
)
def test_a_scaled_model_without_factors_is_planned_for_its_window(
    rope: dict[str, Any], served: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(write_model(tmp_path / "m", {**configs.LLAMA2_7B, "rope_scaling": rope}))
    document = Run(capsys, model, "--json").document
    assert document["served_tokens"] == served
    if rope["rope_type"] == "dynamic":
        run = Run(capsys, model, "--factors", "llama2-7b-ft256k")
        _is_one_sentence(
            run, 'longrope: The model\'s config has rope_type "dynamic", whose rotation'
        )


def test_a_config_with_two_lists_has_two_sets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    phi = str(write_model(tmp_path / "phi", configs.PHI_3_MINI_128K))
    run = Run(capsys, phi)
    lengths = Run(capsys, phi, "--json").document["lengths"]
    assert [length["tokens"] for length in lengths if length["factor_set"]] == [4096, 131072]
    assert "32 of 32 layers see 262,144 tokens back" in run.out
    assert re.search(r"A100-80 +1 +tensor 1, pipeline 1", run.out)


def test_without_a_gpu_there_is_no_time(mistral: str, capsys: pytest.CaptureFixture[str]) -> None:
    plan = Run(capsys, mistral, "--factors", "mistral-7b-ft256k", "--json").document
    assert plan["gpu"] is plan["max_tokens_that_fit"] is None
    assert all(length["placed"] is None for length in plan["lengths"])
    fewest = {fewest_gpus["gpu"]: fewest_gpus["layout"] for fewest_gpus in plan["fewest"]}
    assert fewest["A100-80"] == {"tp": 4, "pp": 1, "dcp": 1}


def test_memory_by_hand_says_what_fits_and_no_times(
    mistral: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (mistral, "--factors", "mistral-7b-ft256k", "--gpu", "79.1GiB:8")
    run, plan = Run(capsys, *words), Run(capsys, *words, "--json").document
    assert "8 x 79.1GiB; each 79.1 GiB; their speed is not known here" in run.out
    by_name = Run(capsys, *words[:-1], "H100:8", "--json").document
    assert plan["max_tokens_that_fit"] == by_name["max_tokens_that_fit"]
    for length, named in zip(plan["lengths"], by_name["lengths"], strict=True):
        placed = length["placed"]
        assert placed["prefill_seconds"] is placed["decode_milliseconds"] is None
        assert {**placed, **_times(named["placed"])} == named["placed"]
    cells = [line.split() for line in run.out.splitlines()]
    assert [
        "2,097,152",
        "256",
        "GiB",
        "1.18",
        "EFLOP",
        "98%",
        "4",
        "4",
        "1",
        "1",
        "-",
        "-",
        "1",
    ] in cells


def _times(placed: dict[str, Any]) -> dict[str, Any]:
    return {name: placed[name] for name in ("prefill_seconds", "decode_milliseconds")}


def test_what_vllm_may_refuse_is_noted(mistral: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = (mistral, "--gpu", "A100-80", "--kv-dtype", "fp8", "--gpu-memory-utilization", "1")
    run, notes = Run(capsys, *words), Run(capsys, *words, "--json").document["notes"]
    assert len(notes) == 2
    assert all(note in run.out.splitlines() for note in notes)
    assert "assumed          100% of memory used" in run.out
    # Without a GPU named, kinds that need others' kernels for it are left out.
    fewest = Run(capsys, mistral, "--kv-dtype", "fp8", "--json").document["fewest"]
    kinds = {fewest_gpus["gpu"] for fewest_gpus in fewest}
    assert {gpu.name for gpu in GPUS} - kinds == {"T4", "A10", "A100-40", "A100-80"}


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--gpu", "V100"], "Unknown GPU 'V100': known are T4, L4"),
        (["--gpu", "V100"], "any other is named by the memory that CUDA reports for it, such as"),
        (["--gpu", "H100:0"], "--gpu is 'H100:0'; after the colon should be how many"),
        (["--gpu", "T4", "--kv-dtype", "fp8"], "it should be auto or float16"),
        (["--kv-dtype", "int3"], "--kv-dtype is 'int3'; it should be one of auto, bf16"),
        (["--nodes", "2"], "--nodes is given without --gpu"),
        (["--utilisation", "0.5"], "--utilisation is given without --gpu"),
        (["--factors", "llama2-7b-ft256k"], 'model.architecture is "LlamaForCausalLM"'),
        (["--factors", "/nowhere"], "/nowhere: cannot be read"),
        (["--factors", "x" * 300], "x: cannot be read: File name too long."),
    ],
)
def test_errors_are_one_sentence(
    words: list[str],
    sentence: str,
    as_json: bool,
    mistral: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = Run(capsys, mistral, *words, *(["--json"] if as_json else []))
    _is_one_sentence(run, sentence)


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "model/config.json: cannot be read: No such file"),
        ("{", "model/config.json: is not valid JSON"),
        ("[]", "model/config.json: should be a JSON object"),
        (
            '{"architectures": ["LlamaForCausalLM"], "num_attention_heads": null}',
            "model: The model's config has no num_att",
        ),
        ('{"architectures": ["DeepseekV3ForCausalLM"]}', "model: The model's architecture is \"De"),
        ("{}", "model: The model's architecture is null"),
    ],
)
def test_a_model_that_cannot_be_planned_is_named(
    content: str | None,
    sentence: str,
    as_json: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "model").mkdir()
    if content is not None:
        (tmp_path / "model" / "config.json").write_text(content)
    words = [str(tmp_path / "model"), *(["--json"] if as_json else [])]
    _is_one_sentence(Run(capsys, *words), sentence)


def test_a_path_that_is_no_model_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere, file = tmp_path / "nowhere", tmp_path / "model.gguf"
    file.touch()
    _is_one_sentence(Run(capsys, str(nowhere)), f"{nowhere} is neither a directory here nor a name")
    _is_one_sentence(Run(capsys, str(file)), f"{file} is neither a directory with a config.json")
    _is_one_sentence(Run(capsys, "x" * 300), "x is neither a directory here nor a name on the hub.")


@pytest.mark.parametrize(
    ("flag", "value", "limit"),
    [
        ("--nodes", "0", "greater than or equal to 1"),
        ("--utilisation", "0", "greater than or equal to 0.01"),
        ("--gpu-memory-utilization", "1.5", "less than or equal to 1"),
    ],
)
def test_an_option_out_of_range_is_named(
    flag: str, value: str, limit: str, mistral: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(capsys, mistral, "--gpu", "H100", flag, value)
    assert run.status == 2
    assert run.out == ""
    assert f"Invalid value for '{flag}': Input should be {limit}" in run.err


def test_a_cache_that_vllm_refuses_for_the_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {**configs.LLAMA2_7B, "quantization_config": {"quant_method": "fp8"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    words = (str(tmp_path), "--gpu", "H100:8", "--kv-dtype")
    _is_one_sentence(Run(capsys, *words, "fp8_e5m2"), "which vLLM refuses for a model whose weigh")
    assert Run(capsys, *words, "fp8").status == 0


def test_what_fits_nowhere_says_so(mistral: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = (mistral, "--gpu", "T4", "--gpu-memory-utilization", "0.01")
    run, plan = Run(capsys, *words), Run(capsys, *words, "--json")
    assert run.status == plan.status == 1
    assert "4,096 tokens do not fit on 1 x T4: no number of them would do." in run.out
    assert "longrope serve" not in run.out
    assert plan.document["max_tokens_that_fit"] == 0
    assert all(length["does_not_fit"] in run.out for length in plan.document["lengths"])


def _is_one_sentence(run: Run, sentence: str) -> None:
    assert run.status == 2
    assert run.out == ""
    assert run.err.startswith("longrope: ")
    assert sentence in run.err
    assert run.err.count("\n") == 1
