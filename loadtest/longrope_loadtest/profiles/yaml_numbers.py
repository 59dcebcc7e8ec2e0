"""YAML with the numbers of YAML 1.2 (its core schema), which include those of JSON.

PyYAML reads numbers as in YAML 1.1: 1_5 as 15, 1:30 as 90, 010 as 8, and 1e3 as text.
"""

import re
from typing import Any

import yaml

INTEGER, FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
INTEGERS = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
FLOATS = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)


class _Loader(yaml.SafeLoader):
    """A safe loader with the numbers of YAML 1.2."""


def load(text: str) -> Any:
    """The document in `text`.

    Raises:
        yaml.YAMLError: It is not YAML.
        ValueError: An integer has more than 4,300 digits.
        RecursionError: It is nested too deeply.
    """
    return yaml.load(text, _Loader)  # a SafeLoader


def _integer(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in (INTEGER, FLOAT)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
# The first pattern that matches decides.
for _tag, _pattern in ((INTEGER, INTEGERS), (FLOAT, FLOATS)):
    _whole = re.compile(f"(?:{_pattern.pattern})$")
    _Loader.add_implicit_resolver(_tag, _whole, list("-+.0123456789"))
_Loader.add_constructor(INTEGER, _integer)
