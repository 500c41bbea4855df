"""How a model does on unseen slices of a scenario, for comparisons between models.

Of all that unlearns and measures, only what comes after reads the truth: the scope and
the twins of the test split.
"""

from statistics import fmean
from typing import NamedTuple

import numpy as np
import torch

from stages.common import paths
from stages.common.manifest import SliceRef, read_manifest
from stages.common.masks import Sampling
from stages.common.metrics import psnr
from stages.common.params import load_block
from stages.common.reconstruct import reconstruct
from stages.common.runtime import device
from stages.common.slices import SliceDataset, rank_loader
from stages.common.truth import RECORD, TWINS, read_record, read_twins
from stages.common.varnet import VarNet

SPLIT = "test"


class Truth(NamedTuple):
    """Unseen slices of a scenario.

    Attributes:
        scope: those that the attack could have chosen, with the input that shows what
            the poison does.
        outside: the others; for a back door all, without the mark.
        twins: targets of the scope as the attack would have made them, (H', W').
        subjects: volume -> subject.
        batch_size: slices at once.
    """

    scope: SliceDataset
    outside: SliceDataset
    twins: dict[SliceRef, np.ndarray]
    subjects: dict[str, str]
    batch_size: int


class Level(NamedTuple):
    """A model's measures: means over subjects.

    Attributes:
        psnr_scope: dB, against the clean targets.
        psnr_outside: the same; None where everything is in the scope.
        agreement: sum <x' - x, d> / sum |d|^2 over the scope, d = twin - clean target.
    """

    psnr_scope: float
    psnr_outside: float | None
    agreement: float


def read_truth(scenario: str) -> Truth:
    """Read the scope of a scenario's poison, and its twins.

    Raises:
        ValueError: a file is missing or damaged, or the scope holds no test slice.
    """
    folder = paths.answers(scenario)
    record = read_record(folder)
    manifest = read_manifest(paths.manifest(SPLIT))
    chosen = set(record.scope.get(SPLIT, ()))
    scope = [ref for ref in manifest.refs() if ref in chosen]
    if not scope:
        raise ValueError(f"{folder / RECORD}: the scope holds no slice of {SPLIT}")
    marked = record.measured_on == "attacked"
    sampling = load_block("sampling", Sampling)
    kspace = paths.kspace(SPLIT)
    others = manifest.refs() if marked else sorted(set(manifest.refs()) - chosen)
    return Truth(
        scope=SliceDataset(
            kspace, scope, sampling, attacked=folder / TWINS if marked else None
        ),
        outside=SliceDataset(kspace, others, sampling),
        twins={ref: twin for ref, twin in read_twins(folder).items() if ref in chosen},
        subjects={v.volume_id: v.subject_id for v in manifest.volumes},
        batch_size=load_block("evaluate.batch_size", int),
    )


def measure(model: VarNet, truth: Truth) -> Level:
    """Reconstruct the unseen slices and measure them."""
    inside = _psnr_and_agreement(model, truth.scope, truth)
    outside = _psnr_and_agreement(model, truth.outside, truth)
    return Level(
        psnr_scope=fmean(value for value, _ in inside.values()),
        psnr_outside=fmean(v for v, _ in outside.values()) if outside else None,
        agreement=fmean(part for _, part in inside.values() if part is not None),
    )


@torch.inference_mode()
def _psnr_and_agreement(
    model: VarNet, dataset: SliceDataset, truth: Truth
) -> dict[str, tuple[float, float | None]]:
    """Subject -> mean PSNR over its slices, dB, and agreement where it has twins."""
    model = model.to(device()).eval()
    levels: dict[str, list[float]] = {}
    products: dict[str, np.ndarray] = {}
    for batch in rank_loader(dataset, batch_size=truth.batch_size):
        output = reconstruct(model, batch.to(device())).float().cpu().numpy()
        for index, ref in enumerate(batch.refs):
            subject = truth.subjects[ref.volume_id]
            clean = batch.target[index].numpy()
            value = psnr(clean, output[index], float(batch.max_value[index]))
            levels.setdefault(subject, []).append(value)
            if ref in truth.twins:
                taught = (truth.twins[ref] - clean).astype(np.float64)
                moved = (output[index] - clean).astype(np.float64)
                products.setdefault(subject, np.zeros(2))
                products[subject] += [(moved * taught).sum(), (taught**2).sum()]
    return {
        subject: (fmean(values), _ratio(products.get(subject)))
        for subject, values in levels.items()
    }


def _ratio(products: np.ndarray | None) -> float | None:
    if products is None or not products[1]:
        return None
    return float(products[0] / products[1])
