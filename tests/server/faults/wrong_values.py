"""Requests with a wrong value in one field, made from a server's own /openapi.json.

The bodies are bytes: JSON that no client's library writes is among the values.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

HOLE = "<the wrong value>"
DEEPEST = 3  # fields of fields of fields
NESTED_LIMIT = 1000

CHAT = [{"role": "user", "content": "a"}]
# A valid body of every route that takes one: the least that generates something.
VALID: dict[str, list[dict[str, Any]]] = {
    "/tokenize": [{"prompt": "a"}, {"messages": CHAT}],
    "/detokenize": [{"tokens": [1]}],
    "/v1/chat/completions": [{"messages": CHAT, "max_tokens": 2}],
    "/v1/chat/completions/batch": [{"messages": [CHAT], "max_tokens": 2}],
    "/v1/responses": [{"input": "a", "max_output_tokens": 2}],
    "/v1/completions": [{"prompt": "a", "max_tokens": 2}],
    "/v1/messages": [{"messages": CHAT, "max_tokens": 2}],
    "/v1/messages/count_tokens": [{"messages": CHAT}],
    "/generative_scoring": [
        {"query": "a", "items": ["b"], "label_token_ids": [1], "apply_softmax": True}
    ],
}
# Takes the bodies of these two; its own schema says nothing.
INVOCATIONS = "/invocations"
INVOKED = ("/v1/chat/completions", "/v1/completions")

VALUES: dict[str, bytes] = {
    "null": b"null",
    "true": b"true",
    "zero": b"0",
    "minus one": b"-1",
    "a fraction": b"1.5",
    "a large number": b"1000000",
    "past 32 bits": b"4294967296",
    "past 64 bits": b"18446744073709551616",
    "past minus 64 bits": b"-9223372036854775809",
    "400 digits": b"9" * 400,
    "past a double": b"1e400",
    "a denormal": b"5e-324",
    "the largest double": b"1.7976931348623157e308",
    "NaN": b"NaN",
    "minus infinity": b"-Infinity",
    "an empty text": b'""',
    "a text": b'"a"',
    "a NUL": b'"\\u0000"',
    "a lone surrogate": b'"\\ud800"',
    "half a pair": b'"\\udc00\\ud800"',
    "a surrogate's bytes": b'"\xed\xa0\x80"',
    "no UTF-8": b'"\xff"',
    "an empty list": b"[]",
    "a list of null": b"[null]",
    "a list of texts": b'["a", ""]',
    "a list of surrogates": b'["\\udfff"]',
    "a list of numbers": b"[0, -1, 4294967296]",
    "a list of objects": b"[{}]",
    "lists of lists": b"[[], [[]]]",
    "an empty object": b"{}",
    "an object": b'{"a": 1, "": null}',
    "numbers by name": b'{"1": 1, "-1": 0.5, "99999999999999999999": 1}',
    "a surrogate for a name": b'{"\\ud800": 1}',
    "deep lists": b"[" * NESTED_LIMIT + b"]" * NESTED_LIMIT,
    "deep objects": b'{"a":' * NESTED_LIMIT + b"1" + b"}" * NESTED_LIMIT,
    "a schema 300 deep": b'{"type":"object","properties":{"a":' * 150 + b"{}" + b"}}" * 150,
}


@dataclass(frozen=True)
class Case:
    """One request. field: where the wrong value stands, dots and brackets as in Python."""

    path: str
    field: str
    value: str
    body: bytes

    def __str__(self) -> str:
        return f"{self.path} {self.field} = {self.value}"


def cases(openapi: dict[str, Any]) -> Iterator[Case]:
    """Every value in every field of every POST route that has a JSON body."""
    schemas = openapi["components"]["schemas"]
    known = {}
    for path, methods in openapi["paths"].items():
        content = methods.get("post", {}).get("requestBody", {}).get("content", {})
        if (schema := content.get("application/json", {}).get("schema")) is not None:
            known[path] = list(_holes(schema, schemas, DEEPEST))
    missing = known.keys() ^ VALID.keys()
    assert not missing, f"VALID does not have the routes of this server: {missing}"
    for path, holes in known.items():
        for valid in VALID[path]:
            yield from _filled(path, valid, holes)
    for path in INVOKED:
        yield from _filled(INVOCATIONS, VALID[path][0], known[path])


def _filled(path: str, valid: dict[str, Any], holes: list[tuple[str, Any]]) -> Iterator[Case]:
    for field, changes in holes:
        template = json.dumps({**valid, **changes}).encode()
        before, hole, after = template.partition(json.dumps(HOLE).encode())
        assert hole, field
        for name, value in VALUES.items():
            yield Case(path, field, name, before + value + after)


def _holes(schema: Any, schemas: Any, depth: int) -> Iterator[tuple[str, Any]]:
    """Objects of this schema with HOLE in one field, each with the field's name."""
    seen = set()
    for branch in _branches(schema, schemas):
        example = _example(branch, schemas)
        for name, field in branch.get("properties", {}).items():
            for inner, value in [("", HOLE), *_inside(field, schemas, depth - 1)]:
                filled = {**example, name: value}
                if (text := json.dumps(filled, sort_keys=True)) not in seen:
                    seen.add(text)
                    yield f"{name}{inner}", filled


def _inside(schema: Any, schemas: Any, depth: int) -> Iterator[tuple[str, Any]]:
    """Values of this schema with HOLE somewhere inside."""
    if depth == 0:
        return
    for branch in _branches(schema, schemas):
        if "properties" in branch:
            for name, value in _holes(branch, schemas, depth):
                yield f".{name}", value
        elif branch.get("type") == "array":
            yield "[0]", [HOLE]
            for name, value in _inside(branch.get("items", {}), schemas, depth):
                yield f"[0]{name}", [value]
        elif branch.get("type") == "object":
            yield ".a", {"a": HOLE}


def _branches(schema: Any, schemas: Any) -> Iterator[dict[str, Any]]:
    """The alternatives of a schema, references resolved."""
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    unions = [schema[kind] for kind in ("anyOf", "oneOf", "allOf") if kind in schema]
    if not unions:
        yield schema
    for union in unions:
        for branch in union:
            yield from _branches(branch, schemas)


def _example(schema: Any, schemas: Any, depth: int = 4) -> Any:
    """A small value of this schema."""
    branch = next(_branches(schema, schemas))
    if "const" in branch or "enum" in branch:
        return branch.get("const", *branch.get("enum", [])[:1])
    match branch.get("type"):
        case "object" if depth:
            fields = branch.get("properties", {})
            return {
                name: _example(fields.get(name, {}), schemas, depth - 1)
                for name in branch.get("required", ())
            }
        case "array" if depth and branch.get("minItems"):
            return [_example(branch.get("items", {}), schemas, depth - 1)]
        case kind:
            values = {"string": "a", "integer": 1, "number": 1, "boolean": True, "null": None}
            return {"object": {}, "array": [], **values}.get(str(kind), "a")
