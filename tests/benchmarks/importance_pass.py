"""Our importance pass against one backward pass per sample through fastMRI's VarNet."""

import copy
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from stages.common.fit import BatchLoss, Cost, adamw
from stages.common.losses import LossSettings
from stages.common.runtime import device
from stages.common.slices import SliceDataset, make_loader
from stages.common.training import mean_recon_loss
from stages.common.varnet import VarNet, build_varnet
from stages.unlearn.importance import Importance, importance, slices_at_a_time
from tests.benchmarks.agreement import (
    largest_difference,
    rank_correlation,
    require_same,
)
from tests.benchmarks.cohort import make_dataset
from tests.benchmarks.sides import make_reference, plain_importance, reference_loss
from tests.benchmarks.sizes import Size, precisions
from tests.benchmarks.timing import (
    Entry,
    Runs,
    compare,
    in_turns,
    per_slice,
    quickest_precision,
)
from tests.double import in_double

# Of each tensor's maximum, in double precision on a few samples.
EXACT_ALLOWED = 1e-4
# The same in single precision, where rounding decides on which side of 0 a ReLU is:
# fastMRI's own importance in float32 is off its own in float64 by up to 0.02.
ALLOWED = 0.1
RANKING_KEPT = 0.999  # Spearman's rho that a lower precision needs to be used
REFERENCE = "reference"

Pass = Callable[[], Importance]


def importance_pass(size: Size, folder: Path) -> dict[str, Entry]:
    """A pass over a few slices; ms per slice. The reference's batch is one slice.

    `best` is the fastest precision that keeps the ranking of the weights,
    `.../own_batch` with as many slices at a time as the methods take.
    """
    plan = size.plan
    dataset = make_dataset(size, folder, slices=plan.importance_slices)
    models, reference = _make_models(size, dataset)
    _check_in_double(models["fp32"], reference, dataset)
    own_batch = min(slices_at_a_time(dataset), len(dataset))
    batches = sorted({*plan.importance_batches, own_batch})
    passes = _passes(models, reference, dataset, batches)
    agreement = _check(passes)
    seconds = in_turns(passes, rounds=plan.importance_rounds, called=True)
    runs: dict[str, Runs] = {name: {} for name, _ in passes}
    for (name, batch), values in seconds.items():
        runs[name][batch] = per_slice(values, len(dataset))
    rho = agreement["spearman"]
    faithful = {
        name: runs[name]
        for name in precisions()
        if name == "fp32" or rho[name] >= RANKING_KEPT
    }
    best = quickest_precision(faithful)
    entries = {}
    for key, name in (("fp32", "fp32"), ("best", best)):
        more = {"precision": name, "slices": len(dataset)} | agreement
        entries[key] = compare(runs[name], runs[REFERENCE]) | more
        own = {own_batch: runs[name][own_batch]}
        entries[f"{key}/own_batch"] = compare(own, runs[REFERENCE]) | more
    return entries


def _make_models(
    size: Size, dataset: SliceDataset
) -> tuple[dict[str, VarNet], nn.Module]:
    """The same weights in each precision and in the reference.

    They are trained for some steps: it is in a network that has learnt something that
    importance is asked for, and before that, rounding ranks many weights.
    """
    model = build_varnet(size.with_precision(precisions()[-1]), seed=0).to(device())
    optimizer, loss = adamw(model, size.train), mean_recon_loss(size.loss)
    loader = make_loader(dataset, batch_size=size.train.batch_size)
    batches = itertools.cycle(loader)
    for batch in itertools.islice(batches, size.plan.importance_training):
        optimizer.zero_grad(set_to_none=True)
        loss(model.train(), batch.to(device())).backward()
        nn.utils.clip_grad_norm_(model.parameters(), size.train.clip_norm)
        optimizer.step()
    models = {}
    for precision in precisions():
        models[precision] = build_varnet(size.with_precision(precision), seed=0)
        models[precision].load_state_dict(model.state_dict())
        models[precision].to(device())
    return models, make_reference(size.model, model.state_dict())


def _passes(
    models: dict[str, VarNet],
    reference: nn.Module,
    dataset: SliceDataset,
    batches: Sequence[int],
) -> dict[tuple[str, int], Pass]:
    def ours(model: VarNet, batch_size: int) -> Pass:
        return lambda: _our_importance(model, dataset, _our_loss(), batch_size)

    passes = {
        (precision, batch_size): ours(model, batch_size)
        for batch_size in batches
        for precision, model in models.items()
    }
    samples = [batch.to(device()) for batch in make_loader(dataset, batch_size=1)]
    loss = reference_loss()
    passes[REFERENCE, 1] = lambda: plain_importance(reference, samples, loss)
    return passes


def _our_loss() -> BatchLoss:
    """Without the L1: the reference's loss is fastMRI's."""
    return mean_recon_loss(LossSettings(l1_weight=0))


def _our_importance(
    model: VarNet, dataset: SliceDataset, batch_loss: BatchLoss, batch_size: int
) -> Importance:
    """The stage's own pass, as the methods of `unlearn` call it."""
    return importance(
        model,
        dataset,
        batch_loss,
        cost=Cost(),
        desc="importance",
        batch_size=batch_size,
    )


def _check(passes: dict[tuple[str, int], Pass]) -> Entry:
    """Run every pass once; return how well the results agree with the reference's."""
    found = {name: run() for name, run in passes.items()}
    expected = found.pop((REFERENCE, 1))
    differences, rho = [], {}
    for (name, batch), values in found.items():
        if name == "fp32":
            differences.append(largest_difference(values, expected))
            what = f"the importance in float32, batch {batch},"
            require_same(what, differences[-1], allowed=ALLOWED)
        rho[name] = round(rank_correlation(values, expected), 6)
    return {"difference_fp32": float(f"{max(differences):.2g}"), "spearman": rho}


def _check_in_double(ours: VarNet, reference: nn.Module, dataset: SliceDataset) -> None:
    """Where rounding does not matter, the two must agree closely."""
    few = dataset.restrict(dataset.refs[: max(1, len(dataset) // 16)])
    found = _our_importance(
        copy.deepcopy(ours).double(), few, in_double(_our_loss()), len(few)
    )
    expected = plain_importance(
        copy.deepcopy(reference).double(),
        [batch.to(device()) for batch in make_loader(few, batch_size=1)],
        in_double(reference_loss(dtype=torch.float64)),
    )
    difference = largest_difference(found, expected)
    require_same("the importance in float64", difference, allowed=EXACT_ALLOWED)
