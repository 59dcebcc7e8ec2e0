"""The table of examples/README.md."""

import re

from tests.examples.running import EXAMPLES


def test_the_table_has_every_example() -> None:
    named = re.findall(r"^\| \[`([^`]+)`\]", (EXAMPLES / "README.md").read_text(), re.MULTILINE)
    assert sorted(named) == sorted(
        file.name for file in EXAMPLES.iterdir() if file.suffix in (".py", ".sh", ".yaml")
    )
