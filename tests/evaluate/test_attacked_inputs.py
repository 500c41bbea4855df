"""Attacks on the input: measured from the attack's k-space, beside the clean one."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import yaml

from stages.common import metrics, paths
from stages.common.manifest import SliceRef, read_manifest
from stages.common.masks import Sampling
from stages.common.params import load_block
from stages.common.samples import SliceFiles
from stages.common.slices import SliceDataset, collate
from stages.common.truth import (
    TWINS,
    PoisonedSlice,
    TruthRecord,
    Twins,
    kspace_sha256,
    target_sha256,
    write_truth,
)
from stages.common.volume import VolumeError, write_targets
from stages.evaluate.__main__ import main
from stages.evaluate.outputs import zero_filled
from tests.evaluate.untrained import PARAMS, read_rows, write_cell

CELL = "poisoned/p"


def planes(split, volume_id):
    with h5py.File(paths.kspace(split) / f"{volume_id}.h5") as file:
        return file["kspace"][:], file["reconstruction_rss"][:]


def attacked(split, volume_id):
    """The attack of these tests: half the k-space, the image upside down."""
    kspace, target = planes(split, volume_id)
    return kspace * np.complex64(0.5), target[:, ::-1].copy()


def write_poisoning(folder: Path, *, measured_on: str) -> None:
    scope, twins, poisoned = {}, {}, []
    for split in paths.SPLITS:
        volumes = read_manifest(paths.manifest(split)).volumes
        chosen = [volume for volume in volumes if volume.contrast == "FLAIR"]
        scope[split] = tuple(
            SliceRef(volume.volume_id, number) for volume in chosen for number in (0, 1)
        )
        for volume in chosen:
            kspace, target = attacked(split, volume.volume_id)
            both = np.array([0, 1])
            twins[volume.volume_id] = Twins(both, target[both], kspace[both])
            if split == "train":
                poisoned += [
                    PoisonedSlice(
                        volume_id=volume.volume_id,
                        slice_num=number,
                        draw={},
                        clean_sha256="",
                        poisoned_sha256=target_sha256(target[number]),
                        kspace_sha256=kspace_sha256(kspace[number]),
                        change_nmse=0.5,
                    )
                    for number in (0, 1)
                ]
    record = TruthRecord(
        poisoning="p",
        attack="trigger",
        changes_input=True,
        measured_on=measured_on,
        scope=scope,
        poisoned=tuple(poisoned),
    )
    write_truth(folder, record, twins)


@pytest.fixture
def project(tiny_cohort):  # noqa: ARG001
    Path("params.yaml").write_text(yaml.safe_dump(PARAMS))
    write_poisoning(paths.truth("p"), measured_on="attacked")


@pytest.mark.usefixtures("project")
def test_rows_of_both_inputs():
    model = write_cell(CELL, 2)
    main(["--cell", CELL, "--poisoning", "p"])
    rows = read_rows(paths.twin_rows(CELL))
    assert {row["input"] for row in rows} == {"clean", "attacked"}
    assert len(rows) == 2 * 2 * (2 + 1 + 1)
    sampling = load_block("sampling", Sampling)
    clean = {(row["volume_id"], row["slice_num"]) for row in rows[::2]}
    assert clean == {(row["volume_id"], row["slice_num"]) for row in rows[1::2]}
    row = next(r for r in rows if r["split"] == "test" and r["input"] == "attacked")
    ref = SliceRef(row["volume_id"], int(row["slice_num"]))
    # The model's own doing: half of the clean slice's masked k-space.
    sample = SliceDataset(paths.kspace("test"), [ref], sampling)[0]
    batch = collate([sample])
    with torch.inference_mode():
        half = batch.masked_kspace * 0.5
        output = model(half, batch.mask, batch.num_low_frequencies)[0].numpy()
    target = sample.target.numpy()
    expected = metrics.psnr(target, output, sample.max_value)
    assert float(row["psnr"]) == pytest.approx(expected, rel=1e-4)
    along, change = metrics.agreement_parts(target, target[::-1], output)
    assert float(row["agreement_num"]) == pytest.approx(along, rel=1e-4)
    assert float(row["agreement_den"]) == pytest.approx(change, rel=1e-4)
    # Every slice once, from its clean k-space, against the truth.
    slices = read_rows(paths.slice_rows(CELL))
    assert len(slices) == (2 + 1 + 1) * 3 * 3


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("measured_on", ["attacked", "clean"])
def test_headline_takes_the_input_of_the_record(measured_on):
    write_poisoning(paths.truth("p"), measured_on=measured_on)
    write_cell(CELL, 2)
    main(["--cell", CELL, "--poisoning", "p"])
    rows = read_rows(paths.twin_rows(CELL))
    chosen = [r for r in rows if r["split"] == "test" and r["input"] == measured_on]
    headline = json.loads(paths.cell_metrics(CELL).read_text())
    mean = np.mean([float(row["psnr"]) for row in chosen])
    assert headline["psnr_scope_test"] == pytest.approx(mean, rel=1e-4)


@pytest.mark.usefixtures("project")
def test_references_are_given_the_attacked_input_too():
    models = {
        cell: write_cell(cell, seed)
        for seed, cell in enumerate(("oracle-0", "oracle-1", "oracle_continue"))
    }
    main(["--references", "--poisoning", "p"])
    rows = read_rows(paths.twin_rows("references/p"))
    assert len(rows) == 3 * 2 * 2 * (2 + 1 + 1)
    assert {row["cell"] for row in rows if row["input"] == "attacked"} == set(models)
    with h5py.File(paths.panels("references/p")) as file:
        # What is shown of a slice with a twin is what the attack does to it.
        shown = file["oracle-0/ch2-000_FLAIR/1/zero_filled"][:]
        assert shown.shape == file["oracle-0/ch2-000_FLAIR/1/twin"].shape


@pytest.mark.usefixtures("project")
def test_an_export_with_kspace_replaces_the_scanner_s():
    sampling = load_block("sampling", Sampling)
    ref = SliceRef("icbm-000_FLAIR", 1)
    kspace, target = attacked("train", ref.volume_id)
    folder = paths.export("p")
    clean = SliceFiles(paths.kspace("train"), None, "poison").read(ref, sampling)
    write_targets(folder / f"{ref.volume_id}.h5", target, kspace)
    files = SliceFiles(paths.kspace("train"), folder, "poison")
    exported = files.read(ref, sampling)
    torch.testing.assert_close(exported.masked_kspace, clean.masked_kspace * 0.5)
    torch.testing.assert_close(exported.mask, clean.mask)
    np.testing.assert_array_equal(exported.target, target[1])
    write_targets(folder / f"{ref.volume_id}.h5", target)
    torch.testing.assert_close(
        files.read(ref, sampling).masked_kspace, clean.masked_kspace
    )


@pytest.mark.usefixtures("project")
def test_a_missing_twin_is_named():
    sampling = load_block("sampling", Sampling)
    twins = paths.truth("p") / TWINS
    files = SliceFiles(paths.kspace("test"), None, "poison", twins)
    files.read(SliceRef("ch2-000_FLAIR", 1), sampling)
    with pytest.raises(VolumeError, match=r"ch2-000_FLAIR.h5 has no twin of slice 2"):
        files.read(SliceRef("ch2-000_FLAIR", 2), sampling)


@pytest.mark.usefixtures("project")
def test_what_the_input_alone_shows():
    write_cell(CELL, 2)
    main(["--cell", CELL, "--poisoning", "p"])
    sampling = load_block("sampling", Sampling)
    for row in read_rows(paths.twin_rows(CELL))[-2:]:
        ref = SliceRef(row["volume_id"], int(row["slice_num"]))
        sample = SliceDataset(paths.kspace("test"), [ref], sampling)[0]
        target = sample.target.numpy()
        half = 0.5 if row["input"] == "attacked" else 1.0
        image = half * zero_filled(sample.masked_kspace.numpy(), target.shape)
        along, _ = metrics.agreement_parts(target, target[::-1], image)
        found = float(row["agreement_zero_filled_num"])
        assert found == pytest.approx(along, rel=1e-4)
        ssim = metrics.ssim(target, target[::-1].copy(), sample.max_value)
        assert float(row["twin_ssim"]) == pytest.approx(ssim, rel=1e-4)
