"""The DAG as DVC resolves it, the code of each cell, and the rules that both must keep.

Every rule is a function of plain data that returns a line per problem, so that a test
can break the data on purpose and see the rule say so.
"""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from stages.common import paths
from stages.common.closure import CHOOSES, Sources

READS_TRUTH = ("poison", "forget", "evaluate", "report", "aftermath")
# Compares choices with the truth after the search, which does not import it.
READS_TRUTH_AFTERWARDS = "stages/tune/regret.py"
# Stages that `dvc repro` does not run: each has a target of the Makefile.
OUTSIDE = {"tune", "aftermath"}
# What runs before the parameters have been checked.
BEFORE_CHECK = ("code", "check")
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
    def code(self) -> set[str]:
        return {dep for dep in self.deps if _is_code(dep)}

    @property
    def data(self) -> set[str]:
        return {dep for dep in self.deps if not _is_code(dep)}


def _is_code(dep: str) -> bool:
    return f"{dep}/".startswith(("stages/", f"{paths.CODE.as_posix()}/"))


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


def code_name(cell: Cell, params: dict[str, Any]) -> str:
    """The name in data/code/ that a cell should depend on, by its command alone."""
    key, scenario = cell.option("cell") or "", cell.option("scenario")
    if cell.stage == "train" and "continue" in key.partition("/")[0]:
        return "train_continue"
    if cell.stage == "forget":
        short = "forget_tips" if cell.option("tips") else "drop_list"
        return f"forget/{scenario}" if scenario else short
    if cell.stage == "poison":
        return f"poison/{cell.option('poisoning')}"
    if cell.stage == "synthesize":
        split = cell.option("split")
        source = params["synthesize"]["sources"][split] if split else "artefacts"
        return f"synthesize/{source}"
    if cell.stage in CHOOSES:
        options = ("source", "method", "detector")
        return f"{cell.stage}/{next(filter(None, map(cell.option, options)))}"
    return cell.stage


def code_of(cell: Cell, params: dict[str, Any]) -> set[str]:
    """What a cell depends on for its code and parameters."""
    if cell.stage == "code":
        return {"stages"}
    return {paths.code(code_name(cell, params)).as_posix()}


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
    elif cell.stage == "forget" and cell.option("tips"):
        files = [paths.tips(cell.option("tips") or "")]
    elif cell.stage == "forget":
        files = [paths.drop_list(cell.option("drop-all") or "")]
    elif cell.stage == "classify":
        files = [paths.classifier().parent, paths.classifier_metrics()]
    elif cell.stage == "detect":
        place = paths.open_detection if "open" in cell.name else paths.detection
        files = [place(poisoning or "", cell.option("detector") or "")]
    elif cell.stage == "download":
        files = [paths.raw(cell.option("source") or "")]
    elif cell.stage == "synthesize":
        split = cell.option("split")
        made = [paths.kspace(split), paths.manifest(split)] if split else None
        files = made or [paths.artefacts()]
    else:
        return None
    return {path.as_posix() for path in files}
