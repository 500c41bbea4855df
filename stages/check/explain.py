"""Say what is wrong with a block: the key, the value found, and what is allowed."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

LONGEST_VALUE = 80


def problems_of(block: Any, key: str, schema: Any) -> list[str]:
    """Validate a block; one line for each thing that is wrong with it."""
    try:
        TypeAdapter(schema).validate_python(block)
    except ValidationError as error:
        return [_line(key, problem, schema) for problem in error.errors()]
    return []


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?`, or nothing when no known name is close."""
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f" Did you mean '{close[0]}'?" if close else ""


def shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."


def listed(names: Iterable[str]) -> str:
    return ", ".join(map(str, names)) or "(none)"


def _line(key: str, problem: Any, schema: Any) -> str:
    loc = [part for part in problem["loc"] if part != "[key]"]
    where = ".".join([key, *map(str, loc)])
    if problem["type"] == "extra_forbidden":
        known = _known_keys(schema, loc[:-1])
        hint = did_you_mean(str(loc[-1]), known)
        return f"'{where}' is not a parameter.{hint} Allowed here: {listed(known)}"
    if problem["type"] == "missing":
        return f"'{where}' is missing"
    message = problem["msg"].removeprefix("Value error, ")
    return f"'{where}' = {shown(problem['input'])}: {message}"


def _known_keys(schema: Any, loc: Sequence[str | int]) -> list[str]:
    """Keys that a schema allows at a place inside it."""
    root = TypeAdapter(schema).json_schema()
    node = _resolved(root, root)
    for part in loc:
        inner = node.get("properties", {}).get(part)
        inner = inner or node.get("additionalProperties") or node.get("items")
        if not isinstance(inner, dict):
            return []
        node = _resolved(inner, root)
    return list(node.get("properties", {}))


def _resolved(node: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """Follow a reference, and through `X | None` to X."""
    for option in node.get("anyOf", []):
        if option.get("type") != "null":
            return _resolved(option, root)
    if "$ref" in node:
        return _resolved(root["$defs"][node["$ref"].rsplit("/", 1)[-1]], root)
    return node


def at(block: Any, *keys: str) -> Any:
    """What lies at a path of keys; None where something on the way is missing."""
    for key in keys:
        block = block.get(key) if isinstance(block, dict) else None
    return block


def mapping(block: Any) -> dict[str, Any]:
    """A mapping; an empty one where it is none, of which its schema complains."""
    return block if isinstance(block, dict) else {}


def items(block: Any) -> list[Any]:
    """A list; an empty one where it is none, of which its schema complains."""
    return block if isinstance(block, list) else []
