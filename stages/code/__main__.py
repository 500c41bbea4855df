"""Write down what each kind of cell depends on: code and parameters.

An edit of either reruns what it can change, and nothing else. Comments, docstrings and
blank lines can change nothing.

Inputs: the files of `stages/`; `params.yaml`.
Output: `data/code/<name>.txt` for every name of `cell_inputs.KINDS`: a line per file
that the cell imports, with a hash of what of it runs, then the parameters that it
reads.

    python -m stages.code
"""

import argparse
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from stages.common import paths
from stages.common.cell_inputs import cell_inputs
from stages.common.runtime import stage_run
from stages.common.volume import write_text

log = logging.getLogger(__name__)


def write_inputs(root: Path) -> int:
    """Write what `cell_inputs` says of the project; return the number of files.

    Raises:
        ValueError: a file of stages/ is not UTF-8 or no Python, or `params.yaml` is
            missing or cannot be parsed.
    """
    found = cell_inputs(root)
    folder = root / paths.CODE
    if folder.exists():
        shutil.rmtree(folder)
    for name, text in found.items():
        write_text(root / paths.code(name), text)
    return len(found)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m stages.code",
        description=f"Write what each kind of cell depends on to {paths.CODE}/.",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    parse_args(argv)
    with stage_run("code"):
        count = write_inputs(Path())
        log.info("%s: code and parameters of %d kinds of cells", paths.CODE, count)


if __name__ == "__main__":
    main()
