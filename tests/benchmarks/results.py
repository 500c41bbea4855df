"""The results file: each group is merged into it as soon as it is measured."""

import json
import os
import platform
import subprocess
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from stages.common import paths
from stages.common.runtime import device
from stages.common.volume import write_text
from tests.benchmarks.table import RUN, render
from tests.benchmarks.timing import Entry

Entries = dict[str, Entry]
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def merge(
    folder: Path,
    group: str,
    change: Callable[[Entries], Entries],
    *,
    command: str,
    settings: dict[str, Any] | None = None,
) -> None:
    """Replace a group in `benchmarks.json` and write `benchmarks.md` anew.

    Processes that measure side by side take turns.

    Args:
        folder: where both files are.
        group: how the group's keys begin.
        change: the group's entries so far -> what replaces them; both by the rest of
            their key, which may be empty.
        command: what measured them.
        settings: of the network and the data that they are of.
    """
    paths.SCRATCH.mkdir(exist_ok=True)
    with FileLock(paths.SCRATCH / "benchmarks.lock"):
        results = read_results(folder)
        run = results.pop(RUN, {}) | {group: environment(command)}
        if settings is not None:
            run[group]["settings"] = settings
        old = {
            key.removeprefix(group).removeprefix("/"): results.pop(key)
            for key in list(results)
            if key == group or key.startswith(f"{group}/")
        }
        for key, entry in change(old).items():
            results[f"{group}/{key}".rstrip("/")] = entry
        results = {RUN: dict(sorted(run.items())), **dict(sorted(results.items()))}
        text = json.dumps(results, indent=1, ensure_ascii=False) + "\n"
        write_text(folder / "benchmarks.json", text)
        write_text(folder / "benchmarks.md", render(results))


def read_results(folder: Path) -> dict[str, Any]:
    """Everything measured so far; empty where nothing was."""
    path = folder / "benchmarks.json"
    if not path.exists():
        return {}
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return results


def environment(command: str) -> dict[str, Any]:
    """What a measurement depends on besides the code; no path, host name or date."""
    return {
        "command": _with_threads(command),
        "commit": commit(),
        "device": device().type,
        "cpu": _of_cpu("model name") or platform.processor() or platform.machine(),
        "instructions": _instructions(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "fastmri": version("fastmri"),
    }


def _with_threads(command: str) -> str:
    threads = os.environ.get("OMP_NUM_THREADS")
    return f"OMP_NUM_THREADS={threads} {command}" if threads else command


def commit() -> str | None:
    """The commit measured, `-dirty` where code differs from it; None outside git."""
    head = _git("rev-parse", "--short", "HEAD")
    if head is None:
        return None
    changed = _git("status", "--porcelain", "--", "stages", "tests", "pyproject.toml")
    return f"{head}-dirty" if changed else head


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _of_cpu(name: str) -> str:
    """What Linux says of the processor and Python does not know; else nothing."""
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith(name):
                return line.partition(":")[2].strip()
    return ""


def _instructions() -> list[str]:
    """Of those that decide how fast convolutions are, the processor's own."""
    flags = _of_cpu("flags").split()
    return [name for name in INSTRUCTIONS if name in flags]
