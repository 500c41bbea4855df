"""Hash the code of each kind of cell, so that an edit reruns what it can change.

Input: the files of `stages/`.
Output: `data/code/<stage>.txt`, and `data/code/<stage>/<name>.txt` for a file that the
stage chooses by its name: a line per file that is imported, as `sha256sum` writes it.

    python -m stages.code
"""

import argparse
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from stages.common import paths
from stages.common.closure import digests
from stages.common.runtime import stage_run
from stages.common.volume import write_text

log = logging.getLogger(__name__)


def write_digests(root: Path) -> int:
    """Write what `digests` says of the project; return the number of files.

    Raises:
        ValueError: a file of stages/ is not UTF-8, or is no Python.
    """
    found = digests(root)
    folder = root / paths.CODE
    if folder.exists():
        shutil.rmtree(folder)
    for name, text in found.items():
        write_text(root / paths.code(name), text)
    return len(found)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m stages.code",
        description=f"Hash the code of each kind of cell into {paths.CODE}/.",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    parse_args(argv)
    with stage_run("code"):
        log.info("%s: code of %d kinds of cells", paths.CODE, write_digests(Path()))


if __name__ == "__main__":
    main()
