"""What each cell of `train` means, and the stage run from end to end."""

import csv
import json
from pathlib import Path

import h5py
import pytest
import torch
import yaml

from stages.common import paths
from stages.common.manifest import SliceRef, read_manifest, write_slices
from stages.common.varnet import load_checkpoint
from stages.common.volume import write_targets
from stages.train.__main__ import main
from stages.train.base_models import BaseCell, parse_cell

OPTIM = {"lr": 0.003, "weight_decay": 0.0, "warmup": 0.0, "clip_norm": 1.0}
PARAMS = {
    "sampling": {
        "seed": 7, "mask_type": "random", "acceleration": 2, "center_fraction": 0.2,
    },
    "model": {
        "num_cascades": 1, "chans": 2, "pools": 1, "sens_chans": 2, "sens_pools": 1,
        "precision": "fp32",
    },
    "loss": {"l1_weight": 1.0},
    "train": OPTIM | {"seed": 3, "epochs": 2, "batch_size": 4, "validate_every": 1},
    "unlearn": {"finetune": OPTIM | {"epochs": 1}},
}  # fmt: skip
DROPPED = [SliceRef("icbm-000_FLAIR", 0), SliceRef("icbm-001_T1w", 2)]


@pytest.fixture
def project(tiny_cohort: Path) -> Path:
    """Params, an export whose FLAIR targets are turned, and its list of slices."""
    (tiny_cohort / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    for volume in read_manifest(paths.manifest("train")).volumes:
        with h5py.File(paths.kspace("train") / f"{volume.volume_id}.h5") as file:
            target = file["reconstruction_rss"][:]
        if volume.contrast == "FLAIR":
            target = target[:, ::-1].copy()
        write_targets(paths.export("p") / f"{volume.volume_id}.h5", target)
    write_slices(paths.drop_list("p"), DROPPED)
    return tiny_cohort


def weights(cell: str) -> dict[str, torch.Tensor]:
    return load_checkpoint(paths.checkpoint(cell)).state_dict()


def same(a: str, b: str) -> bool:
    first, second = weights(a), weights(b)
    return all(torch.equal(first[name], second[name]) for name in first)


def run(cell: str) -> dict[str, int]:
    main(["--cell", cell])
    return json.loads(paths.cost(cell).read_text())


@pytest.mark.parametrize(
    ("cell", "meaning"),
    [
        ("oracle-0", (None, None, None, 0)),
        ("oracle-12", (None, None, None, 12)),
        ("oracle_continue", (None, None, paths.checkpoint("oracle-0"), 0)),
        ("poisoned/a-30", (paths.export("a-30"), None, None, 0)),
        (
            "continue/p",
            (paths.export("p"), None, paths.checkpoint("poisoned/p"), 0),
        ),
        ("drop_all/p", (paths.export("p"), paths.drop_list("p"), None, 0)),
    ],
)
def test_keys_are_read(cell, meaning):
    base = parse_cell(cell)
    assert base == BaseCell(*meaning)
    assert {path for path in meaning[:3] if path} <= set(base.inputs())


@pytest.mark.parametrize(
    "cell",
    ["oracle", "oracle-", "oracle-x", "oracle-0/p", "poisoned", "poisoned/", "drop_all",
     "unlearned/s/ssd", "oracle_continue/p", "", "poisoned/../p"],
)  # fmt: skip
def test_other_keys_are_refused(cell):
    with pytest.raises(ValueError, match="cell"):
        parse_cell(cell)


@pytest.mark.usefixtures("project")
def test_every_kind_of_base_model():
    costs = {
        cell: run(cell)
        for cell in (
            "oracle-0", "oracle-1", "poisoned/p", "drop_all/p", "oracle_continue",
            "continue/p",
        )
    }  # fmt: skip
    steps = {cell: cost["gradient_steps"] for cell, cost in costs.items()}
    assert steps == {
        "oracle-0": 10, "oracle-1": 10, "poisoned/p": 10, "drop_all/p": 8,
        "oracle_continue": 5, "continue/p": 5,
    }  # fmt: skip
    assert costs["drop_all/p"]["slices_forward_backward"] == 2 * 16
    for other in ("oracle-1", "poisoned/p", "drop_all/p", "oracle_continue"):
        assert not same("oracle-0", other)
    assert not same("poisoned/p", "continue/p")
    with paths.curve("oracle-0").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["5", "10"]
    assert all(float(row["val_psnr"]) for row in rows)
    assert not [path for path in paths.SCRATCH.rglob("*") if path.suffix == ".pt"]


@pytest.mark.usefixtures("project")
def test_the_same_cell_gives_the_same_bytes():
    run("poisoned/p")
    files = [paths.checkpoint("poisoned/p"), paths.curve("poisoned/p")]
    before = [path.read_bytes() for path in files]
    run("poisoned/p")
    assert [path.read_bytes() for path in files] == before


@pytest.mark.usefixtures("project")
def test_the_poisoned_model_sees_the_export_alone():
    """Leakage: the clean image beside the k-space changes nothing; the export does."""
    run("poisoned/p")
    before = weights("poisoned/p")
    for path in paths.kspace("train").iterdir():
        with h5py.File(path, "r+") as file:
            file["reconstruction_rss"][...] = 1.0
            file.attrs["max"] = 1.0
    run("poisoned/p")
    after = weights("poisoned/p")
    assert all(torch.equal(before[name], after[name]) for name in before)
    run("oracle-0")  # planted: what reads the clean image does change
    assert not same("poisoned/p", "oracle-0")
    write_targets(paths.export("p") / "icbm-000_T1w.h5", torch.ones(3, 40, 32).numpy())
    run("poisoned/p")
    changed = weights("poisoned/p")
    assert not all(torch.equal(before[name], changed[name]) for name in before)


def test_a_foreign_drop_list_is_refused(project, capfd):
    write_slices(paths.drop_list("p"), [SliceRef("icbm-999_T1w", 0)])
    with pytest.raises(SystemExit) as exit_:
        main(["--cell", "drop_all/p"])
    assert exit_.value.code == 2
    assert "icbm-999_T1w" in capfd.readouterr().err
    assert not (project / "data/models").exists()


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [("epohcs", 1, "train.epohcs"), ("lr", -1, "train.lr"), ("lr", None, "train.lr")],
)
def test_a_bad_parameter_stops_before_any_work(project, capfd, key, value, named):
    params = PARAMS | {"train": PARAMS["train"] | {key: value}}
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    with pytest.raises(SystemExit) as exit_:
        main(["--cell", "oracle-0"])
    assert exit_.value.code == 2
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert named in lines[0]
    assert not (project / "data/models").exists()


def test_a_truncated_volume_names_file_and_stage(project, capfd):
    path = paths.kspace("train") / "icbm-001_T2w.h5"
    (project / path).write_bytes((project / path).read_bytes()[:2000])
    with pytest.raises(SystemExit):
        main(["--cell", "oracle-0"])
    error = capfd.readouterr().err
    assert str(path) in error
    assert "--single-item synthesize" in error
