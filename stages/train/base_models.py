"""The models that unlearning starts from and is compared with."""

from pathlib import Path
from typing import NamedTuple

from stages.common import paths
from stages.common.fit import Cost, CurveRow, OptimSettings
from stages.common.losses import LossSettings
from stages.common.manifest import SliceRef, read_manifest, read_slices
from stages.common.masks import Sampling
from stages.common.slices import SliceDataset
from stages.common.training import (
    FinetuneSettings,
    TrainSettings,
    steps_for,
    train_reconstruction,
)
from stages.common.varnet import ModelSettings, VarNet, build_varnet, load_checkpoint


class BaseCell(NamedTuple):
    """What a cell of `train` means.

    Attributes:
        targets: exported targets; None trains on the clean ones.
        dropped: list of slices left out, or None.
        start: checkpoint to go on from, or None for training from scratch.
        seed: added to `train.seed`.
    """

    targets: Path | None
    dropped: Path | None
    start: Path | None
    seed: int

    def inputs(self) -> list[Path]:
        """Files and folders that the result depends on."""
        split = [paths.kspace("train"), paths.manifest("train")]
        held = [paths.kspace("val"), paths.manifest("val")]
        own = [self.targets, self.dropped, self.start]
        return split + held + [path for path in own if path is not None]


def parse_cell(cell: str) -> BaseCell:
    """Read a cell's key.

    Raises:
        ValueError: the key is none of `oracle-<n>`, `oracle_continue`,
            `poisoned/<p>`, `continue/<p>` and `drop_all/<p>`.
    """
    kind, _, name = cell.partition("/")
    family, _, number = kind.partition("-")
    if family == "oracle" and number.isdigit() and not name:
        return BaseCell(None, None, None, int(number))
    if cell == "oracle_continue":
        return BaseCell(None, None, paths.checkpoint("oracle-0"), 0)
    if kind == "poisoned" and name:
        return BaseCell(paths.export(name), None, None, 0)
    if kind == "continue" and name:
        start = paths.checkpoint(f"poisoned/{name}")
        return BaseCell(paths.export(name), None, start, 0)
    if kind == "drop_all" and name:
        return BaseCell(paths.export(name), paths.drop_list(name), None, 0)
    raise ValueError(
        f"--cell {cell}: expected oracle-<number>, oracle_continue, poisoned/<name>, "
        "continue/<name> or drop_all/<name>"
    )


def train_base_model(
    base: BaseCell,
    *,
    model: ModelSettings,
    sampling: Sampling,
    loss: LossSettings,
    train: TrainSettings,
    cost: Cost,
    desc: str,
    scratch: Path,
    finetune: FinetuneSettings | None = None,
) -> tuple[VarNet, list[CurveRow]]:
    """Train one base model; see `BaseCell` for what sets them apart.

    `finetune` says how a cell with a start goes on; the others train by `train`.
    """
    refs = read_manifest(paths.manifest("train")).refs()
    dataset = SliceDataset(
        paths.kspace("train"), _kept(refs, base), sampling, targets=base.targets
    )
    val_refs = read_manifest(paths.manifest("val")).refs()
    val = SliceDataset(paths.kspace("val"), val_refs, sampling)
    if base.start is None or finetune is None:
        network = build_varnet(model, seed=train.seed + base.seed)
        optim: OptimSettings = train
        steps = steps_for(train.epochs, len(dataset), train.batch_size)
    else:
        network = load_checkpoint(base.start)
        optim = finetune
        steps = steps_for(finetune.epochs, len(refs), train.batch_size)
    curve = train_reconstruction(
        network,
        dataset,
        optim,
        loss,
        steps=steps,
        batch_size=train.batch_size,
        seed=train.seed + base.seed,
        cost=cost,
        desc=desc,
        val=val,
        validate_every=train.validate_every,
        scratch=scratch,
    )
    return network, curve


def _kept(refs: list[SliceRef], base: BaseCell) -> list[SliceRef]:
    if base.dropped is None:
        return refs
    dropped = set(read_slices(base.dropped, made_by="drop_list"))
    unknown = dropped - set(refs)
    if unknown:
        raise ValueError(
            f"{base.dropped} lists {len(unknown)} slices that the training set does "
            f"not hold, such as {sorted(unknown)[0]}: run `dvc repro drop_list`"
        )
    return [ref for ref in refs if ref not in dropped]
