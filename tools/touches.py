"""`python -m tools.touches`: the table of docs/upstream.md, as Markdown."""

from collections.abc import Iterator

from longrope_plugin.compat import hooks, names
from longrope_plugin.compat.touch import Touch
from longrope_server.front_end.vllm_patches import check


def touches() -> Iterator[Touch]:
    """Every private name of vLLM's that we use, once."""
    connectors = (touch for group in names.CONNECTOR_TOUCHES.values() for touch in group)
    yield from dict.fromkeys(
        (
            *hooks.TOUCHES,
            *names.TOUCHES.values(),
            *names.STALE_TOUCHES.values(),
            *names.PAUSE_TOUCHES.values(),
            *connectors,
            *check.TOUCHES,
        )
    )


def lines() -> Iterator[str]:
    """One table, grouped by what would retire a touch."""
    yield "| goes when | private name | without it |"
    yield "|---|---|---|"
    groups: dict[str, list[Touch]] = {}
    for touch in touches():
        groups.setdefault(touch.until, []).append(touch)
    for until, group in groups.items():
        label = until
        for touch in group:
            name = f"{touch.module.removeprefix('vllm.')}.{touch.name}"
            yield f"| {label} | `{name}` | {touch.why} |"
            label = ""


if __name__ == "__main__":
    print(*lines(), sep="\n")
