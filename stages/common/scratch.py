"""Where a long cell keeps what a resumed run picks up, and the lock that guards it.

DVC deletes outputs before each run, so checkpoints for resuming cannot live there.
Killing DVC leaves the stage process alive: the lock makes the next `dvc repro` wait for
it, and what such an orphan finished is kept so that its successor need not repeat it.
"""

import hashlib
import json
import logging
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from stages.common import paths
from stages.common.devices import on_rank_zero, rank
from stages.common.params import Settings

LIBRARIES = ("torch", "numpy", "fastmri")  # what a result depends on beside our code
ROUND_SECONDS = 60.0  # of waiting, far less than the ranks wait for each other

log = logging.getLogger("mendmri")


@contextmanager
def cell_scratch(
    cell: str, *, inputs: Sequence[Path], settings: Sequence[Settings | int]
) -> Iterator[Path]:
    """Hold a cell's lock and yield the folder that belongs to exactly these inputs.

    Of several ranks the first one does this for all.

    Args:
        cell: key of the cell.
        inputs: files and folders that the cell reads.
        settings: validated blocks and plain values that shape its result.

    Yields:
        A folder that survives a kill. It is removed when the run ends well, unless DVC
        started it and is gone, so that nobody takes the outputs.
    """
    root = paths.scratch(cell)
    root.mkdir(parents=True, exist_ok=True)
    dvc = _up_to_dvc()
    with _locked(root / "lock", cell):
        folder = on_rank_zero(lambda: _enter(root, inputs, settings))
        yield folder
        on_rank_zero(lambda: _leave(folder, dvc))


def _enter(
    root: Path, inputs: Sequence[Path], settings: Sequence[Settings | int]
) -> Path:
    folder = root / _fingerprint(inputs, settings)
    for stale in root.iterdir():
        if stale.is_dir() and stale != folder:
            shutil.rmtree(stale)
    folder.mkdir(exist_ok=True)
    return folder


def _leave(folder: Path, dvc: Sequence[psutil.Process]) -> None:
    if all(_alive(process) for process in dvc):
        shutil.rmtree(folder)
    else:
        log.warning("DVC, which started this cell, is gone: result kept")


@contextmanager
def _locked(path: Path, cell: str) -> Iterator[None]:
    """Hold the lock on rank 0; the others wait and may not outwait their backend."""
    lock = FileLock(path)
    patience = 0.0
    while not on_rank_zero(partial(_acquired, lock, patience)):
        if patience == 0 and rank() == 0:
            log.warning("another process works on %s: waiting for it to end", cell)
        patience = ROUND_SECONDS
    try:
        yield
    finally:
        lock.release()


def _acquired(lock: FileLock, patience: float) -> bool:
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        return False
    return True


def _up_to_dvc() -> list[psutil.Process]:
    """The processes above this one up to DVC, which takes its outputs.

    DVC sets DVC_STAGE for what it starts: it is the first that does not have it. None
    in a run by hand. Who started DVC does not matter: a terminal may be closed.
    """
    stage = os.environ.get("DVC_STAGE")
    above = psutil.Process().parents() if stage else []
    for number, process in enumerate(above, start=1):
        if _environment(process).get("DVC_STAGE") != stage:
            return above[:number]
    return above


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _fingerprint(inputs: Sequence[Path], settings: Sequence[Settings | int]) -> str:
    """Name what a result depends on: settings, code, libraries, state of input files.

    Size and time stand for a file's content: a mistake costs a fresh start, and hashing
    a large data set before each resume would cost more.
    """
    digest = hashlib.sha256()
    for block in settings:
        plain = block if isinstance(block, int) else block.model_dump(mode="json")
        digest.update(json.dumps(plain).encode())
    for path in sorted(file for root in inputs for file in _files(root)):
        stat = path.stat()
        digest.update(f"{path}:{stat.st_size}:{stat.st_mtime_ns}".encode())
    for name, module in sorted(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and (name == "__main__" or name.startswith("stages.")):
            digest.update(Path(file).read_bytes())
    for library in LIBRARIES:
        digest.update(f"{library} {version(library)}".encode())
    return digest.hexdigest()[:16]


def _files(root: Path) -> Iterator[Path]:
    if root.is_dir():
        yield from (path for path in root.rglob("*") if path.is_file())
    elif root.exists():
        yield root
