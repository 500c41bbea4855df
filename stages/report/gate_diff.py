"""Compare two sets of metrics: what changed, and which changes are regressions."""

import math
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from stages.report.gate_settings import GateRule

Name = tuple[str, ...]
Tree = Mapping[str, Any]
Rules = Mapping[str, GateRule]

REGRESSION = "regression"
IMPROVEMENT = "improvement"
CHANGE = "change"
NEW = "new"
REMOVED = "removed"
ORDER = (REGRESSION, REMOVED, IMPROVEMENT, CHANGE, NEW)
ROUNDING = 1e-12


class Change(NamedTuple):
    """One metric that is not what it was; `name` is empty for a whole file."""

    path: str
    name: str
    old: float | None
    new: float | None
    verdict: str
    note: str = ""


class Grid:
    """Which cells there were and which there are, by the two versions of params."""

    def __init__(self, old: Tree, new: Tree) -> None:
        self._known = _axes(old) | _axes(new)
        self._gone = _axes(old) - _axes(new)
        self._without_drop_all = _drop_all(old) - _drop_all(new)

    def left(self, path: str, name: Name) -> str:
        """Return what left the grid and took a metric along, or ''.

        Metrics name their cell in their file's path or in their own name.
        """
        words = path.removesuffix(".json").split("/")
        for part in name:
            words += [part] if part in self._known else re.split(r"[/.\s]+", part)
        for word in words:
            if word in self._gone:
                return word
        # Measures that compare with a cell go with it.
        measure = words[-1]
        if measure.startswith("cost_share") and "retrain" in self._gone:
            return "retrain"
        for cell in self._gone if measure.startswith("seed_gap") else ():
            if cell.startswith("oracle-"):
                return cell
        compared = "drop_all" in words or measure.startswith("healing_drop")
        if compared and self._without_drop_all.intersection(words):
            return "drop_all"
        return ""


def compare(
    old: Mapping[str, Tree], new: Mapping[str, Tree], *, grid: Grid, rules: Rules
) -> list[Change]:
    """Compare metric files by path; regressions come first.

    Args:
        old, new: content of each metrics file, by path.
        grid: tells a removed cell from a number that was lost.
        rules: the `gate` block, in order.
    """
    changes: list[Change] = []
    for path in sorted({*old, *new}):
        if path not in new:
            gone = grid.left(path, ())
            note = f"{gone} left the grid" if gone else "the file is missing"
            verdict = REMOVED if gone else REGRESSION
            changes.append(Change(path, "", None, None, verdict, note))
        elif path not in old:
            changes.append(Change(path, "", None, None, NEW, "new file"))
            numbers = _compare_file(path, {}, new[path], grid, rules)
            changes += [change for change in numbers if change.verdict == REGRESSION]
        else:
            changes += _compare_file(path, old[path], new[path], grid, rules)
    return sorted(changes, key=lambda change: ORDER.index(change.verdict))


def _compare_file(
    path: str, old: Tree, new: Tree, grid: Grid, rules: Rules
) -> Iterator[Change]:
    before, now = dict(_leaves(old)), dict(_leaves(new))
    for name in dict.fromkeys([*before, *now]):
        was, value = before.get(name), now.get(name)
        numbers = _number(was), _number(value)
        change = Change(path, ".".join(name), *numbers, CHANGE)
        gone = grid.left(path, name)
        if gone and change.old is not None and change.new is None:
            yield change._replace(verdict=REMOVED, note=f"{gone} left the grid")
        elif name not in now:
            if change.old is not None:
                yield change._replace(verdict=REGRESSION, note="missing")
        elif change.new is not None and not math.isfinite(change.new):
            yield change._replace(verdict=REGRESSION, note="not finite")
        elif change.new is None:
            if change.old is not None:
                note = f"became {'null' if value is None else repr(value)}"
                yield change._replace(verdict=REGRESSION, note=note)
        elif change.old is None or not math.isfinite(change.old):
            note = f"was {'null' if was is None else was}" if name in before else ""
            yield change._replace(verdict=NEW, note=note)
        elif change.new != change.old:
            yield _measure(change, rules)


def _measure(change: Change, rules: Rules) -> Change:
    """Hold the change of a number against the first rule that matches its name."""
    measure = change.name.rsplit(".", 1)[-1].rsplit("/", 1)[-1]
    for kind, rule in rules.items():
        if not any(fnmatchcase(measure, pattern) for pattern in rule.match):
            continue
        if rule.better == "neither" or change.old is None or change.new is None:
            break
        gain = change.new - change.old
        gain = gain if rule.better == "higher" else -gain
        allowed = f"{kind}: {rule.better} is better, tolerance {rule.tolerance:g}"
        if gain < -rule.tolerance - ROUNDING:
            return change._replace(verdict=REGRESSION, note=allowed)
        if gain > rule.tolerance + ROUNDING:
            return change._replace(verdict=IMPROVEMENT, note=allowed)
        break
    return change


def _leaves(tree: Any, name: Name = ()) -> Iterator[tuple[Name, Any]]:
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _leaves(value, (*name, str(key)))
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from _leaves(value, (*name, str(index)))
    else:
        yield name, tree


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) else None


def _axes(params: Tree) -> set[str]:
    rows = [*_mapping(params, "scenarios"), *_mapping(params, "poisonings")]
    grid = _mapping(params, "grid")
    oracles = [f"oracle-{seed}" for seed in grid.get("oracles", ())]
    return {*map(str, rows), *grid.get("methods", ()), *oracles}


def _drop_all(params: Tree) -> set[str]:
    """Poisonings and scenarios that have a drop-all model."""
    poisonings = set(_mapping(params, "grid").get("drop_all", ()))
    scenarios = _mapping(params, "scenarios").items()
    return poisonings | {
        str(name) for name, row in scenarios if row.get("poisoning") in poisonings
    }


def _mapping(params: Tree, block: str) -> Tree:
    """A block of params; none in a revision from before there was one."""
    content = params.get(block)
    return content if isinstance(content, Mapping) else {}
