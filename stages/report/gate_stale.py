"""Find metrics that nobody reran: `dvc.lock` does not fit the code and parameters.

DVC is asked, since only it resolves the templates of `dvc.yaml`. Of its answer counts
what git holds (parameters, metrics); data that is merely not here, as in CI, does not
make a metric stale. What `code` writes is such data: it is made anew from the files of
`stages/` and from `params.yaml`.
"""

import hashlib
import json
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from stages.common import paths
from stages.common.cell_inputs import cell_inputs

LOCK = Path("dvc.lock")
# It reads all of code and parameters, and no metric depends on what it writes.
WITHOUT_METRICS = "check"


class StaleError(ValueError):
    """DVC could not say what is stale."""


def find_stale(*, in_git: Collection[str]) -> list[str]:
    """Return one line for each stage that would have to be run again.

    Args:
        in_git: files that git tracks or does not ignore, relative to the root.
    """
    if not LOCK.exists():
        return [f"{LOCK} is missing: no stage has been run"]
    lock = yaml.safe_load(LOCK.read_text(encoding="utf-8"))
    stages = (lock or {}).get("stages", {})
    # DVC keeps what removed stages left in the lock file: it says nothing about today.
    dag = _dag()
    current = {name: stage for name, stage in stages.items() if name in dag}
    return [
        *stale_stages(_status(), current, in_git),
        *broken_links(current),
        *changed_inputs(current),
    ]


def stale_stages(
    status: Mapping[str, Any], locked: Mapping[str, Any], in_git: Collection[str]
) -> Iterator[str]:
    """Read `dvc status --json`: stage -> list of changes.

    Args:
        status: what DVC says.
        locked: stages of dvc.lock.
        in_git: files that git holds.
    """
    for stage, changes in sorted(status.items()):
        if stage not in locked:
            yield f"{stage} was never run: it is not in {LOCK}"
            continue
        if stage == "code":
            continue  # what it would write is compared file by file
        ran_with = {dep["path"] for dep in locked[stage].get("deps", ())}
        for change in changes:
            for what in _changes(change, in_git, ran_with):
                yield f"{stage}: {what}"


def broken_links(stages: Mapping[str, Any]) -> Iterator[str]:
    """Stages that ran on another version of a file than its maker's last one."""
    made = {
        out["path"]: (name, out.get("md5"))
        for name, stage in stages.items()
        for out in stage.get("outs", ())
    }
    for name, stage in sorted(stages.items()):
        for dep in stage.get("deps", ()):
            maker, md5 = made.get(dep["path"], ("", None))
            if maker and md5 != dep.get("md5"):
                yield f"{name}: {dep['path']} was made anew by {maker} since"


def changed_inputs(stages: Mapping[str, Any]) -> Iterator[str]:
    """Stages whose code or parameters are not those that they ran with.

    Raises:
        StaleError: a file of `stages/` is no Python, or `params.yaml` is no YAML.
    """
    try:
        texts = cell_inputs(Path())
    except ValueError as error:
        raise StaleError(str(error)) from None
    now = {str(paths.code(name)): text for name, text in texts.items()}
    for name, stage in sorted(stages.items()):
        if name == WITHOUT_METRICS:
            continue
        for dep in stage.get("deps", ()):
            path = Path(dep["path"])
            if paths.CODE in path.parents:
                text = now.get(str(path))
                md5 = text and hashlib.md5(text.encode()).hexdigest()
                if md5 != dep.get("md5"):
                    yield f"{name}: its code or parameters, see {path}, have changed"


def _changes(
    change: Any, in_git: Collection[str], ran_with: Collection[str]
) -> Iterator[str]:
    if isinstance(change, str):
        yield change
        return
    for kind, entries in change.items():
        for path, state in entries.items():
            if isinstance(state, dict):
                yield from (f"{path}: {key} {what}" for key, what in state.items())
            elif _holds(in_git, path):
                yield f"{path} {state}"
            elif kind == "changed deps" and path not in ran_with:
                yield f"it depends on {path} now, and ran without it"


def _holds(in_git: Collection[str], path: str) -> bool:
    return path in in_git or any(name.startswith(f"{path}/") for name in in_git)


def _status() -> dict[str, Any]:
    status: dict[str, Any] = json.loads(_dvc("status", "--json"))
    return status


def _dag() -> set[str]:
    return set(_dvc("stage", "list", "--name-only").split())


def _dvc(*arguments: str) -> str:
    command = [sys.executable, "-m", "dvc", *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        problem = answer.stderr.strip()
        raise StaleError(f"`dvc {' '.join(arguments)}` failed: {problem}")
    return answer.stdout
