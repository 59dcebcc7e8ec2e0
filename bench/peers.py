"""`python -m bench.peers`: our figures beside other harnesses', one server, one workload.

The server is `longrope serve` with the embedded model. One user sends requests of equal length one
after another: `longrope loadtest`, `vllm bench serve` and guidellm take turns, so that what else
the machine does falls on all of them. With `--turns`, the requests are turns of conversations,
which `vllm bench serve` does not send. guidellm's packages are its own: it lives in a virtual
environment beside ours, which `scripts/bench-peers` makes.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Annotated

import typer
import yaml
from longrope_server.serve.embedded import SERVED_NAMES, model_directory
from rich.console import Console
from rich.table import Table

from bench.servers import FLAGS, OURS, running

MODEL = SERVED_NAMES[0]
PROMPT, OUTPUT = 200, 24  # tokens; of a conversation, those that a turn adds
VLLM = (
    "from vllm.benchmarks.serve import add_cli_args, main\n"
    "from vllm.utils.argparse_utils import FlexibleArgumentParser\n"
    "parser = FlexibleArgumentParser()\n"
    "add_cli_args(parser)\n"
    "main(parser.parse_args())"
)
LOADTEST, BENCH, GUIDELLM = "longrope loadtest", "vllm bench serve", "guidellm"
Medians = tuple[float, float]  # TTFT and TPOT, milliseconds


def main(
    guidellm: Annotated[Path, typer.Option(help="guidellm's command.")],
    rounds: Annotated[int, typer.Option(min=1)] = 4,
    requests: Annotated[int, typer.Option(min=4, help="Of each harness in each round.")] = 12,
    turns: Annotated[int, typer.Option(min=1, help="Of each conversation; 1: none.")] = 1,
) -> None:
    """Print the medians of TTFT and TPOT that each harness reports, and ours over theirs."""
    seen: dict[str, list[Medians]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        with running(OURS, ["serve", *FLAGS]) as url:
            for number in range(rounds):
                where = place / str(number)
                where.mkdir()
                seen[LOADTEST].append(_ours(url, where, requests, turns, seed=number))
                if turns == 1:
                    seen[BENCH].append(_vllm_bench(url, where, requests, seed=100 + number))
                seen[GUIDELLM].append(
                    _guidellm(guidellm, url, where, requests, turns, 200 + number)
                )
    table = Table("harness", "TTFT p50", "ours over it", "TPOT p50", "ours over it")
    medians = {
        harness: tuple(
            statistics.median(round_medians[at] for round_medians in found) for at in (0, 1)
        )
        for harness, found in seen.items()
    }
    for harness, (ttft, tpot) in medians.items():
        table.add_row(
            harness,
            f"{ttft:.1f} ms",
            f"{medians[LOADTEST][0] / ttft:.3f}",
            f"{tpot:.2f} ms",
            f"{medians[LOADTEST][1] / tpot:.3f}",
        )
    Console().print(table)
    print(json.dumps(seen))


def _ours(url: str, where: Path, requests: int, turns: int, seed: int) -> Medians:
    profile = where / "profile.yaml"
    words = {"kind": "words", "tokens": PROMPT}
    talk = {"kind": "conversation", "tokens": PROMPT, "growth": PROMPT, "turns": turns}
    request_class = {
        "api": "completions" if turns == 1 else "chat",
        "prompt": words if turns == 1 else talk,
        "output_tokens": OUTPUT,
        "extra": {"temperature": 0, "ignore_eos": True},
    }
    closed = {"kind": "closed", "users": 1, "requests": requests // turns}
    profile.write_text(yaml.safe_dump({"arrivals": closed, "classes": {"only": request_class}}))
    arguments = ["loadtest", "run", profile, "--url", url, "-o", where / "ours", "--seed", seed]
    _run([Path(sys.executable).with_name("longrope"), *arguments])
    latency = json.loads((where / "ours" / "result.json").read_text())["figures"]["only"]["latency"]
    return 1000 * latency["ttft"]["p50"], 1000 * latency["tpot"]["p50"]


def _vllm_bench(url: str, where: Path, requests: int, seed: int) -> Medians:
    words = f"""--backend openai --endpoint /v1/completions --base-url {url} --model {MODEL}
        --tokenizer {model_directory()} --dataset-name random --random-input-len {PROMPT}
        --random-output-len {OUTPUT} --num-prompts {requests} --max-concurrency 1 --ignore-eos
        --temperature 0 --seed {seed} --num-warmups 0
        --save-result --result-dir {where} --result-filename vllm.json"""
    _run([sys.executable, "-c", VLLM, *words.split()])
    result = json.loads((where / "vllm.json").read_text())
    return result["median_ttft_ms"], result["median_tpot_ms"]


def _guidellm(
    command: Path, url: str, where: Path, requests: int, turns: int, seed: int
) -> Medians:
    """guidellm calls our TPOT inter-token latency: its own TPOT counts the first token in."""
    backend = {
        "kind": "openai_http",
        "target": url,
        "model": MODEL,
        "request_format": "/v1/completions" if turns == 1 else "/v1/chat/completions",
        "extras": {"body": {"temperature": 0, "ignore_eos": True}},
    }
    data = {
        "kind": "synthetic_text",
        "prompt_tokens": PROMPT,
        "output_tokens": OUTPUT,
        "turns": turns,
    }
    words = f"""--disable-console --profile kind=synchronous --seed kind=static,value={seed}
        --constraint kind=max_requests,count={requests // turns * turns}
        --tokenizer kind=huggingface_auto,model={model_directory()}
        --output kind=json,path={where / "guidellm.json"}"""
    data_words = ["--backend", json.dumps(backend), "--data", json.dumps(data)]
    _run([command, "run", *data_words, *words.split()])
    metrics = json.loads((where / "guidellm.json").read_text())["benchmarks"][0]["metrics"]
    return (
        metrics["time_to_first_token_ms"]["successful"]["median"],
        metrics["inter_token_latency_ms"]["successful"]["median"],
    )


def _run(command: list[object]) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command[0]} failed:\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}")


if __name__ == "__main__":
    typer.run(main)
