"""YAML with text as keys, and the numbers of YAML 1.2 (its core schema), which include JSON's.

PyYAML reads YAML 1.1: 1_5 is 15, 1:30 is 90, 010 is 8, and 1e3 is text; a class `no` is false.
"""

import re
from typing import Any

import yaml

INTEGER, FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
TEXT = "tag:yaml.org,2002:str"
INTEGERS = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
FLOATS = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)


class _Loader(yaml.SafeLoader):
    """A safe loader with the numbers of YAML 1.2, and with keys as they are written."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merge what `<<` names, and make text of the keys."""
        super().flatten_mapping(node)
        node.value = [
            (yaml.ScalarNode(TEXT, key.value) if isinstance(key, yaml.ScalarNode) else key, value)
            for key, value in node.value
        ]


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
