"""What the `tune` block says of methods, their parameters and scenarios."""

from typing import Any

from stages.check import discover
from stages.check.excerpt import excerpt
from stages.check.explain import (
    at,
    did_you_mean,
    items,
    listed,
    mapping,
    problems_of,
    shown,
)

Params = dict[str, Any]


def problems(params: Params) -> list[str]:
    """One line for each thing that a search would come upon too late.

    What is missing or of the wrong type is the schema's business.
    """
    scenarios = list(mapping(params.get("scenarios")))
    found = [
        _unknown("tune.scenarios", name, scenarios)
        for name in items(at(params, "tune", "scenarios"))
        if name not in scenarios
    ]
    methods = discover.plugins("unlearn")
    for method, space in mapping(at(params, "tune", "methods")).items():
        block = at(params, "unlearn", method)
        if method not in methods:
            found.append(_unknown("tune.methods", method, methods))
        elif not isinstance(block, dict):
            found.append(f"'unlearn.{method}' is missing: tune.methods has {method}")
        else:
            found += _space(method, mapping(space), block)
    return found + _trusted(params)


def _space(method: str, space: Params, block: Params) -> list[str]:
    """A method's own schema has to accept each end, and the search its own block."""
    schema = discover.plugin_schema("unlearn", method)
    known = list(schema.model_fields)
    found = []
    for name, values in space.items():
        key = f"tune.methods.{method}"
        if name not in known:
            found.append(_unknown(key, name, known))
            continue
        parsed = _range(values)
        if parsed is None or name not in block:
            continue
        for end in parsed.ends():
            wrong = problems_of({**block, name: end}, f"unlearn.{method}", schema)
            own = f"'unlearn.{method}.{name}'"
            found += [
                f"'{key}.{name}' holds {shown(end)}, which the method does not take: "
                f"{line.rpartition(': ')[2]}"
                for line in wrong
                if line.startswith(own)
            ]
        if not parsed.holds(block[name]):
            found.append(
                f"'unlearn.{method}.{name}' = {shown(block[name])} is not in "
                f"'{key}.{name}' = {shown(values)}, and is the first to be tried: "
                "widen it"
            )
    return found


def _range(values: Any) -> Any:
    """A `Range`; None where its schema complains."""
    schema = excerpt("stages.tune.settings", "Range")
    return None if problems_of(values, "", schema) else schema(**values)


def _trusted(params: Params) -> list[str]:
    trusted = at(params, "tune", "trusted")
    subjects = at(params, "synthesize", "subjects", "val")
    if not isinstance(trusted, int) or not isinstance(subjects, int):
        return []
    if trusted < subjects:
        return []
    return [
        f"'tune.trusted' = {trusted} leaves none of the {subjects} validation subjects "
        "of 'synthesize.subjects.val' to compare choices on"
    ]


def _unknown(key: str, name: Any, known: list[str]) -> str:
    hint = did_you_mean(str(name), known)
    return (
        f"'{key}' has {shown(name)}, which is unknown.{hint} Allowed: {listed(known)}"
    )
