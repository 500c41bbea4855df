"""Two matrix sizes and coil counts in one data set: every stage groups its batches."""

import csv
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from stages.check.discover import plugins
from stages.common import paths
from stages.common.fit import Cost
from stages.common.slices import SliceDataset, make_loader
from stages.common.truth import read_record, read_twins
from stages.common.varnet import build_varnet, save_checkpoint
from stages.common.volume import COLUMNS
from stages.evaluate.__main__ import main as evaluate
from stages.poison.__main__ import main as poison
from stages.train.base_models import parse_cell, train_base_model
from stages.unlearn.base import load_method
from tests.unlearn.toy_case import (
    LOSS,
    MODEL,
    SAMPLING,
    TRAIN,
    open_case,
    params_of,
    same,
    write_case,
)

SHAPES = {(4, 40, 32), (3, 36, 44)}


@pytest.fixture
def mixed(make_cohort):
    return make_cohort(mixed=True, train=4, val=2, test=2)


def test_batches_are_of_one_shape_and_visit_every_slice(mixed):
    dataset = SliceDataset(paths.kspace("train"), mixed["train"].refs(), SAMPLING)
    loader = make_loader(dataset, batch_size=5, shuffle_seed=1)
    batches = list(loader)
    assert len(batches) == len(loader) == 8
    assert {tuple(batch.masked_kspace.shape[1:]) for batch in batches} == SHAPES
    refs = [ref for batch in batches for ref in batch.refs]
    assert sorted(refs) == mixed["train"].refs()


def write_poisoning(**swap):
    row = {
        "attack": "mislabel",
        "share": 0.2,
        "scope": {"contrast": "FLAIR"},
        "unit": "slice",
        "seed": 3,
        "settings": {**swap, "severity": 1.0},
    }
    Path("params.yaml").write_text(yaml.safe_dump({"poisonings": {"p": row}}))


def test_poison_keeps_every_target_its_size(mixed):
    write_poisoning(swap="contrast", other="T1w")
    poison(["--poisoning", "p"])
    twins = read_twins(paths.truth("p"))
    volumes = mixed["train"].by_id()
    poisoned = [entry.ref for entry in read_record(paths.truth("p")).poisoned]
    assert {volumes[ref.volume_id].matrix for ref in poisoned} == {(40, 32), (36, 44)}
    assert all(twins[ref].shape == volumes[ref.volume_id].matrix for ref in poisoned)


@pytest.mark.usefixtures("mixed")
def test_nobody_of_ones_own_size_to_swap_with_is_an_error(capsys):
    """Two people of each size in training, and one in validation."""
    write_poisoning(swap="subject")
    with pytest.raises(SystemExit):
        poison(["--poisoning", "p"])
    message = capsys.readouterr().err
    assert "val holds no slice 0 (40, 32) in FLAIR of another subject" in message


def test_training_and_evaluation(mixed):
    network, curve = train_base_model(
        parse_cell("oracle-0"), model=MODEL, sampling=SAMPLING, loss=LOSS,
        train=TRAIN.model_copy(update={"epochs": 5.0, "lr": 0.01}), cost=Cost(),
        desc="", scratch=Path("fit.pt"),
    )  # fmt: skip
    assert curve[-1]["val_loss"] < curve[0]["val_loss"]
    save_checkpoint(paths.checkpoint("oracle-0"), network)
    cost = {"slices_forward_backward": 1, "slices_forward": 0, "gradient_steps": 1}
    paths.cost("oracle-0").write_text(json.dumps(cost))
    params = {"evaluate": {"batch_size": 4}, "sampling": SAMPLING.model_dump()}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    evaluate(["--cell", "oracle-0"])
    with paths.slice_rows("oracle-0").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(len(manifest.refs()) for manifest in mixed.values())
    assert np.isfinite([float(row["psnr"]) for row in rows]).all()


@pytest.mark.parametrize("name", plugins("unlearn"))
@pytest.mark.usefixtures("mixed")
def test_every_method(name, tmp_path):
    write_case()
    model, case = open_case(tmp_path / "scratch")
    method = load_method(name)
    corrected = method.unlearn(model, case, params_of(method))
    assert all(value.isfinite().all() for value in corrected.state_dict().values())
    assert not same(corrected, model)


def test_columns_that_were_never_acquired_are_no_measurement(mixed):
    path = paths.kspace("train") / "icbm-000_T1w.h5"
    with h5py.File(path, "r+") as file:
        file.attrs[COLUMNS] = (5, 28)
    refs = [ref for ref in mixed["train"].refs() if ref.volume_id == "icbm-000_T1w"]
    for sample in SliceDataset(paths.kspace("train"), refs, SAMPLING):
        assert not sample.mask[:5].any()
        assert not sample.mask[28:].any()
        assert sample.mask[5:28].any()
        assert not sample.masked_kspace[..., :5].any()
        model = build_varnet(MODEL, seed=1)
        output = model(
            sample.masked_kspace[None], sample.mask[None], sample.num_low_frequencies
        )
        assert output.isfinite().all()
