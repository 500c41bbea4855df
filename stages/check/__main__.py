"""Validate the whole of `params.yaml` before any work is done.

Inputs: `params.yaml`; the settings, attack and method files that say what is allowed.
Output: `data/params.checked`, whose content never changes, so that a checked change of
a parameter reruns what depends on that parameter and nothing else.
Exits with 2 and every problem at once when there is one.

    python -m stages.check
"""

import argparse
import logging
from collections.abc import Sequence

from stages.check import processor
from stages.check.validate import find_problems
from stages.common import paths
from stages.common.params import PARAMS_FILE, ParamsError, read_params
from stages.common.runtime import stage_run
from stages.common.volume import write_text

CHECKED = paths.DATA / "params.checked"

log = logging.getLogger(__name__)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m stages.check",
        description=f"Validate {PARAMS_FILE} and write {CHECKED}.",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    parse_args(argv)
    with stage_run("check"):
        params = read_params()
        problems = find_problems(params)
        if problems:
            count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
            lines = "\n".join(f"  - {line}" for line in problems)
            raise ParamsError(f"{PARAMS_FILE} has {count}:\n{lines}")
        for line in processor.problems(params):
            log.warning("%s", line)  # valid, and another machine may do the work
        write_text(CHECKED, "params.yaml is valid\n")
        log.info("%s: %d blocks are valid", PARAMS_FILE, len(params))


if __name__ == "__main__":
    main()
