"""What every detector promises, whichever it is."""

import csv
import math
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import yaml

from stages.check.excerpt import excerpt
from stages.common import paths
from stages.common.manifest import SliceRef, read_manifest, write_slices
from stages.common.params import ParamsError, validate
from stages.common.truth import PoisonedSlice, TruthRecord, write_truth
from stages.detect.__main__ import main
from stages.detect.base import detector_names, load_detector
from tests.detect.toy_detection import (
    KNOWN,
    PARAMS,
    POISONED,
    open_data,
    scramble_what_is_not_known,
    write_poisoning,
)

DETECTORS = detector_names()
CLOSED = [name for name in DETECTORS if not load_detector(name).OPEN]
TRUTH = TruthRecord(
    poisoning="p",
    attack="mislabel",
    changes_input=False,
    measured_on="clean",
    scope={"train": POISONED},
    poisoned=tuple(
        PoisonedSlice(
            **ref._asdict(), draw={}, clean_sha256="", poisoned_sha256="",
            kspace_sha256=None, change_nmse=1.0,
        )
        for ref in POISONED
    ),
)  # fmt: skip
LEARNS = [name for name in DETECTORS if load_detector(name).NEEDS_KNOWN]


@pytest.fixture
def poisoned(make_cohort):
    make_cohort(train=4)
    write_poisoning()


def scores_of(name):
    detector = load_detector(name)
    return detector.score(open_data(), detector.Params(**PARAMS[name]))


_BEFORE: dict[str, dict[SliceRef, float]] = {}


def unchanged(name):
    """Scores of the toy as it is: computed once, it is the same in every folder."""
    if name not in _BEFORE:
        _BEFORE[name] = scores_of(name)
    return _BEFORE[name]


def test_the_toy_has_every_detector():
    assert set(PARAMS) == set(DETECTORS)
    assert set(DETECTORS) - set(CLOSED) >= {"kspace_consistency"}
    assert set(LEARNS) >= {"forget_classifier", "gradient_outlier"}


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.usefixtures("poisoned")
def test_every_slice_has_a_finite_score(name):
    scores = unchanged(name)
    assert set(scores) == set(read_manifest(paths.manifest("train")).refs())
    assert all(math.isfinite(value) for value in scores.values())
    assert len(set(scores.values())) > len(scores) / 2


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.usefixtures("poisoned")
def test_the_same_data_give_the_same_file(name):
    main(["--poisoning", "p", "--detector", name])
    closed, opened = paths.detection("p", name), paths.open_detection("p", name)
    path = closed if name in CLOSED else opened
    assert closed.exists() != opened.exists()
    first = path.read_bytes()
    torch.manual_seed(999)
    np.random.seed(999)
    main(["--poisoning", "p", "--detector", name])
    assert path.read_bytes() == first
    rows = list(csv.DictReader(first.decode().splitlines()))
    assert list(rows[0]) == ["volume_id", "slice_num", "score", "known"]
    refs = [SliceRef(row["volume_id"], int(row["slice_num"])) for row in rows]
    assert refs == read_manifest(paths.manifest("train")).refs()
    known = [ref for ref, row in zip(refs, rows, strict=True) if int(row["known"])]
    assert known == sorted(KNOWN)
    assert all(row["score"] == f"{float(row['score']):.6g}" for row in rows)


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.usefixtures("poisoned")
def test_no_detector_sees_the_truth(name):
    write_truth(paths.truth("p"), TRUTH, {})
    write_slices(paths.drop_list("p"), POISONED)
    before = scores_of(name)  # not `unchanged`: that was computed without the truth
    shutil.rmtree(paths.DATA / "truth")
    paths.drop_list("p").unlink()
    assert scores_of(name) == before


@pytest.mark.parametrize("name", CLOSED)
@pytest.mark.usefixtures("poisoned")
def test_the_threat_model_is_closed(name):
    before = unchanged(name)
    scramble_what_is_not_known()
    assert scores_of(name) == before


@pytest.mark.usefixtures("poisoned")
def test_the_open_detector_looks_outside_of_the_masks():
    before = scores_of("kspace_consistency")
    scramble_what_is_not_known()
    assert scores_of("kspace_consistency") != before


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.usefixtures("poisoned")
def test_targets_written_again_change_nothing(name):
    """How a file was written must not tell which of its slices are poisoned."""
    before = unchanged(name)
    for path in paths.export("p").iterdir():
        with h5py.File(path) as file:
            target, attrs = file["reconstruction_rss"][:], dict(file.attrs)
        path.unlink()
        with h5py.File(path, "w") as file:
            file.create_dataset("reconstruction_rss", data=target, compression="gzip")
            file.attrs.update(attrs)
    assert scores_of(name) == before


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.usefixtures("poisoned")
def test_exported_kspace_takes_the_scanners_place(name):
    """An attack that changes the input exports k-space: detectors look at that."""
    before = unchanged(name)
    for path in paths.export("p").iterdir():
        with h5py.File(paths.kspace("train") / path.name, "r+") as scanned:
            kspace = scanned["kspace"][:]
            scanned["kspace"][...] = 1
        with h5py.File(path, "r+") as file:
            file["kspace"] = kspace
    assert scores_of(name) == before


