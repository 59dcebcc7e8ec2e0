"""Settings that have no option, in a file for --settings."""

import hashlib
import json
from pathlib import Path
from typing import Any


def written(folder: Path, **sections: dict[str, Any]) -> Path:
    """A TOML file in `folder` with these sections."""
    text = "".join(
        f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
        for name, values in sections.items()
    )
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:8]}.toml"
    path.write_text(text)
    return path
