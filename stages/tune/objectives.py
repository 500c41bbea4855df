"""What a user can measure of a trial, without the truth. Higher is better.

Each objective looks at the known poison, and at what must not be damaged: `holdout`,
slices of the contaminated training set that no trial was given, or `trusted`, a few
validation slices with targets known to be clean. With Perf = mean SSIM:

- `score`, the paper's:  a Perf(kept) + (1 - a) (1 - Perf(known)),  against the targets
  as exported; a is `report.score_alpha`;
- `changed`, after Goel et al. (TMLR 2024):  (Perf(kept) + share of the known poison
  whose output changed) / 2. An image changes always a little. Here it has changed when
  it moved farther than the poisoned model errs: ||x - x_0||^2 / ||x_0||^2 above the
  median of ||x_0 - y||^2 / ||y||^2 over the kept slices;
- `lines`, ours:  (l(known) + l(kept)) / 2  in dB, where l is how well sampled lines
  that are held out are predicted (`lines.py`), and PSNR where the target is trusted.
  Poison in a target contradicts the lines that were measured, so what predicts them has
  unlearned; what no longer does is broken. No suspicious target is read.
"""

import math
from collections.abc import Iterator
from statistics import fmean, median
from typing import NamedTuple

import torch
from torch import Tensor

from stages.common.losses import psnr, ssim
from stages.common.reconstruct import reconstruct
from stages.common.runtime import device
from stages.common.slices import ReconBatch, SliceDataset, rank_loader
from stages.common.varnet import VarNet
from stages.tune.data import TuneData
from stages.tune.lines import line_errors

RULES = ("score", "changed", "lines")
VALIDATIONS = ("holdout", "trusted")
OBJECTIVES = tuple(f"{rule}_{seen}" for seen in VALIDATIONS for rule in RULES)
HEADLINE = "lines_holdout"


class BrokenModelError(ValueError):
    """An output is not finite: the trial has ended, and badly."""


class Before(NamedTuple):
    """What the poisoned model made, before any unlearning.

    Attributes:
        known: (slices, H', W') outputs for the known poison, batch by batch.
        usual: validation -> median relative error against the given targets.
    """

    known: list[Tensor]
    usual: dict[str, float]


class HowToMeasure(NamedTuple):
    """The same for every trial.

    Attributes:
        alpha: weight of what is kept in the paper's score.
        held_lines: share of the sampled lines that are held out.
        seed: of which ones.
        batch_size: slices at once.
    """

    alpha: float
    held_lines: float
    seed: int
    batch_size: int


def look_before(model: VarNet, data: TuneData, how: HowToMeasure) -> Before:
    """Run the poisoned model once for all trials."""
    model = model.to(device()).eval()
    usual = {}
    for seen in VALIDATIONS:
        errors: list[float] = []
        for batch, output in _outputs(model, getattr(data, seen), how):
            errors += _moved(output, batch.target).tolist()
        usual[seen] = median(errors)
    known = [output for _, output in _outputs(model, data.known, how)]
    return Before(known, usual)


def measure(
    model: VarNet, data: TuneData, before: Before, how: HowToMeasure
) -> dict[str, float]:
    """Every objective of a model.

    Returns:
        `OBJECTIVES` -> value.

    Raises:
        BrokenModelError: an output is not finite.
    """
    model = model.to(device()).eval()
    poison, moved = _poison(model, data, before, how)
    known_lines = _mean_lines(model, data.known, how)
    values = {}
    for seen in VALIDATIONS:
        kept: SliceDataset = getattr(data, seen)
        perf, whole = _quality(model, kept, how)
        if seen == "holdout":  # its targets may be poison
            whole = _mean_lines(model, kept, how)
        changed = fmean(float(move > before.usual[seen]) for move in moved)
        values[f"score_{seen}"] = how.alpha * perf + (1 - how.alpha) * (1 - poison)
        values[f"changed_{seen}"] = (perf + changed) / 2
        values[f"lines_{seen}"] = (known_lines + whole) / 2
    broken = [name for name in OBJECTIVES if not math.isfinite(values[name])]
    if broken:
        raise BrokenModelError(f"{broken[0]} of the model is not finite")
    return {name: values[name] for name in OBJECTIVES}


@torch.inference_mode()
def _outputs(
    model: VarNet, dataset: SliceDataset, how: HowToMeasure
) -> Iterator[tuple[ReconBatch, Tensor]]:
    for batch in rank_loader(dataset, batch_size=how.batch_size):
        output = reconstruct(model, batch.to(device())).float().cpu()
        if not torch.isfinite(output).all():
            ref = batch.refs[0]
            raise BrokenModelError(
                f"the model's output is not finite near {ref.volume_id}, slice "
                f"{ref.slice_num}"
            )
        yield batch, output


def _quality(
    model: VarNet, dataset: SliceDataset, how: HowToMeasure
) -> tuple[float, float]:
    """Mean SSIM and PSNR (dB) against the targets that the slices have."""
    found: list[tuple[float, float]] = []
    for batch, output in _outputs(model, dataset, how):
        images = output, batch.target, batch.max_value
        found += zip(ssim(*images).tolist(), psnr(*images).tolist(), strict=True)
    first, second = zip(*found, strict=True)
    return fmean(first), fmean(second)


def _poison(
    model: VarNet, data: TuneData, before: Before, how: HowToMeasure
) -> tuple[float, list[float]]:
    """Mean SSIM of the known poison to its targets, and how far each output moved."""
    close: list[float] = []
    moves: list[float] = []
    pairs = zip(_outputs(model, data.known, how), before.known, strict=True)
    for (batch, output), earlier in pairs:
        close += ssim(output, batch.target, batch.max_value).tolist()
        moves += _moved(output, earlier).tolist()
    return fmean(close), moves


def _mean_lines(model: VarNet, dataset: SliceDataset, how: HowToMeasure) -> float:
    errors = line_errors(
        model,
        dataset,
        share=how.held_lines,
        seed=how.seed,
        batch_size=how.batch_size,
    )
    return fmean(errors)


def _moved(output: Tensor, start: Tensor) -> Tensor:
    """||output - start||^2 / ||start||^2 of each image: (N, H, W) -> (N,)."""
    energy = start.square().sum((1, 2)).clamp_min(torch.finfo(start.dtype).tiny)
    return (output - start).square().sum((1, 2)) / energy
