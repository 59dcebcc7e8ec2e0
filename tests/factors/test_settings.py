"""Settings are said once: what the documentation says of them is made from them."""

from pathlib import Path

from tools import settings_tables

EXTENDING = Path(__file__).parents[2] / "docs" / "extending.md"


def test_the_documentation_has_the_settings_as_they_are() -> None:
    table = "\n".join(settings_tables.lines())
    assert table in EXTENDING.read_text(encoding="utf-8"), "run python -m tools.settings_tables"


def test_every_setting_says_what_it_is() -> None:
    for section in settings_tables.SECTIONS.values():
        for name, field in section.model_fields.items():
            assert field.description, name
