"""What the blocks `maps` and `aftermath` say of scenarios and methods."""

from typing import Any

from stages.check import discover
from stages.check.explain import at, did_you_mean, items, listed, mapping, shown


def problems(params: dict[str, Any]) -> list[str]:
    """One line for each name that nothing is made for.

    What is missing or of the wrong type is the schema's business.
    """
    scenarios = list(mapping(params.get("scenarios")))
    methods = items(at(params, "grid", "methods"))
    found = []
    for name, row in mapping(params.get("maps")).items():
        found += _unknown(row, f"maps.{name}", "scenarios", scenarios)
        found += _unknown(row, f"maps.{name}", "methods", methods)
    block = params.get("aftermath")
    found += _unknown(block, "aftermath", "scenarios", scenarios)
    for axis in ("methods", "sequence"):
        found += _unknown(block, "aftermath", axis, discover.plugins("unlearn"))
    return found


def _unknown(row: Any, key: str, axis: str, known: list[str]) -> list[str]:
    return [
        f"'{key}.{axis}' has {shown(value)}, which is unknown here."
        f"{did_you_mean(str(value), known)} Allowed: {listed(known)}"
        for value in items(at(row, axis))
        if value not in known
    ]
