"""Carries out the Dockerfile's steps without Docker: a chroot for each stage, for root on Linux.

Then it starts what was built as Kubernetes would: as a user without rights, on a file system that
cannot be written, as process 1 of its own process and network namespaces.
`scripts/docker-steps-check` runs this.

In place of the base image (`python:3.11-slim-bookworm`) there is a Debian bookworm with Debian's
Python 3.11: no registry of images is asked.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.packaging import dockerfile
from tests.packaging.dockerfile import Instruction, Stage

ROOT = Path(__file__).parents[2]
SUITE = "bookworm"
PYTHON_PACKAGES = ("python3.11-venv", "python3.11-dev")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# How this machine reaches package registries, which a build has to do.
REGISTRY_VARIABLES = ("PIP_", "UV_", "SSL_CERT_", "http_proxy", "https_proxy", "no_proxy")
CERTIFICATES = "/etc/ssl/certs"
# As in deploy/kubernetes; nothing in /tmp can be executed, as with Docker's --tmpfs.
WRITABLE = {"/tmp": "mode=1777,noexec", "/dev/shm": "mode=1777", "/var/cache/longrope": "mode=1777"}
COMMANDS = (
    "id -u",
    "longrope version",
    "longrope loadtest profiles",
    "longrope factors library list",
    "longrope serve --help",
)
# Seconds. A CPU server starts within minutes on two cores, most of which are for compiling.
START, STOP = 900, 120


def namespaced(
    root: Path, words: list[str], variables: dict[str, str], *, image: bool, workdir: str = "/"
) -> subprocess.Popen[bytes]:
    """Starts `words` in the chroot `root`, as process 1; its mounts end with it.

    image: as a container of the image runs, not as one of its build steps.
    """
    inside = shlex.quote(str(root))
    script = [f"mount --bind {inside} {inside}", f"mount -t proc proc {inside}/proc"]
    if image:
        script.append(f"mount -t sysfs -o ro sysfs {inside}/sys")
        script.append(f"mount -o remount,ro,bind {inside}")
        for path, options in WRITABLE.items():
            script.append(f"mount -t tmpfs -o {options} tmpfs {inside}{path}")
        script.append("ip link set lo up")
    else:
        for path in (CERTIFICATES, *_links(variables)):
            (root / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
            script.append(f"mount --bind {shlex.quote(path)} {inside}{shlex.quote(path)}")
    user = "1000:1000" if image else "0:0"
    environment = [f"{name}={value}" for name, value in variables.items()]
    command = ["env", "--ignore-environment", f"--chdir={workdir}", *environment, *words]
    script.append(f"exec chroot --userspec={user} {inside} {shlex.join(command)}")
    spaces = ["--mount", "--pid", "--fork", "--kill-child", *(["--net", "--ipc"] if image else [])]
    return subprocess.Popen(["unshare", *spaces, "sh", "-euc", "\n".join(script)])


def run(root: Path, words: list[str], variables: dict[str, str], **how: object) -> None:
    """As `namespaced`, waits, and raises CalledProcessError if it fails."""
    status = namespaced(root, words, variables, **how).wait()  # type: ignore[arg-type]
    if status:
        raise subprocess.CalledProcessError(status, words)


def _links(variables: dict[str, str]) -> list[str]:
    return [link for link in variables.get("PIP_FIND_LINKS", "").split() if Path(link).is_dir()]


class Build:
    """Stages that were built, below `work`. base: stands for the base image.

    links: whether pip may look at this machine's own links (the CPU build of torch is there).
    """

    def __init__(self, stages: dict[str, Stage], base: Path, work: Path, links: bool) -> None:
        self.stages = stages
        self.base = base
        self.work = work
        self.registries = {
            name: value
            for name, value in os.environ.items()
            if name.startswith(REGISTRY_VARIABLES) and (links or name != "PIP_FIND_LINKS")
        }
        self.built: dict[str, tuple[Path, dict[str, str], str]] = {}

    def stage(self, name: str) -> tuple[Path, dict[str, str], str]:
        """Root, environment and working directory of a stage, built if it was not yet."""
        if name not in self.built:
            stage = self.stages[name]
            variables, workdir = {"PATH": PATH}, "/"
            source = self.base
            if stage.base in self.stages:
                source, variables, workdir = self.stage(stage.base)
            root = self.work / name
            subprocess.run(["cp", "--archive", "--reflink=auto", source, root], check=True)
            variables = dict(variables)
            for instruction in stage.instructions:
                workdir = self.carry_out(instruction, root, variables, workdir)
            self.built[name] = root, variables, workdir
        return self.built[name]

    def carry_out(
        self, instruction: Instruction, root: Path, variables: dict[str, str], workdir: str
    ) -> str:
        """One instruction; returns the working directory after it."""
        print(f"+ {root.name}: {instruction.name} {instruction.rest}", flush=True)
        if instruction.name == "WORKDIR":
            workdir = instruction.rest
            (root / workdir.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif instruction.name == "ENV":
            for word in instruction.words:
                name, _, value = word.partition("=")
                variables[name] = value.replace("$PATH", variables["PATH"])
        elif instruction.name == "COPY":
            self._copy(instruction, root, workdir)
        elif instruction.name == "RUN":
            words = ["sh", "-c", instruction.rest]
            run(root, words, {**self.registries, **variables}, image=False, workdir=workdir)
        return workdir

    def _copy(self, instruction: Instruction, root: Path, workdir: str) -> None:
        stage = instruction.source_stage
        context = self.stage(stage)[0] if stage else ROOT
        target = root / Path(workdir, instruction.words[-1]).as_posix().lstrip("/")
        for source in instruction.sources:
            found = context / source.lstrip("/")
            ignored = shutil.ignore_patterns("__pycache__", "recipes") if stage is None else None
            if found.is_dir():
                shutil.copytree(found, target, symlinks=True, ignore=ignored, dirs_exist_ok=True)
            else:
                into = target / found.name if instruction.words[-1].endswith("/") else target
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(found, into / found.name if into.is_dir() else into)


def make_base(base: Path) -> None:
    """A Debian with Python, as the base image has it."""
    if shutil.which("debootstrap") is None:
        sys.exit("docker-steps-check: debootstrap is not installed (apt install debootstrap).")
    print(f"+ debootstrap {SUITE} with {', '.join(PYTHON_PACKAGES)}", flush=True)
    quiet = {"stdout": subprocess.DEVNULL}
    words = ["debootstrap", "--variant=minbase", "--include=ca-certificates", SUITE, str(base)]
    subprocess.run(words, check=True, **quiet)  # type: ignore[call-overload]
    install = "apt-get -qq update && apt-get -qq install --no-install-recommends --yes "
    run(base, ["sh", "-c", install + " ".join(PYTHON_PACKAGES)], {"PATH": PATH}, image=False)


def serve(root: Path, workdir: str, target: list[Stage], variables: dict[str, str]) -> None:
    """Starts the image's server, asks its health check, and stops it as Kubernetes does."""
    steps = [step for stage in target for step in stage.instructions]
    (entry,) = [step for step in steps if step.name == "ENTRYPOINT"]
    (check,) = [step for step in steps if step.name == "HEALTHCHECK"]
    health = Instruction("CMD", check.rest.partition("CMD ")[2]).words
    ready = [word.replace("/health", "/ready") for word in health]

    words = [*entry.words, "--max-model-len=2048"]
    print(f"+ {shlex.join(words)}", flush=True)
    started = time.monotonic()
    # No network, as an address outside is not needed either.
    variables = {**variables, "VLLM_HOST_IP": "127.0.0.1", "VLLM_NO_USAGE_STATS": "1"}
    server = namespaced(root, words, variables, image=True, workdir=workdir)
    environment = [f"{name}={value}" for name, value in variables.items()]

    def ask(question: list[str], quiet: bool) -> bool:
        enter = ["nsenter", "--target", str(process), "--mount", "--pid", "--net"]
        inside = ["chroot", "--userspec=1000:1000", str(root), "env", "-i", *environment]
        errors = subprocess.DEVNULL if quiet else None
        return subprocess.run([*enter, *inside, *question], stderr=errors).returncode == 0

    try:
        process = _child(server.pid)
        while not ask(health, quiet=True):
            if server.poll() is not None or time.monotonic() - started > START:
                sys.exit(f"docker-steps-check: the server is not healthy ({server.poll()}).")
            time.sleep(2)
        print(f"+ healthy after {time.monotonic() - started:.0f} s; SIGTERM to process 1")
        if not ask(ready, quiet=False):
            sys.exit("docker-steps-check: healthy, but not ready.")
        os.kill(process, 15)
        status = server.wait(STOP)
        print(f"+ stopped with status {status}", flush=True)
        if status:
            sys.exit("docker-steps-check: a server that is stopped should exit with status 0.")
    finally:
        server.kill()


