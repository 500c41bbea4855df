"""Make one split's volumes, in fastMRI's layout: simulated, or from real scans.

Inputs:  data/raw/<source>/ of `synthesize.sources.<split>`.
Outputs: data/kspace/<split>/<volume_id>.h5 and data/kspace/<split>.json; with
         --artefacts the pool of artefact-ridden images, data/artefacts/.

    python -m stages.synthesize --split train
"""

import argparse
import logging
from collections.abc import Sequence
from importlib import import_module

from stages.common import paths
from stages.common.params import load_block
from stages.common.runtime import stage_run
from stages.synthesize.settings import BLOCKS, SynthesizeSettings

logger = logging.getLogger(__name__)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stages.synthesize")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--split", choices=paths.SPLITS)
    what.add_argument("--artefacts", action="store_true", help="make the pool")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    with stage_run("synthesize", args.split or "artefacts"):
        settings = load_block("synthesize", SynthesizeSettings)
        if args.artefacts:
            _artefacts(load_block("artefacts", BLOCKS["artefacts"]), settings)
        else:
            _split(args.split, settings)


def _split(split: str, settings: SynthesizeSettings) -> None:
    from stages.synthesize.cohort import synthesize_split

    manifest = synthesize_split(
        split,
        settings,
        raw=paths.raw(getattr(settings.sources, split)),
        volumes=paths.kspace(split),
        manifest=paths.manifest(split),
    )
    logger.info(
        "%s: %d volumes, %d slices (%d empty ones dropped, %d files left out) -> %s",
        split,
        len(manifest.volumes),
        len(manifest.refs()),
        len(manifest.dropped_slices),
        len(manifest.skipped),
        paths.kspace(split),
    )


def _artefacts(sources: tuple[str, ...], settings: SynthesizeSettings) -> None:
    # By name, as a source: it is no code of the splits.
    module = import_module("stages.synthesize.artefacts")
    pool = module.write_pool(
        sources,
        raw=paths.raw,
        folder=paths.artefacts(),
        settings=settings,
    )
    logger.info("%d volumes with artefacts -> %s", len(pool), paths.artefacts())


if __name__ == "__main__":
    main()
