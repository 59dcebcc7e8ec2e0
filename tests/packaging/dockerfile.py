"""A Dockerfile as data: enough of its grammar for ours."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Instruction:
    """One instruction: `COPY`, and what follows it with continuation lines joined."""

    name: str
    rest: str

    @property
    def words(self) -> list[str]:
        """What follows as words; the JSON form is a list already."""
        return json.loads(self.rest) if self.rest.startswith("[") else shlex.split(self.rest)

    @property
    def source_stage(self) -> str | None:
        """The stage that a COPY takes from; None for the build context."""
        match = re.match(r"--from=(\S+)", self.rest)
        return match[1] if match else None

    @property
    def sources(self) -> list[str]:
        """What a COPY copies."""
        return [word for word in self.words if not word.startswith("--")][:-1]


@dataclass
class Stage:
    """`base` is an image, or an earlier stage's name."""

    name: str
    base: str
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, name: str) -> list[Instruction]:
        """The instructions of one name."""
        return [instruction for instruction in self.instructions if instruction.name == name]


def read(path: Path) -> dict[str, Stage]:
    """The stages by name, in their order. Variables of `ARG` are put in where `FROM` uses them."""
    arguments: dict[str, str] = {}
    stages: dict[str, Stage] = {}
    stage: Stage | None = None
    for instruction in _instructions(path.read_text(encoding="utf-8")):
        if instruction.name == "ARG" and stage is None:
            name, _, value = instruction.rest.partition("=")
            arguments[name] = value
        elif instruction.name == "FROM":
            base, _, name = instruction.rest.partition(" AS ")
            for key, value in arguments.items():
                base = base.replace(f"${{{key}}}", value)
            stage = stages[name] = Stage(name, base)
        else:
            assert stage is not None, f"{path}: {instruction.name} stands before the first FROM"
            stage.instructions.append(instruction)
    return stages


def lineage(stages: dict[str, Stage], name: str) -> list[Stage]:
    """The stage and those that it stands on, the lowest first."""
    found = [stages[name]]
    while found[0].base in stages:
        found.insert(0, stages[found[0].base])
    return found


def _instructions(text: str) -> Iterator[Instruction]:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    for line in joined.splitlines():
        name, _, rest = line.partition(" ")
        yield Instruction(name, rest.strip())
