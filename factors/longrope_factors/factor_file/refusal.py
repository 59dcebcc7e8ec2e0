"""Why a factor file is refused: pydantic's errors as one sentence that names set and field."""

import re
from typing import Any

from pydantic import ValidationError

from longrope_factors.factor_file.files.strict_json import Place, shown


def sentence(error: ValidationError, document: Any) -> str:
    """The first problem that `error` reports in `document`, in words, without a full stop."""
    first = error.errors(include_url=False)[0]
    where = place_in_words(first["loc"], document)
    match first["type"]:
        case "value_error":
            reason = str(first["ctx"]["error"])
            return f"{where} is {shown(first['input'])}; {reason}" if first["loc"] else reason
        case "missing":
            return f"{where} is missing"
        case "extra_forbidden":
            return f"{where} is not a field of this format version"
        case "too_short":
            return f"{where} is empty; it should have at least one entry"
        case "model_type" | "dict_type":
            reason = "it should be an object"
        case "tuple_type":
            reason = "it should be an array"
        case _:
            reason = re.sub("^(Input|String) should", "it should", first["msg"])
    return f"{where} is {shown(first['input'])}; {reason}"


def place_in_words(place: Place, document: Any) -> str:
    """`place` in words; a set is named with its max_length, as in 'sets[1] (max_length 8): f'."""
    match place:
        case ("sets", int(index)):
            return _set_name(index, document)
        case ("sets", int(index), *rest):
            return f"{_set_name(index, document)}: {_dotted(tuple(rest))}"
    return _dotted(place)


def _set_name(index: int, document: Any) -> str:
    try:
        return f"sets[{index}] (max_length {shown(document['sets'][index]['max_length'])})"
    except (KeyError, TypeError, IndexError):
        return f"sets[{index}]"


def _dotted(place: Place) -> str:
    words = ""
    for step in place:
        if isinstance(step, int):
            words += f"[{step}]"
        else:
            name = step if re.fullmatch(r"\w{1,60}", step) else shown(step)
            words += f".{name}" if words else name
    return words
