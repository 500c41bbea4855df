"""A copy of the project on the smoke profile, and DVC run in it as users run it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import yaml

from stages.check.sandbox import make_sandbox
from tests.dag import load_cells

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT = 1500.0


class Project:
    """A folder with a DVC project of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        tools = Path(sys.executable).parent
        self.env = os.environ | {
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(root.parent / f"{root.name}-site"),
            "OMP_NUM_THREADS": "1",
            **{f"GIT_{who}_NAME": "tests" for who in ("AUTHOR", "COMMITTER")},
            **{f"GIT_{who}_EMAIL": "tests@none" for who in ("AUTHOR", "COMMITTER")},
        }

    def run(self, *command: str, code: int | None = 0) -> str:
        """Run a command to its end; return what it said on both streams."""
        done = subprocess.run(
            command,
            cwd=self.root,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        if code is not None and done.returncode != code:
            raise AssertionError(
                f"{command} ended with {done.returncode}:\n{done.stdout}"
            )
        return done.stdout

    def dvc(self, *arguments: str, code: int | None = 0) -> str:
        return self.run(sys.executable, "-m", "dvc", *arguments, code=code)

    def side_by_side(self, *, jobs: int = 2) -> str:
        """Run the pipeline as `make repro` does."""
        runner = "stages.check.parallel"
        return self.run(sys.executable, "-m", runner, "--jobs", str(jobs))

    def start(self, *arguments: str, log: Path) -> "subprocess.Popen[bytes]":
        """Start DVC in a process group of its own."""
        with log.open("wb") as file:
            return subprocess.Popen(
                [sys.executable, "-m", "dvc", *arguments],
                cwd=self.root,
                env=self.env,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def commit(self) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", "smoke")

    def copy(self, target: Path) -> "Project":
        shutil.copytree(self.root, target, symlinks=True)
        return Project(target)

    def change(self, edit: Callable[[dict[str, Any]], object]) -> None:
        """Edit params.yaml in place."""
        path = self.root / "params.yaml"
        params = yaml.safe_load(path.read_text())
        edit(params)
        path.write_text(yaml.safe_dump(params, sort_keys=False))

    def changed(self) -> set[str]:
        """Stages with a changed input of their own: what follows is `downstream`."""
        return set(json.loads(self.dvc("status", "--json")))

    def affected(self) -> set[str]:
        """The same, once `code` has said what an edit touches."""
        self.dvc("repro", "code")
        return self.changed()

    def read(self, name: str) -> Any:
        return json.loads((self.root / name).read_text())

    def downstream(self, names: set[str]) -> set[str]:
        """Stages that depend, directly or not, on some stages' outputs."""
        cells = load_cells(self.root)
        found, todo = set(names), set(names)
        while todo:
            outs = {out for cell in cells if cell.name in todo for out in cell.outs}
            todo = {
                cell.name
                for cell in cells
                if cell.name not in found
                and any(_touches(dep, out) for dep in cell.deps for out in outs)
            }
            found |= todo
        return found - names

    def children(self, pid: int, module: str) -> list[psutil.Process]:
        """Python processes below DVC that run a stage."""
        below = psutil.Process(pid).children(recursive=True)
        return [child for child in below if module in child.cmdline()]


def _touches(dep: str, out: str) -> bool:
    return dep == out or dep.startswith(f"{out}/") or out.startswith(f"{dep}/")


def stages_run(log: str) -> set[str]:
    """Stages whose command was started, by DVC alone or side by side."""
    return set(re.findall(r"^(?:\S+ \| )?Running stage '([^']+)'", log, re.MULTILINE))


def make_project(target: Path) -> Project:
    """Copy the project's files, without results, with the smoke profile."""
    make_sandbox(ROOT, target, profile="smoke")
    return Project(target)


def wait_until(what: Callable[[], Any], *, seconds: float, pause: float = 0.01) -> Any:
    """Poll until something is true, and return it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(pause)
    raise TimeoutError(f"not within {seconds:.0f} s")


def kill_group(process: "subprocess.Popen[bytes]") -> None:
    """Kill DVC and its stages, those that outlived it too."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
