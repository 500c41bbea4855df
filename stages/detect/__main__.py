"""Score every training slice of a poisoning by how suspicious it looks.

Reads data/export/<poisoning>/, data/kspace/train, data/models/poisoned/<poisoning>/ and
data/tips/<poisoning>.json. Writes metrics/detection/<poisoning>/<detector>.csv or, of a
detector that needs the open threat model, metrics/detection_open/....

    python -m stages.detect --poisoning mislabel-30 --detector loss_outlier
"""

import argparse
import logging
from collections.abc import Sequence

from stages.common import paths
from stages.common.losses import LossSettings
from stages.common.masks import Sampling
from stages.common.params import check_row, load_block
from stages.common.runtime import stage_run
from stages.detect.base import load_data, load_detector
from stages.detect.scores import write_scores
from stages.detect.settings import BLOCKS

log = logging.getLogger("mendmri")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="stages.detect", description=__doc__)
    parser.add_argument("--poisoning", required=True, help="row of `poisonings`")
    parser.add_argument("--detector", required=True, help="a file of this stage")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    with stage_run("detect", f"{args.poisoning}/{args.detector}"):
        # Only the file that runs is imported, so that only it is this cell's code.
        detector = load_detector(args.detector)
        check_row("poisonings", args.poisoning, "--poisoning")
        params = load_block(f"detect.{args.detector}", detector.Params)
        batch_size: int = load_block("detect.batch_size", BLOCKS["detect.batch_size"])
        seed: int = load_block("detect.seed", BLOCKS["detect.seed"])
        data = load_data(
            args.poisoning,
            sampling=load_block("sampling", Sampling),
            loss=load_block("loss", LossSettings),
            batch_size=batch_size,
            seed=seed,
        )
        scores = detector.score(data, params)
        place = paths.open_detection if detector.OPEN else paths.detection
        path = place(args.poisoning, args.detector)
        write_scores(path, data.train.refs, scores, data.known)
        log.info("%s: %d slices, %d reported", path, len(scores), len(data.known))


if __name__ == "__main__":
    main()
