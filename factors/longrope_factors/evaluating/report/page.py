"""Write results as one HTML page."""

import importlib.resources
from collections.abc import Iterable, Sequence
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from longrope_factors.evaluating.evaluation import Evaluation
from longrope_factors.evaluating.passkey import Retrieval
from longrope_factors.evaluating.report import sections, short_tasks
from longrope_factors.evaluating.report.commands import commands
from longrope_factors.evaluating.report.measured import Measured, read, told_apart
from longrope_factors.evaluating.report.sections import Section
from longrope_factors.evaluating.results import Result
from longrope_factors.evaluating.retrieval.results import Asking
from longrope_factors.factor_file.files.whole_file import replacing


def write(paths: Sequence[Path], output: Path, lm_eval: tuple[Path, Path] | None) -> None:
    """Write a page of the results in the files `paths`; the page loads nothing else.

    `lm_eval` are lm-eval's results of short tasks, before and after. Raises UsageError, naming the
    file, if one cannot be used or `output` cannot be written.
    """
    results = read(paths)
    measured = told_apart(results)
    # Autoescaping, because the names of models and texts may contain anything.
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.from_string(_file("page.html")).render(
        css=Markup(_file("page.css")),
        title=" and ".join(dict.fromkeys(result.model for result in results)),
        facts=_facts(results),
        effective=sections.effective(measured.of(Asking), measured.methods),
        sections=_sections(measured, lm_eval),
        commands="\n\n".join(commands(results)),
    )
    with replacing(output) as path:
        path.write_text(page, encoding="utf-8")


def _facts(results: Sequence[Result]) -> list[tuple[str, str]]:
    dates = sorted({result.date for result in results})
    return [
        ("weights, SHA-256", _all(result.weights_sha256[:16] for result in results)),
        ("dtype", _all(result.dtype for result in results)),
        ("device", _all(result.device for result in results)),
        ("measured", " to ".join(dict.fromkeys((dates[0], dates[-1])))),
        ("longrope", _all(result.tool_version for result in results)),
    ]


def _sections(measured: Measured, lm_eval: tuple[Path, Path] | None) -> list[Section]:
    methods = measured.methods
    content = []
    if askings := measured.of(Asking):
        content.append(sections.retrieval(askings, methods))
    if evaluations := measured.of(Evaluation):
        content.append(sections.perplexity(evaluations, methods))
    if retrievals := measured.of(Retrieval):
        content.append(sections.passkey(retrievals, methods))
    short = short_tasks.section(measured, lm_eval)
    return [*content, short] if short.tables else content


def _all(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))


def _file(name: str) -> str:
    return importlib.resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
