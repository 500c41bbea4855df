"""What each objective's choice loses against the truth, once the search has ended.

Nothing that tunes imports this file. It reads data/truth/scenario/<scenario>/, for the
scope alone, the search logs and the models of the trials. The truth is the PSNR of the
scope's slices of the validation subjects that nobody trained on and nobody trusted;
test stays closed. Writes metrics/tuning/<scenario>/<method>.truth.csv,
metrics/tuning.json, metrics/studies/tuning.md and .png.

    python -m stages.tune.regret
"""

import argparse
import csv
import hashlib
import io
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import torch

from stages.common import paths
from stages.common.manifest import read_manifest
from stages.common.masks import Sampling
from stages.common.metrics import psnr
from stages.common.params import load_block
from stages.common.reconstruct import reconstruct
from stages.common.runtime import device, progress, stage_run
from stages.common.slices import SliceDataset, rank_loader
from stages.common.truth import RECORD, TWINS, read_record
from stages.common.varnet import VarNet, load_checkpoint
from stages.common.volume import write_text
from stages.tune.data import deal_validation
from stages.tune.figure import draw
from stages.tune.log import (
    FOLDER,
    Trial,
    checkpoint_path,
    log_path,
    read_log,
)
from stages.tune.settings import TuneSettings
from stages.tune.summary import Summary, summarise, table

RESULTS = paths.METRICS / "tuning.json"
TABLE = paths.METRICS / "studies" / "tuning.md"
FIGURE = paths.METRICS / "studies" / "tuning.png"
NONE = "none"

log = logging.getLogger("mendmri")


class Truth(NamedTuple):
    """Clean slices that no trial and no objective has seen.

    Attributes:
        digest: of the scope, the subjects and the sampling.
        scope: slices of the scope, with the input that shows what the poison does.
        outside: the other slices; empty for an attack without an outside.
        subjects: volume -> subject.
        batch_size: slices at once.
    """

    digest: str
    scope: SliceDataset
    outside: SliceDataset
    subjects: dict[str, str]
    batch_size: int


def read_truth(scenario: str, settings: TuneSettings) -> Truth:
    """Read the scope of a scenario's poison.

    Raises:
        ValueError: the record is missing or damaged, or the scope holds no slice.
    """
    folder = paths.answers(scenario)
    record = read_record(folder)
    sampling = load_block("sampling", Sampling)
    _, refs = deal_validation(settings)
    chosen = set(record.scope.get("val", ()))
    scope = [ref for ref in refs if ref in chosen]
    if not scope:
        raise ValueError(
            f"{folder / RECORD}: no slice of the scope is among the validation "
            f"subjects that 'tune.trusted' = {settings.trusted} leaves"
        )
    attacked = folder / TWINS if record.measured_on == "attacked" else None
    manifest = read_manifest(paths.manifest("val"))
    text = f"{record.model_dump_json()} {refs} {sampling.model_dump_json()} {manifest}"
    whole = SliceDataset(paths.kspace("val"), scope, sampling, attacked=attacked)
    clean = SliceDataset(paths.kspace("val"), (), sampling)
    return Truth(
        digest=hashlib.sha256(text.encode()).hexdigest()[:16],
        scope=whole,
        outside=clean.restrict([ref for ref in refs if ref not in chosen]),
        subjects={v.volume_id: v.subject_id for v in manifest.volumes},
        batch_size=load_block("evaluate.batch_size", int),
    )


@torch.inference_mode()
def mean_psnr(model: VarNet, dataset: SliceDataset, truth: Truth) -> float | None:
    """PSNR against the clean targets, dB: of slices, averaged by subject, then over."""
    model = model.to(device()).eval()
    found: dict[str, list[float]] = {}
    for batch in rank_loader(dataset, batch_size=truth.batch_size):
        output = reconstruct(model, batch.to(device())).float().cpu()
        for index, ref in enumerate(batch.refs):
            value = psnr(
                batch.target[index].numpy(),
                output[index].numpy(),
                float(batch.max_value[index]),
            )
            found.setdefault(truth.subjects[ref.volume_id], []).append(value)
    return fmean(map(fmean, found.values())) if found else None


Measured = dict[str, tuple[float, float | None]]


def measure_trials(scenario: str, method: str, truth: Truth) -> Measured:
    """Trial number, or `none`, -> PSNR in the scope and outside; those known are kept.

    Raises:
        ValueError: the log or a trial's model is missing.
    """
    trials = [
        trial for trial in read_log(log_path(scenario, method)) if not trial.error
    ]
    key = f"{truth.digest}-{trials[0].study}" if trials else truth.digest
    path = FOLDER / scenario / f"{method}.truth.csv"
    known = _read(path, key)
    models = {NONE: paths.case(scenario) / "model.safetensors"}
    models |= {str(trial.number): _model(scenario, method, trial) for trial in trials}
    missing = [name for name in models if name not in known]
    desc = f"{method} on {scenario}"
    for name in progress(missing, total=len(missing), desc=desc):
        model = load_checkpoint(models[name])
        scope = mean_psnr(model, truth.scope, truth)
        known[name] = (float(scope or 0.0), mean_psnr(model, truth.outside, truth))
    known = {name: known[name] for name in models}
    _write(path, key, known)
    return known


def _model(scenario: str, method: str, trial: Trial) -> Path:
    return checkpoint_path(scenario, method, trial.study, trial.number)


def _read(path: Path, key: str) -> Measured:
    """What has been measured of this study against this truth."""
    if not path.exists():
        return {}
    rows = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))
    return {
        row["trial"]: (
            float(row["psnr_scope_db"]),
            float(row["psnr_outside_db"]) if row["psnr_outside_db"] else None,
        )
        for row in rows
        if row["key"] == key
    }


def _write(path: Path, key: str, measured: Measured) -> None:
    lines = ["key,trial,psnr_scope_db,psnr_outside_db"]
    for name, (scope, outside) in measured.items():
        end = "" if outside is None else f"{outside:.6g}"
        lines.append(f"{key},{name},{scope:.6g},{end}")
    write_text(path, "\n".join(lines) + "\n")


def find_regret(settings: TuneSettings) -> Summary:
    """Compare the choices of every search that there is with the truth.

    Raises:
        ValueError: no method has been tuned, or a file is missing or damaged.
    """
    found: Summary = {}
    for scenario in settings.scenarios:
        methods = [m for m in settings.methods if log_path(scenario, m).exists()]
        if not methods:
            raise ValueError(
                f"{FOLDER / scenario} holds no search log: run `make tune`"
            )
        truth = read_truth(scenario, settings)
        found[scenario] = {
            method: summarise(
                read_log(log_path(scenario, method)),
                measure_trials(scenario, method, truth),
            )
            for method in methods
        }
    return found


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="stages.tune.regret", description=__doc__)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    parse_args(argv)
    with stage_run("tune", "regret"):
        settings = load_block("tune", TuneSettings)
        found = find_regret(settings)
        write_text(RESULTS, json.dumps(found, indent=1) + "\n")
        write_text(TABLE, table(found))
        draw(found, FIGURE)
        log.info("%s, %s, %s", RESULTS, TABLE, FIGURE)


if __name__ == "__main__":
    main()