def _child(pid: int) -> int:
    """The process that `unshare --fork` has made: process 1 in its namespace."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    deadline = time.monotonic() + 10
    while not (found := children.read_text().split()):
        if time.monotonic() > deadline:
            sys.exit("docker-steps-check: the server's process does not appear.")
        time.sleep(0.05)
    return int(found[0])


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="scripts/docker-steps-check", description=__doc__)
    parser.add_argument("target", nargs="?", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--base", type=Path, help="keep the Debian here, for the next time")
    chosen = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("docker-steps-check: only root may make chroots; with Docker, `docker build`.")
    stages = dockerfile.read(ROOT / "Dockerfile")
    with tempfile.TemporaryDirectory(prefix="docker-steps-", dir="/var/tmp") as directory:
        work = Path(directory)
        work.chmod(0o755)  # user 1000 has to pass
        base: Path = chosen.base or work / "base"
        if not base.exists():
            make_base(base)
        build = Build(stages, base, work, links=chosen.target == "cpu")
        root, variables, workdir = build.stage(chosen.target)
        for command in COMMANDS:
            print(f"+ {command}", flush=True)
            run(root, shlex.split(command), variables, image=True, workdir=workdir)
        if chosen.target == "cpu":
            serve(root, workdir, dockerfile.lineage(stages, "cpu"), variables)
    print("docker-steps-check: passed")


if __name__ == "__main__":
    main()