@pytest.mark.parametrize("name", LEARNS)
def test_known_slices_are_needed_and_said_so(name, make_cohort, capsys):
    make_cohort(train=4)
    write_poisoning(known=())
    with pytest.raises(SystemExit):
        main(["--poisoning", "p", "--detector", name])
    assert "raise detect.known above 0" in capsys.readouterr().err
    assert not paths.detection("p", name).exists()


@pytest.mark.parametrize("name", sorted(set(DETECTORS) - set(LEARNS)))
@pytest.mark.usefixtures("poisoned")
def test_other_detectors_need_no_report(name):
    before = unchanged(name)
    write_poisoning(known=())
    assert scores_of(name) == before


@pytest.mark.parametrize("name", LEARNS)
@pytest.mark.parametrize("known", [KNOWN[:1], POISONED])
def test_one_reported_slice_is_enough(name, known, make_cohort):
    make_cohort(train=4)
    write_poisoning(known=known)
    assert all(math.isfinite(value) for value in scores_of(name).values())


@pytest.mark.parametrize("name", DETECTORS)
def test_its_block_of_params_is_strict_and_read_without_importing_it(name):
    schema = excerpt(f"stages.detect.{name}", "Params")
    params = validate(PARAMS[name], f"detect.{name}", schema)
    assert params.model_dump() == PARAMS[name]
    with pytest.raises(ParamsError, match=rf"detect.{name}.lamda' is not a parameter"):
        validate(PARAMS[name] | {"lamda": 1}, f"detect.{name}", schema)
    for key in PARAMS[name]:
        with pytest.raises(ParamsError, match=rf"detect.{name}.{key}' = -5"):
            validate(PARAMS[name] | {key: -5}, f"detect.{name}", schema)


def fails(capsys, *argv):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2
    return capsys.readouterr().err


@pytest.mark.usefixtures("poisoned")
def test_unknown_names_list_the_known(capsys):
    text = fails(capsys, "--poisoning", "p", "--detector", "loss_outlayer")
    assert "there are data_consistency, " in text
    text = fails(capsys, "--poisoning", "q", "--detector", "loss_outlier")
    assert "params.yaml has p" in text


@pytest.mark.usefixtures("poisoned")
def test_missing_and_foreign_inputs_name_the_stage(capsys):
    cell = ["--poisoning", "p", "--detector", "data_consistency"]
    write_slices(paths.tips("p"), [SliceRef("icbm-009_FLAIR", 0)])
    text = fails(capsys, *cell)
    assert "icbm-009_FLAIR" in text
    assert "dvc repro forget_tips@p" in text
    paths.tips("p").unlink()
    assert "dvc repro forget_tips@p" in fails(capsys, *cell)
    write_slices(paths.tips("p"), KNOWN)
    (paths.export("p") / "icbm-001_T1w.h5").unlink()
    assert "dvc repro poison@p" in fails(capsys, *cell)
    paths.checkpoint("poisoned/p").unlink()
    assert "model.safetensors is missing" in fails(capsys, *cell)
    assert not paths.detection("p", "data_consistency").exists()


@pytest.mark.usefixtures("poisoned")
def test_a_score_that_is_not_finite_is_refused(capsys):
    with h5py.File(paths.export("p") / "icbm-001_T1w.h5", "r+") as file:
        file["reconstruction_rss"][2] = math.nan
    text = fails(capsys, "--poisoning", "p", "--detector", "loss_outlier")
    assert (
        "1 of 36 slices have no finite score, such as slice 2 of icbm-001_T1w" in text
    )


def test_params_yaml_is_asked_for_every_key(make_cohort, capsys):
    make_cohort(train=4)
    write_poisoning()
    path = Path("params.yaml")
    content = yaml.safe_load(path.read_text())
    del content["detect"]["loss_outlier"]
    path.write_text(yaml.safe_dump(content))
    text = fails(capsys, "--poisoning", "p", "--detector", "loss_outlier")
    assert "'detect.loss_outlier' is missing" in text
