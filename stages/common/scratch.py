"""Where a long cell keeps what a resumed run picks up, and the lock that guards it.

DVC deletes outputs before each run, so checkpoints for resuming cannot live there.
Killing DVC leaves the stage process alive: the lock makes the next `dvc repro` wait for
it, and what such an orphan finished is kept so that its successor need not repeat it.
"""

import hashlib
import json
import logging
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from stages.common import paths
from stages.common.params import Settings

log = logging.getLogger("mendmri")


@contextmanager
def cell_scratch(
    cell: str, *, inputs: Sequence[Path], settings: Sequence[Settings | int]
) -> Iterator[Path]:
    """Hold a cell's lock and yield the folder that belongs to exactly these inputs.

    Args:
        cell: key of the cell.
        inputs: files and folders that the cell reads.
        settings: validated blocks and plain values that shape its result.

    Yields:
        A folder that survives a kill. It is removed when the run ends well, unless the
        process that started this one (DVC) is gone and cannot take the outputs.
    """
    root = paths.scratch(cell)
    root.mkdir(parents=True, exist_ok=True)
    ancestors = psutil.Process().parents()
    with _locked(root / "lock", cell):
        folder = root / _fingerprint(inputs, settings)
        for stale in root.iterdir():
            if stale.is_dir() and stale != folder:
                shutil.rmtree(stale)
        folder.mkdir(exist_ok=True)
        yield folder
        if all(_alive(process) for process in ancestors):
            shutil.rmtree(folder)
        else:
            log.warning("the process that started this cell is gone: result kept")


@contextmanager
def _locked(path: Path, cell: str) -> Iterator[None]:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.warning("another process works on %s: waiting for it to end", cell)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _fingerprint(inputs: Sequence[Path], settings: Sequence[Settings | int]) -> str:
    """Name what a result depends on: settings, code, and the state of input files.

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
        if name.startswith("stages.") and module.__file__:
            digest.update(Path(module.__file__).read_bytes())
    return digest.hexdigest()[:16]


def _files(root: Path) -> Iterator[Path]:
    if root.is_dir():
        yield from (path for path in root.rglob("*") if path.is_file())
    elif root.exists():
        yield root
