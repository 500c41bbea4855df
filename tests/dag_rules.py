"""The rules of the DAG: each returns one line for every way in which it is broken."""

from collections.abc import Iterable
from typing import Any

from tests.dag import (
    CHOOSES,
    MAX_LINES,
    READS_ALL,
    READS_TRUTH,
    Cell,
    Sources,
    chosen,
    closure,
    code_of,
    expected_outs,
    imports,
    plugins,
)

Params = dict[str, Any]


def code_is_declared(
    cells: Iterable[Cell], sources: Sources, params: Params
) -> list[str]:
    """What a cell runs is what it depends on, no more and no less."""
    found = []
    for cell in cells:
        declared = {dep for dep in cell.deps if dep.startswith("stages/")}
        used = code_of(cell, sources, params)
        found += [
            f"{cell.name}: {path} not in deps" for path in sorted(used - declared)
        ]
        spare = declared - used - helpers(cell, sources, params)
        found += [f"{cell.name}: {path} not imported" for path in sorted(spare)]
        gone = (used | declared) - sources.keys()
        found += [f"{cell.name}: {path} does not exist" for path in sorted(gone)]
    return found


def helpers(cell: Cell, sources: Sources, params: Params) -> set[str]:
    """Files that another method, attack or source of the same stage imports."""
    if cell.stage not in CHOOSES:
        return set()
    folder = f"stages/{cell.stage}/"
    by_name = {f"{folder}{name}.py" for name in plugins(cell.stage, sources)}
    own = {path for path in closure(by_name, sources) if path.startswith(folder)}
    return own - by_name - chosen(cell, params)


def outs_match_paths(cells: Iterable[Cell]) -> list[str]:
    found = []
    for cell in cells:
        expected = expected_outs(cell)
        if expected is not None and set(cell.outs) != expected:
            found.append(
                f"{cell.name}: outs {sorted(cell.outs)}, paths says {expected}"
            )
    return found


def params_exist(cells: Iterable[Cell], params: Params) -> list[str]:
    found = []
    for cell in cells:
        for key in cell.params:
            block: Any = params
            for part in key.split("."):
                block = block.get(part) if isinstance(block, dict) else None
            if block is None:
                found.append(f"{cell.name}: params key '{key}' is not in params.yaml")
    return found


def grid_is_files(params: Params, sources: Sources) -> list[str]:
    """Methods and attacks are files; the grid names methods that have parameters."""
    files = set(plugins("unlearn", sources))
    grid = set(params["grid"]["methods"])
    found = [f"grid.methods has {name}: no such file" for name in sorted(grid - files)]
    bare = sorted(grid - set(params["unlearn"]))
    found += [f"grid.methods has {name}: no block in unlearn" for name in bare]
    attacks = set(plugins("poison", sources))
    used = {row["attack"] for row in params["poisonings"].values()}
    return found + [f"attack {name}: no such file" for name in sorted(used - attacks)]


def stages_are_apart(sources: Sources) -> list[str]:
    """A stage imports itself and common; common imports no stage."""
    found = []
    for path in sources:
        stage = folder(path)
        if not stage:
            continue
        for other in sorted(imports(path, sources)):
            allowed = ("", stage, "common")
            if folder(other) not in allowed:
                found.append(f"{path} imports {other}")
    return found


def folder(path: str) -> str:
    parts = path.split("/")
    return parts[1] if len(parts) > 2 else ""


def truth_is_kept(cells: Iterable[Cell], sources: Sources) -> list[str]:
    """Only some stages import the truth's reader or depend on its files."""
    found = []
    for path in sources:
        reads = "stages/common/truth.py" in imports(path, sources)
        if reads and folder(path) not in READS_TRUTH:
            found.append(f"{path} imports the truth")
    for cell in cells:
        if cell.stage in READS_TRUTH:
            continue
        if any(dep.startswith(("data/truth", "data/drop")) for dep in cell.data):
            if cell.name.startswith("train_drop_all@"):
                continue  # the reference that is told everything
            found.append(f"{cell.name} depends on the truth")
    return found


def closed_threat_model(cells: Iterable[Cell]) -> list[str]:
    """Unlearners read the case and training k-space; nobody but evaluate sees test."""
    found = []
    for cell in cells:
        seen = ("data/cases/", "data/kspace/train")
        if cell.stage == "unlearn":
            other = [dep for dep in cell.data if not dep.startswith(seen)]
            found += [f"{cell.name} depends on {dep}" for dep in sorted(other)]
        if cell.stage in ("train", "unlearn", "detect", "tune"):
            test = [dep for dep in cell.data if "kspace/test" in dep]
            found += [f"{cell.name} depends on {dep}" for dep in sorted(test)]
    return found


def files_are_short(sources: Sources) -> list[str]:
    return [
        f"{path} has {text.count(chr(10))} lines"
        for path, text in sources.items()
        if text.count("\n") > MAX_LINES
    ]


def check_comes_first(cells: Iterable[Cell]) -> list[str]:
    """Nothing is done before the parameters are checked."""
    cells = list(cells)
    makers = {out: cell for cell in cells for out in cell.outs}
    found = []
    for cell in cells:
        if cell.stage in READS_ALL:
            continue
        above, todo = {cell.name}, [cell]
        while todo:
            for dep in todo.pop().data:
                for out, maker in makers.items():
                    near = (out, dep) if len(out) > len(dep) else (dep, out)
                    inside = near[0] == near[1] or near[0].startswith(near[1] + "/")
                    if inside and maker.name not in above:
                        above.add(maker.name)
                        todo.append(maker)
        if "check" not in above:
            found.append(f"{cell.name} does not wait for check")
    return found
