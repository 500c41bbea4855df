"""Whether speed costs quality: fast and reference trainings, paired by seed.

Inputs: data/kspace/{train,val} of the default profile (`dvc repro synthesize`).
Outputs: key `quality` of metrics/benchmarks.json, and metrics/benchmarks.md.

A training takes minutes. A killed one goes on after its last epoch; one whose result is
in the file is not repeated without `--again`. Seeds may run side by side.

    python -m tests.benchmarks.quality
    OMP_NUM_THREADS=1 python -m tests.benchmarks.quality --seed 0 --side reference_fp64
"""

import argparse
import logging
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from scipy import stats

from stages.common import paths
from stages.common.manifest import read_manifest
from stages.common.params import find_block, validate
from stages.synthesize.settings import SynthesizeSettings
from stages.train.settings import BLOCKS
from tests.benchmarks.pairs import (
    FAST,
    FAST_FP32,
    FAST_FP64,
    REFERENCE,
    REFERENCE_FP64,
    SIDES,
    train_side,
)
from tests.benchmarks.results import Entries, commit, merge, read_results
from tests.benchmarks.sizes import profile_params
from tests.benchmarks.timing import Entry

GROUP = "quality"
PROFILE = "default"
# Rounding alone moves a training by 0.1 dB and more: three seeds would not tell.
SEEDS = tuple(range(8))
CONFIDENCE = 0.95
PAIRS = ((FAST, REFERENCE), (FAST_FP32, REFERENCE), (FAST_FP64, REFERENCE_FP64))

log = logging.getLogger("mendmri")


def read_blocks(profile: str) -> dict[str, Any]:
    """Return what `train` reads, from a profile.

    Raises:
        ValueError: data/kspace is missing or of another profile.
    """
    params = profile_params(profile)
    blocks: dict[str, Any] = {
        key: validate(find_block(params, key), key, schema)
        for key, schema in BLOCKS.items()
    }
    wanted = validate(params["synthesize"], "synthesize", SynthesizeSettings)
    for split in ("train", "val"):
        manifest = read_manifest(paths.manifest(split))
        found = {volume.matrix for volume in manifest.volumes}
        subjects = len({volume.subject_id for volume in manifest.volumes})
        matrix = (wanted.matrix, wanted.matrix)
        if found != {matrix} or subjects != getattr(wanted.subjects, split):
            raise ValueError(
                f"{paths.manifest(split)}: {subjects} subjects, matrices "
                f"{sorted(found)}; the profile '{profile}' has another cohort: run "
                f"`make profile NAME={profile}` and `dvc repro synthesize`"
            )
    return blocks


def summarise(runs: dict[str, dict[str, Any]]) -> Entry:
    """Pair the sides by seed.

    Args:
        runs: seed -> side -> `psnr` and the like; need not be complete.

    Returns:
        The entry of the results: means over the seeds that both sides have.
    """
    differences = {}
    for side, other in PAIRS:
        seeds = [seed for seed, done in runs.items() if side in done and other in done]
        if seeds:
            pairs = [(runs[s][side]["psnr"], runs[s][other]["psnr"]) for s in seeds]
            differences[f"{side} - {other}"] = _paired(pairs) | {"seeds": seeds}
    both = [done for done in runs.values() if FAST in done and REFERENCE in done]

    def mean(side: str) -> float | None:
        values = [done[side]["psnr"] for done in both]
        return round(statistics.mean(values), 4) if values else None

    return {
        "ours": mean(FAST),
        "reference": mean(REFERENCE),
        "ratio": None,
        "batch": None,
        "unit": "dB, final validation PSNR",
        "differences": differences,
        "sides": SIDES,
        "runs": {seed: dict(sorted(runs[seed].items())) for seed in sorted(runs)},
    }


def _paired(pairs: list[tuple[float, float]]) -> dict[str, Any]:
    """Mean difference and Student's interval over paired seeds."""
    values = [ours - reference for ours, reference in pairs]
    mean = statistics.mean(values)
    low = high = None
    if len(values) > 1:
        error = statistics.stdev(values) / len(values) ** 0.5
        half = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * error
        low, high = round(mean - half, 4), round(mean + half, 4)
    return {
        "mean": round(mean, 4),
        "low": low,
        "high": high,
        "each": [round(value, 4) for value in values],
    }


def runs_of(entry: Entry, blocks: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What has been trained with these settings: seed -> side -> result.

    Trainings of other settings cannot be paired with them.
    """
    runs: dict[str, dict[str, Any]] = entry.get("runs", {})
    return runs if entry.get("settings") == settings_of(blocks) else {}


def settings_of(blocks: dict[str, Any]) -> dict[str, Any]:
    return {key: block.model_dump(mode="json") for key, block in blocks.items()}


def record(
    folder: Path, side: str, seed: int, row: dict[str, float], blocks: dict[str, Any]
) -> None:
    """Write the result of one training beside the others of its settings."""
    result = {
        "psnr": round(row["val_psnr"], 4),
        "ssim": round(row["val_ssim"], 5),
        "loss": round(row["val_loss"], 6),
        "threads": torch.get_num_threads(),
        "commit": commit(),
    }

    def change(old: Entries) -> Entries:
        runs = runs_of(old.get("", {}), blocks)
        runs.setdefault(str(seed), {})[side] = result
        return {"": summarise(runs) | {"settings": settings_of(blocks)}}

    merge(folder, GROUP, change, command="python -m tests.benchmarks.quality")


def _sides(blocks: dict[str, Any]) -> list[str]:
    """Those to train where none is named: of two that are the same training one."""
    same = blocks["model"].precision == "fp32"
    return [FAST, REFERENCE] if same else [FAST, REFERENCE, FAST_FP32]


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.quality")
    parser.add_argument("--seed", type=int, action="append", help="default: 0 to 7")
    parser.add_argument(
        "--side", choices=SIDES, action="append", help="default: all but float64"
    )
    parser.add_argument("--again", action="store_true", help="repeat what is there")
    parser.add_argument("--output", type=Path, default=paths.METRICS, help="folder")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
    )
    try:
        blocks = read_blocks(PROFILE)
        for seed in args.seed or SEEDS:
            for side in args.side or _sides(blocks):
                runs = runs_of(read_results(args.output).get(GROUP, {}), blocks)
                done = runs.get(str(seed), {}).get(side)
                if done and not args.again:
                    log.info("%s %d: there, of commit %s", side, seed, done["commit"])
                    continue
                row = train_side(side, seed, blocks)
                record(args.output, side, seed, row, blocks)
                log.info("%s %d: %.4f dB", side, seed, row["val_psnr"])
    except ValueError as error:
        log.error("%s", error)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
