"""Write a folder whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path` that takes its place only on success.

    What a killed run of the same output left behind is removed first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f".{path.name}.*.part"):
        shutil.rmtree(leftover, ignore_errors=True)
    holder = Path(
        tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    )
    # mkdtemp makes folders that only their owner reads: yield a plain one inside.
    fresh = holder / "new"
    fresh.mkdir()
    try:
        yield fresh
        if path.exists():
            path.rename(holder / "old")
        fresh.rename(path)
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def link_or_copy(source: str | Path, destination: str | Path) -> None:
    """Hard-link a file that nobody writes in place, or copy it where links fail."""
    try:
        os.link(source, destination)
    except OSError:
        shutil.copyfile(source, destination)
