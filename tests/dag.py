"""The DAG as DVC resolves it, the code of each cell, and the rules that both must keep.

Every rule is a function of plain data that returns a line per problem, so that a test
can break the data on purpose and see the rule say so.
"""

import ast
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from stages.common import paths

Sources = dict[str, str]
CHOOSES = ("download", "poison", "synthesize", "unlearn")  # a file by its name
READS_TRUTH = ("poison", "forget", "evaluate", "report")
# `check` reads every stage's settings, by name and without importing it in the code.
READS_ALL = ("check",)
MAX_LINES = 300


class Cell(NamedTuple):
    """One stage entry of dvc.yaml after templating."""

    name: str
    cmd: str
    deps: tuple[str, ...]
    outs: tuple[str, ...]
    params: tuple[str, ...]

    @property
    def stage(self) -> str:
        """Folder of stages/ that the command runs."""
        words = shlex.split(self.cmd)
        return words[words.index("-m") + 1].split(".")[1]

    def option(self, name: str) -> str | None:
        words = shlex.split(self.cmd)
        return words[words.index(f"--{name}") + 1] if f"--{name}" in words else None

    @property
    def data(self) -> set[str]:
        return {dep for dep in self.deps if not dep.startswith("stages/")}


def load_cells(root: Path) -> list[Cell]:
    """Every entry of dvc.yaml, resolved by DVC itself."""
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        return [_cell(stage, root) for stage in repo.index.stages]


def _cell(stage: Any, root: Path) -> Cell:
    deps = [dep for dep in stage.deps if not hasattr(dep, "params")]
    params = [key for dep in stage.deps for key in getattr(dep, "params", ())]
    return Cell(
        name=stage.name,
        cmd=stage.cmd if isinstance(stage.cmd, str) else " && ".join(stage.cmd),
        deps=tuple(_relative(dep, root) for dep in deps),
        outs=tuple(_relative(out, root) for out in stage.outs),
        params=tuple(params),
    )


def _relative(entry: Any, root: Path) -> str:
    return Path(entry.fs_path).resolve().relative_to(root.resolve()).as_posix()


def load_sources(root: Path) -> Sources:
    """Every Python file of stages/: path -> text."""
    return {
        path.relative_to(root).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted((root / "stages").rglob("*.py"))
    }


def imports(path: str, sources: Sources) -> set[str]:
    """Files of the project that a file imports, functions' own imports included."""
    found: set[str] = set()
    for name in _imported_names(path, sources[path]):
        found |= _files(name, sources)
    return found - {path}


@cache
def _imported_names(path: str, text: str) -> tuple[str, ...]:
    found: list[str] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = path.split("/")[: -node.level]
                base = ".".join([*package, *([base] if base else [])])
            found += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return tuple(found)


def _files(module: str, sources: Sources) -> set[str]:
    """The file of a module and of the packages around it; none of another project."""
    parts = module.split(".")
    if parts[0] != "stages":
        return set()
    around = ["/".join([*parts[:n], "__init__.py"]) for n in range(1, len(parts) + 1)]
    return {name for name in ["/".join(parts) + ".py", *around] if name in sources}


def closure(roots: set[str], sources: Sources) -> set[str]:
    """Everything that is imported from some files on."""
    found: set[str] = set()
    todo = set(roots)
    while todo:
        path = todo.pop()
        found.add(path)
        module = path.removesuffix(".py").replace("/", ".")
        if path in sources:
            todo |= (imports(path, sources) | _files(module, sources)) - found
    return found


def chosen(cell: Cell, params: dict[str, Any]) -> set[str]:
    """The attack, method or source files that a cell imports by their names."""
    if cell.stage == "poison":
        names = {params["poisonings"][cell.option("poisoning")]["attack"]}
    elif cell.stage == "synthesize" and cell.option("split") is None:
        names = {"artefacts"}
    elif cell.stage == "synthesize":
        names = {params["synthesize"]["sources"][cell.option("split")]}
    elif cell.stage in CHOOSES:
        names = {cell.option("source") or cell.option("method")}
    else:
        names = set()
    return {f"stages/{cell.stage}/{name}.py" for name in names}


def code_of(cell: Cell, sources: Sources, params: dict[str, Any]) -> set[str]:
    """Every file of the project that a cell runs."""
    package = f"stages/{cell.stage}"
    roots = {"stages/__init__.py", f"{package}/__init__.py", f"{package}/__main__.py"}
    roots |= chosen(cell, params)
    if cell.stage in READS_ALL:
        roots |= set(read_by_check(sources))
    return closure(roots, sources)


def read_by_check(sources: Sources) -> Iterator[str]:
    """What `check` imports by name: settings files, and files with `class Params`."""
    for path, text in sources.items():
        name = Path(path).name
        if name == "settings.py" or name.endswith("_settings.py"):
            yield path
        elif "class Params(" in text or "class Params:" in text:
            yield path


def plugins(stage: str, sources: Sources) -> list[str]:
    """Files of a stage that are chosen by name: sources, attacks or methods."""
    if stage == "synthesize":
        return [
            Path(path).stem
            for path, text in sources.items()
            if path.startswith("stages/synthesize/")
            and ("\ndef load(" in text or "\ndef find(" in text)
        ]
    return [
        Path(path).stem
        for path in read_by_check(sources)
        if path.startswith(f"stages/{stage}/") and not path.endswith("settings.py")
    ]


def expected_outs(cell: Cell) -> set[str] | None:
    """What `paths` says that a cell of a model stage writes; None for other stages."""
    key = cell.option("cell")
    if cell.stage == "unlearn":
        key = f"unlearned/{cell.option('scenario')}/{cell.option('method')}"
        return {paths.model(key).as_posix()}
    if cell.stage == "train" and key:
        return {paths.model(key).as_posix(), paths.curve(key).as_posix()}
    if cell.stage == "evaluate" and key:
        files = [paths.panels(key), paths.slice_rows(key), paths.cell_metrics(key)]
        files += [paths.twin_rows(key)] if "/" in key else []
        return {path.as_posix() for path in files}
    return _case_outs(cell)


def _case_outs(cell: Cell) -> set[str] | None:
    poisoning, scenario = cell.option("poisoning"), cell.option("scenario")
    if cell.stage == "poison" and poisoning:
        files = [paths.export(poisoning), paths.truth(poisoning)]
    elif cell.stage == "forget" and scenario:
        files = [paths.case(scenario), paths.answers(scenario)]
    elif cell.stage == "forget":
        files = [paths.drop_list(cell.option("drop-all") or "")]
    elif cell.stage == "download":
        files = [paths.raw(cell.option("source") or "")]
    elif cell.stage == "synthesize":
        split = cell.option("split")
        made = [paths.kspace(split), paths.manifest(split)] if split else None
        files = made or [paths.artefacts()]
    else:
        return None
    return {path.as_posix() for path in files}
