"""The rules of the DAG: each returns one line for every way in which it is broken."""

from collections.abc import Iterable
from typing import Any

from stages.common import paths
from stages.common.cell_inputs import blocks_of, inputs_of
from stages.common.closure import CHOOSES, READS_ALL, Imports, Sources
from stages.common.params import ParamsError, find_block
from tests.dag import (
    BEFORE_CHECK,
    MAX_LINES,
    READS_TRUTH,
    READS_TRUTH_AFTERWARDS,
    Cell,
    code_of,
    expected_outs,
    plugins,
)

Params = dict[str, Any]


def code_is_declared(
    cells: Iterable[Cell], sources: Sources, params: Params
) -> list[str]:
    """A cell depends on what it runs and reads, no more and no less."""
    found = []
    names = inputs_of(params, sources)
    made = {"stages", *(paths.code(name).as_posix() for name in names)}
    for cell in cells:
        used = code_of(cell, params)
        missing, spare = sorted(used - cell.code), sorted(cell.code - used)
        found += [f"{cell.name}: {path} not in deps" for path in missing]
        found += [f"{cell.name}: {path} is not its code" for path in spare]
        gone = sorted((used | cell.code) - made)
        found += [f"{cell.name}: `code` does not write {path}" for path in gone]
    return found


def loads_by_name_are_known(sources: Sources) -> list[str]:
    """No import by name hides from the hashes of the code."""
    return [
        f"{path} imports by a name"
        for path, text in sources.items()
        if "import_module" in text or "__import__" in text or "runpy" in text
        if folder(path) not in (*CHOOSES, *READS_ALL)
    ]


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
    """Blocks are declared in `cell_inputs.KINDS` and nowhere else, and are there."""
    found = []
    for cell in cells:
        found += [f"{cell.name}: '{key}' is declared twice" for key in cell.params]
        for path in cell.code - {"stages"}:
            name = path.removeprefix(f"{paths.CODE.as_posix()}/").removesuffix(".txt")
            for key in blocks_of(name):
                try:
                    find_block(params, key)
                except ParamsError:
                    found.append(f"{cell.name}: '{key}' is not in params.yaml")
    return found


def grid_is_files(params: Params, sources: Sources) -> list[str]:
    """Methods and attacks are files; the grid names methods that have parameters."""
    files = set(plugins("unlearn", sources))
    grid = set(params["grid"]["methods"])
    found = [f"grid.methods has {name}: no such file" for name in sorted(grid - files)]
    bare = sorted(grid - set(params["unlearn"]))
    found += [f"grid.methods has {name}: no block in unlearn" for name in bare]
    detectors = {
        name
        for axis in ("detectors", "open_detectors")
        for name in params["grid"].get(axis, ())
    }
    for name in sorted(detectors - set(plugins("detect", sources))):
        found.append(f"detector {name}: no such file")
    attacks = set(plugins("poison", sources))
    used = {row["attack"] for row in params["poisonings"].values()}
    return found + [f"attack {name}: no such file" for name in sorted(used - attacks)]


def stages_are_apart(sources: Sources) -> list[str]:
    """A stage imports itself and common; common imports no stage."""
    found = []
    imports = Imports(sources)
    for path in sources:
        stage = folder(path)
        if not stage:
            continue
        for other in sorted(imports.of(path)):
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
    imports = Imports(sources)
    for path in sources:
        reads = "stages/common/truth.py" in imports.of(path)
        if not reads or folder(path) in READS_TRUTH:
            continue
        if path != READS_TRUTH_AFTERWARDS:
            found.append(f"{path} imports the truth")
    for path in sorted(set(sources) - {READS_TRUTH_AFTERWARDS}):
        if READS_TRUTH_AFTERWARDS in imports.of(path):
            found.append(f"{path} imports {READS_TRUTH_AFTERWARDS}")
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
        if cell.stage == "detect":
            seen = ("data/export/", "data/kspace/train", "data/models/poisoned/")
            other = [
                dep for dep in cell.data if not dep.startswith((*seen, "data/tips/"))
            ]
            found += [f"{cell.name} depends on {dep}" for dep in sorted(other)]
        if cell.stage in ("train", "unlearn", "detect", "tune"):
            test = [dep for dep in cell.data if "kspace/test" in dep]
            found += [f"{cell.name} depends on {dep}" for dep in sorted(test)]
    return found


def files_are_short(sources: Sources) -> list[str]:
    return [
        f"{path} has {text.count(chr(10))} lines"
        for path, text in sources.items()
        if path.endswith(".py") and text.count("\n") > MAX_LINES
    ]


def check_comes_first(cells: Iterable[Cell]) -> list[str]:
    """Nothing is done before the parameters are checked."""
    cells = list(cells)
    makers = {out: cell for cell in cells for out in cell.outs}
    found = []
    for cell in cells:
        if cell.stage in BEFORE_CHECK:
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
