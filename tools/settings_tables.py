"""`python -m tools.settings_tables`: the tables of settings in docs/extending.md, as Markdown."""

from collections.abc import Iterator

from longrope_factors.finetuning.settings import TrainingSettings
from longrope_factors.search.settings import Settings, SpaceSettings
from longrope_factors.settings import MachineSection, Section, rows

SECTIONS: dict[str, type[Section]] = {
    "search": Settings,
    "space": SpaceSettings,
    "finetune": TrainingSettings,
    "machine": MachineSection,
}


def lines() -> Iterator[str]:
    """One table of all sections."""
    yield "| section | setting | default | |"
    yield "|---|---|---|---|"
    for name, section in SECTIONS.items():
        label = f"`[{name}]`"
        for setting, default, meaning in rows(section):
            yield f"| {label} | `{setting}` | {default} | {meaning} |"
            label = ""


if __name__ == "__main__":
    print(*lines(), sep="\n")
