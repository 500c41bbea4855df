"""Validate the whole of `params.yaml`: each block, then what one says of another."""

import re
from typing import Any

from stages.check import consistency, discover, profile
from stages.check.explain import did_you_mean, listed, problems_of, shown
from stages.common.params import ParamsError, find_block

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")

Params = dict[str, Any]


def find_problems(params: Params) -> list[str]:
    """Return one line for each thing that is wrong; none when all is well."""
    blocks = discover.blocks()
    found = _unknown_blocks(params, [key for key, _ in blocks])
    for key, schema in blocks:
        found += _block_problems(params, key, schema)
    found += _profile_name(params)
    found += _attacks(params)
    keys = [key for key, _ in blocks]
    found += _plugins(params, "unlearn", keys, kind="method")
    found += _plugins(params, "download", keys, kind="source")
    found += _plugins(params, "detect", keys, kind="detector")
    fetched = _mapping(params.get("download")).get("sources")
    found += _without_block(params, "download", fetched, "download.sources")
    found += _names(params)
    found += _references(params)
    found += consistency.problems(params)
    return list(dict.fromkeys(found))


def _unknown_blocks(params: Params, keys: list[str]) -> list[str]:
    owned = list(dict.fromkeys(key.split(".")[0] for key in keys))
    return [
        f"'{block}' = {shown(params[block])} is not a block of params.yaml."
        f"{did_you_mean(block, owned)} Allowed here: {listed(owned)}"
        for block in params
        if block not in owned
    ]


def _block_problems(params: Params, key: str, schema: Any) -> list[str]:
    try:
        block = find_block(params, key)
    except ParamsError:
        return [f"'{key}' is missing"]
    return problems_of(block, key, schema)


def _profile_name(params: Params) -> list[str]:
    return _known(params.get("profile"), "profile", profile.names())


def _attacks(params: Params) -> list[str]:
    attacks = discover.plugins("poison")
    found = []
    for name, row in _rows(params, "poisonings").items():
        attack = row.get("attack")
        if attack is None:
            continue
        if attack not in attacks:
            found += _known(attack, f"poisonings.{name}.attack", attacks)
            continue
        key = f"poisonings.{name}.settings"
        schema = discover.plugin_schema("poison", attack)
        found += problems_of(row.get("settings", {}), key, schema)
    return found


def _plugins(params: Params, stage: str, keys: list[str], *, kind: str) -> list[str]:
    """Blocks of a stage's methods or sources, each with a schema in its own file."""
    names = discover.plugins(stage)
    shared = [key.split(".")[1] for key in keys if key.startswith(f"{stage}.")]
    block = params.get(stage, {})
    found = []
    for name, settings in block.items() if isinstance(block, dict) else ():
        if name in names:
            schema = discover.plugin_schema(stage, name)
            found += problems_of(settings, f"{stage}.{name}", schema)
        elif name not in shared:
            allowed = [*shared, *names]
            found.append(
                f"'{stage}.{name}' = {shown(settings)} is no {kind} and no shared "
                f"parameter.{did_you_mean(name, allowed)} Allowed: {listed(allowed)}"
            )
    return found


def _names(params: Params) -> list[str]:
    """Names of rows become parts of DVC stage names and of dotted keys."""
    return [
        f"'{block}' has a row {shown(name)}: a name takes letters, digits, '_' and '-'"
        for block in ("poisonings", "scenarios")
        for name in _rows(params, block)
        if not _NAME.fullmatch(str(name))
    ]


def _references(params: Params) -> list[str]:
    poisonings = list(_rows(params, "poisonings"))
    found = []
    for name, row in _rows(params, "scenarios").items():
        if "poisoning" in row:
            key = f"scenarios.{name}.poisoning"
            found += _known(row["poisoning"], key, poisonings)
    grid = params.get("grid")
    if not isinstance(grid, dict):
        return found
    found += _list_of(grid, "drop_all", poisonings)
    found += _list_of(grid, "detected", poisonings)
    for key, is_open in (("detectors", False), ("open_detectors", True)):
        found += _list_of(grid, key, discover.detectors(is_open=is_open))
        found += _without_block(params, "detect", grid.get(key), f"grid.{key}")
    found += _detected_scenarios(params, grid)
    found += _needed_oracles(grid)
    found += _list_of(grid, "methods", discover.plugins("unlearn"))
    found += _without_block(params, "unlearn", grid.get("methods"), "grid.methods")
    return found


def _detected_scenarios(params: Params, grid: Params) -> list[str]:
    """A detected scenario needs its detector on its poisoning."""
    found = []
    for name, row in _rows(params, "scenarios").items():
        if row.get("detected") is None:
            continue
        for key, value, axis in (
            ("detected", row["detected"], "detectors"),
            ("poisoning", row.get("poisoning"), "detected"),
        ):
            allowed = grid.get(axis)
            if isinstance(allowed, list) and value not in allowed:
                found.append(
                    f"'scenarios.{name}.{key}' = {shown(value)} is not in grid.{axis}, "
                    f"and the scenario is detected. Allowed: {listed(allowed)}"
                )
    return found


def _without_block(params: Params, stage: str, names: Any, key: str) -> list[str]:
    block = _mapping(params.get(stage))
    if not block or not isinstance(names, list):
        return []
    return [
        f"'{stage}.{name}' is missing: {key} has {name}"
        for name in names
        if name not in block and name in discover.plugins(stage)
    ]


def _needed_oracles(grid: Params) -> list[str]:
    oracles = grid.get("oracles")
    if not isinstance(oracles, list) or {0, 1} <= set(oracles):
        return []
    return [f"'grid.oracles' = {shown(oracles)} needs 0 (oracle) and 1 (noise floor)"]


def _list_of(grid: Params, key: str, allowed: list[str]) -> list[str]:
    values = grid.get(key)
    if not isinstance(values, list):
        return []
    found = [line for value in values for line in _known(value, f"grid.{key}", allowed)]
    repeated = sorted({str(value) for value in values if values.count(value) > 1})
    return found + [f"'grid.{key}' names '{value}' twice" for value in repeated]


def _known(value: Any, key: str, allowed: list[str]) -> list[str]:
    if value is None or value in allowed:
        return []
    hint = did_you_mean(str(value), allowed)
    return [f"'{key}' = {shown(value)} is unknown.{hint} Allowed: {listed(allowed)}"]


def _rows(params: Params, block: str) -> dict[str, Params]:
    """Rows of a named block that are mappings; its schema complains of the others."""
    rows = _mapping(params.get(block))
    return {name: row for name, row in rows.items() if isinstance(row, dict)}


def _mapping(block: Any) -> Params:
    return block if isinstance(block, dict) else {}
