"""Simulate the cohort: three contrasts of each subject, in fastMRI's layout.

Inputs:  data/raw/<source>/ of the sources named in `synthesize.sources`.
Outputs: data/kspace/{train,val,test}/<volume_id>.h5 and data/kspace/<split>.json.

    python -m stages.synthesize
"""

import argparse
import logging
from collections.abc import Sequence

from stages.common import paths
from stages.common.params import load_block
from stages.common.runtime import stage_run
from stages.synthesize.cohort import synthesize_cohort
from stages.synthesize.settings import SynthesizeSettings

logger = logging.getLogger(__name__)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    return argparse.ArgumentParser(prog="python -m stages.synthesize").parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    parse_args(argv)
    with stage_run("synthesize"):
        settings = load_block("synthesize", SynthesizeSettings)
        manifests = synthesize_cohort(
            settings,
            raw=paths.raw,
            volumes=paths.kspace,
            manifest=paths.manifest,
        )
        for split, manifest in manifests.items():
            logger.info(
                "%s: %d volumes, %d slices (%d empty ones dropped) -> %s",
                split,
                len(manifest.volumes),
                len(manifest.refs()),
                len(manifest.dropped_slices),
                paths.kspace(split),
            )


if __name__ == "__main__":
    main()
