"""What a stage costs beside its work: its start, and DVC."""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from stages.check.pool import Worker
from stages.check.worker import RAN
from stages.common.closure import Imports, load_sources
from tests.benchmarks.timing import Entry, rounded
from tests.folders import inside

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 5
CELLS = "evaluate@"  # of them DVC's share of a stage is measured
# Run in place of each stage: it writes outputs of as many files as the stage's own.
WRITER = """\
import json, os, sys
outputs = json.load(open("outputs.json"))
for out in sys.argv[1:]:
    names = outputs[out]
    os.makedirs(out if names else os.path.dirname(out) or ".", exist_ok=True)
    for path in [f"{out}/{name}" for name in names] or [out]:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(path, "w") as file:
            file.write(path)
"""
COMMAND = "python -S writer.py"


def start() -> dict[str, Entry]:
    """Seconds that a stage takes to start: interpreter and every import.

    Those inside functions too, which a stage reaches once its arguments are read.
    `ours` is the median over the cells of the default grid.
    """
    lock = yaml.safe_load((ROOT / "dvc.lock").read_text())["stages"]
    stages = [stage["cmd"].split("stages.")[1].split()[0] for stage in lock.values()]
    imports = Imports(load_sources(ROOT))
    seconds = {}
    for stage in sorted(set(stages)):
        files = imports.closure({f"stages/{stage}/__main__.py"})
        modules = [
            path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            for path in sorted(files)
            if path.endswith(".py")
        ]
        command = [sys.executable, "-c", f"import {', '.join(modules)}"]
        runs = [_timed(command, ROOT) for _ in range(ROUNDS)]
        seconds[stage] = rounded(statistics.median(runs))
    of_cells = statistics.median(seconds[stage] for stage in stages)
    return {"": _entry(of_cells) | {"seconds": seconds}}


def dag(folder: Path, source: Path = ROOT) -> dict[str, Entry]:
    """Seconds of DVC itself on a project's DAG, whose stages write files at once.

    Args:
        folder: where it is laid out; empty.
        source: the project.

    Returns:
        `no_op`: of a `dvc repro` that finds nothing to do. `stage`: of one evaluation
        that runs, by a worker of `make repro` that has run one before.
    """
    names = make_toy(source, folder)
    dvc = [sys.executable, "-m", "dvc"]
    outputs = json.loads((folder / "outputs.json").read_text())
    for command in (
        [*COMMAND.split(), *outputs],
        [*dvc, "commit", "--force", "--quiet"],
        [*dvc, "repro", "--quiet"],  # the run that follows hashes nothing
    ):
        _timed(command, folder)
    no_op = [_timed([*dvc, "repro", "--quiet"], folder) for _ in range(ROUNDS)]
    cells = [name for name in names if name.startswith(CELLS)][: ROUNDS + 1]
    ran = [*_cell_seconds(folder, cells)][1:]
    writer = statistics.median(
        _timed([*COMMAND.split(), next(iter(outputs))], folder) for _ in range(ROUNDS)
    )
    return {
        "no_op": _entry(statistics.median(no_op)) | {"stages": len(names)},
        "stage": _entry(statistics.median(ran) - writer) | {"stages": len(names)},
    }


def make_toy(source: Path, folder: Path) -> list[str]:
    """Lay out the DAG of a project that has run, without its work.

    Returns:
        The names of its stages.
    """
    lock = yaml.safe_load((source / "dvc.lock").read_text())["stages"]
    needed = {dep["path"] for stage in lock.values() for dep in stage.get("deps", [])}
    outputs = {}
    for out in (out for stage in lock.values() for out in stage.get("outs", [])):
        inner = sorted(
            path.removeprefix(f"{out['path']}/")
            for path in needed
            if path.startswith(f"{out['path']}/")
        )
        more = out.get("nfiles", 0) - len(inner)
        outputs[out["path"]] = inner + [f"{number:03d}" for number in range(more)]
    (folder / "outputs.json").write_text(json.dumps(outputs))
    (folder / "writer.py").write_text(WRITER)
    content = yaml.safe_load((source / "dvc.yaml").read_text())
    for stage in content["stages"].values():
        body: dict[str, Any] = stage.get("do", stage)
        outs = [*body.get("outs", []), *body.get("metrics", [])]
        named = [out if isinstance(out, str) else next(iter(out)) for out in outs]
        body["cmd"] = f"{COMMAND} {' '.join(named)}"
    (folder / "dvc.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    for name in ("params.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(source / name, folder)
    shutil.copytree(
        source / "stages",
        folder / "stages",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    _timed(["git", "init", "--quiet"], folder)
    _timed([sys.executable, "-m", "dvc", "init", "--quiet"], folder)
    shutil.copy(source / ".dvc/config", folder / ".dvc/config")
    return list(lock)


def _cell_seconds(folder: Path, cells: Sequence[str]) -> Iterator[float]:
    """Of each cell the seconds from its name to its end, in one worker."""
    for code in (folder / "data/code").glob(f"{CELLS.rstrip('@')}*"):
        code.write_text("edited")
    with inside(folder):
        worker = Worker({})
        try:
            for cell in cells:
                started = time.perf_counter()
                outcome = worker.run(cell, print)
                if outcome != RAN:
                    raise ValueError(f"{cell} of the toy DAG: {outcome}, not run")
                yield time.perf_counter() - started
        finally:
            worker.close()


def _timed(command: Sequence[str], folder: Path) -> float:
    environment = os.environ | {"DVC_NO_ANALYTICS": "1"}
    started = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ValueError(f"{' '.join(command[:4])}: {done.stderr or done.stdout}")
    return time.perf_counter() - started


def _entry(seconds: float) -> Entry:
    return {
        "ours": rounded(seconds),
        "reference": None,
        "ratio": None,
        "batch": None,
        "unit": "s",
    }
