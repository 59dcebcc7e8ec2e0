"""The command lines that serve a model as a plan says."""

import shlex
from dataclasses import dataclass

from longrope_server.plan import cost
from longrope_server.plan.fitting import machines_of
from longrope_server.plan.gpus import Cluster
from longrope_server.plan.layouts import Layout

RAY_PORT = 6379
FIRST, OTHERS = "on the first machine", "on each other machine"


@dataclass(frozen=True)
class Line:
    """A command line and the machines that it is for."""

    where: str
    line: str


@dataclass(frozen=True)
class Served:
    """The part of a `longrope serve` command that does not depend on the length, as given."""

    model: str
    factors: str | None
    kv_dtype: str
    memory_share: float
    trust_remote_code: bool = False


def lines(served: Served, cluster: Cluster, layout: Layout, tokens: int) -> list[Line]:
    """What to run, in this order, to serve requests of up to `tokens` tokens.

    Several machines need a Ray cluster first: vLLM's own default reaches one machine only.
    """
    serve = shlex.join(_serve(served, cluster, layout, tokens))
    machines = machines_of(layout, cluster.per_node)
    if machines == 1:
        return [Line(FIRST, serve)]
    gpus = f"--num-gpus={cluster.per_node}"
    return [
        Line(FIRST, f"ray start --head --port={RAY_PORT} {gpus}"),
        Line(OTHERS, f"ray start --address=FIRST_MACHINE:{RAY_PORT} {gpus}"),
        Line(FIRST, f"{serve} --distributed-executor-backend ray"),
    ]


def _serve(served: Served, cluster: Cluster, layout: Layout, tokens: int) -> list[str]:
    words = ["longrope", "serve", served.model]
    if served.factors is not None:
        words += ["--factors", served.factors]
    words += ["--max-model-len", str(tokens)]
    for flag, size in (
        ("tensor-parallel-size", layout.tp),
        ("pipeline-parallel-size", layout.pp),
        ("decode-context-parallel-size", layout.dcp),
    ):
        if size > 1:
            words += [f"--{flag}", str(size)]
    if served.kv_dtype != "auto":
        # vLLM knows bfloat16 by its long name only.
        words += ["--kv-cache-dtype", {"bf16": "bfloat16"}.get(served.kv_dtype, served.kv_dtype)]
    if served.trust_remote_code:
        words.append("--trust-remote-code")
    words += ["--max-num-seqs", str(cost.sequences(tokens))]
    words += ["--max-num-batched-tokens", str(cluster.gpu.chunk)]
    return [*words, "--gpu-memory-utilization", f"{served.memory_share:g}"]
