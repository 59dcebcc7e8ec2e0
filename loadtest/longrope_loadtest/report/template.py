"""Render the pages for people: a template of a package, in the frame and with the parts of all."""

import importlib.resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def render(package: str, name: str, **content: Any) -> str:
    """The page that template `name` of `package` makes of its content.

    Every page needs `source` (the command), `title`, and `facts`, pairs of a name and a value.
    """
    # Autoescaping, because class names and the server's messages may contain anything.
    environment = Environment(
        loader=PackageLoader("longrope_loadtest.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.from_string(_file(package, name))
    return template.render(css=Markup(_file("longrope_loadtest.report", "page.css")), **content)


def _file(package: str, name: str) -> str:
    return (importlib.resources.files(package) / name).read_text(encoding="utf-8")
