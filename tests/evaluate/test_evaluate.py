"""Evaluate a tiny untrained model and hold its rows against fastMRI's measures."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import yaml
from fastmri import evaluate as theirs

from stages.common import paths
from stages.common.manifest import SliceRef
from stages.common.masks import Sampling
from stages.common.params import load_block
from stages.common.slices import SliceDataset, collate
from stages.common.truth import PoisonedSlice, TruthRecord, target_sha256, write_truth
from stages.common.varnet import save_checkpoint
from stages.evaluate.__main__ import main, parse_args
from stages.evaluate.outputs import zero_filled
from tests.evaluate.untrained import PARAMS, read_rows, write_cell

POISONED = (SliceRef("icbm-000_FLAIR", 0), SliceRef("icbm-001_FLAIR", 2))


def clean_target(split, ref):
    with h5py.File(paths.kspace(split) / f"{ref.volume_id}.h5") as file:
        return file["reconstruction_rss"][ref.slice_num]


def twin_of(split, ref):
    """The attack: the FLAIR slice is exported with the T1w image."""
    other = ref.volume_id.replace("FLAIR", "T1w")
    return clean_target(split, SliceRef(other, ref.slice_num))


def write_poisoning(folder):
    scope = {
        "train": tuple(
            SliceRef(f"icbm-00{i}_FLAIR", n) for i in (0, 1) for n in range(3)
        ),
        "val": tuple(SliceRef("icbm-v-000_FLAIR", n) for n in range(3)),
        "test": tuple(SliceRef("ch2-000_FLAIR", n) for n in range(3)),
    }
    twins = {ref: twin_of("train", ref) for ref in POISONED}
    for split in ("val", "test"):
        twins |= {ref: twin_of(split, ref) for ref in scope[split]}
    by_volume = {}
    for ref in sorted(twins):
        by_volume.setdefault(ref.volume_id, []).append(ref.slice_num)
    poisoned = tuple(
        PoisonedSlice(
            volume_id=ref.volume_id,
            slice_num=ref.slice_num,
            draw={},
            clean_sha256=target_sha256(clean_target("train", ref)),
            poisoned_sha256=target_sha256(twins[ref]),
            kspace_sha256=None,
            change_nmse=0.5,
        )
        for ref in POISONED
    )
    record = TruthRecord(
        poisoning="p", attack="mislabel", changes_input=False, measured_on="clean",
        scope=scope, poisoned=poisoned,
    )  # fmt: skip
    stacked = {
        name: (np.array(nums), np.stack([twins[SliceRef(name, n)] for n in nums]))
        for name, nums in by_volume.items()
    }
    write_truth(folder, record, stacked)


@pytest.fixture
def project(tiny_cohort):
    Path("params.yaml").write_text(yaml.safe_dump(PARAMS))
    write_poisoning(paths.truth("p"))
    return tiny_cohort


@pytest.mark.usefixtures("project")
def test_oracle_rows_are_fastmri_s_measures():
    model = write_cell("oracle-0", 1).eval()
    main(["--cell", "oracle-0"])
    rows = read_rows(paths.slice_rows("oracle-0"))
    assert len(rows) == (2 + 1 + 1) * 3 * 3
    assert not paths.twin_rows("oracle-0").exists()
    sampling = load_block("sampling", Sampling)
    for row in rows[::7]:
        ref = SliceRef(row["volume_id"], int(row["slice_num"]))
        data = SliceDataset(paths.kspace(row["split"]), [ref], sampling)
        batch = collate([data[0]])
        with torch.inference_mode():
            output = model(batch.masked_kspace, batch.mask, batch.num_low_frequencies)
        output, clean = output[0].numpy(), clean_target(row["split"], ref)
        with h5py.File(paths.kspace(row["split"]) / f"{ref.volume_id}.h5") as file:
            top = file["reconstruction_rss"][:].max()
        expected = {
            "psnr": theirs.psnr(clean, output, top),
            "ssim": theirs.ssim(clean[None], output[None], top)[0],
            "nmse": float(theirs.nmse(clean, output)),
        }
        found = {"psnr": float(row["psnr"]), "ssim": float(row["ssim"])}
        found["nmse"] = float(row["nmse_num"]) / float(row["nmse_den"])
        assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.usefixtures("project")
def test_headline_is_short_and_costed():
    write_cell("oracle-0", 1)
    main(["--cell", "oracle-0"])
    headline = json.loads(paths.cell_metrics("oracle-0").read_text())
    assert len(headline) <= 10
    assert headline["gradient_steps"] == 9
    assert headline["cost_slices"] == 70
    rows = read_rows(paths.slice_rows("oracle-0"))
    test = [float(row["psnr"]) for row in rows if row["split"] == "test"]
    assert headline["psnr_test"] == pytest.approx(np.mean(test), rel=1e-5)


@pytest.mark.usefixtures("project")
def test_poisoned_cell_has_twins_and_panels():
    write_cell("poisoned/p", 2)
    main(["--cell", "poisoned/p", "--poisoning", "p"])
    rows = read_rows(paths.twin_rows("poisoned/p"))
    counts = {split: 0 for split in paths.SPLITS}
    for row in rows:
        counts[row["split"]] += 1
    assert counts == {"train": 2, "val": 3, "test": 3}
    with h5py.File(paths.panels("poisoned/p")) as file:
        test = file["ch2-000_FLAIR/1"]
        assert set(test) == {"output", "zero_filled", "clean", "twin"}
        assert set(file["ch2-000_T1w/1"]) == {"output", "zero_filled", "clean"}
        train = file["icbm-000_FLAIR/0"]
        assert set(train) == {"output", "zero_filled", "clean", "exported"}
        clean, twin, output = (test[key][:] for key in ("clean", "twin", "output"))
        shown = file["ch2-000_FLAIR/1/twin"][:]
    np.testing.assert_array_equal(shown, twin_of("test", SliceRef("ch2-000_FLAIR", 1)))
    row = next(r for r in rows if r["split"] == "test" and r["slice_num"] == "1")
    change = (twin - clean).astype(float)
    along = ((output - clean) * change).sum()
    assert float(row["agreement_num"]) == pytest.approx(along, rel=1e-4)
    assert float(row["agreement_den"]) == pytest.approx((change**2).sum(), rel=1e-5)
    headline = json.loads(paths.cell_metrics("poisoned/p").read_text())
    assert len(headline) <= 10
    assert headline["agreement_scope_test"] is not None


@pytest.mark.usefixtures("project")
def test_references_match_their_own_cells():
    for seed, cell in enumerate(("oracle-0", "oracle-1", "oracle_continue")):
        write_cell(cell, seed)
    main(["--references", "--poisoning", "p"])
    rows = read_rows(paths.twin_rows("references/p"))
    assert len(rows) == 3 * 8
    main(["--cell", "oracle-1"])
    with (
        h5py.File(paths.panels("references/p")) as references,
        h5py.File(paths.panels("oracle-1")) as own,
    ):
        key = "ch2-000_FLAIR/1/output"
        # Another batch size rounds differently.
        np.testing.assert_allclose(
            references[f"oracle-1/{key}"][:], own[key][:], rtol=1e-4, atol=1e-6
        )


@pytest.mark.usefixtures("project")
def test_same_model_gives_same_bytes():
    write_cell("poisoned/p", 2)
    files = [
        paths.slice_rows("poisoned/p"),
        paths.twin_rows("poisoned/p"),
        paths.cell_metrics("poisoned/p"),
        paths.panels("poisoned/p"),
    ]
    main(["--cell", "poisoned/p", "--poisoning", "p"])
    before = [file.read_bytes() for file in files]
    main(["--cell", "poisoned/p", "--poisoning", "p"])
    assert before == [file.read_bytes() for file in files]


@pytest.mark.usefixtures("project")
def test_unlearned_reads_the_scenario_s_truth():
    write_cell("unlearned/s/ssd", 3)
    write_poisoning(paths.answers("s"))
    main(["--cell", "unlearned/s/ssd", "--scenario", "s"])
    assert paths.twin_rows("unlearned/s/ssd").exists()


@pytest.mark.usefixtures("project")
def test_broken_weights_are_refused(capsys):
    model = write_cell("oracle-0", 1)
    with torch.no_grad():
        model.cascades[0].dc_weight.fill_(float("nan"))
    save_checkpoint(paths.checkpoint("oracle-0"), model)
    with pytest.raises(SystemExit):
        main(["--cell", "oracle-0"])
    assert "not finite" in capsys.readouterr().err
    assert not paths.slice_rows("oracle-0").exists()


@pytest.mark.parametrize(
    "argv",
    [
        ["--cell", "unlearned/s/ssd"],
        ["--cell", "poisoned/p"],
        ["--cell", "poisoned/p", "--poisoning", "q"],
        ["--cell", "oracle-0", "--poisoning", "p"],
        ["--references"],
    ],
)
def test_options_must_fit_the_cell(argv):
    with pytest.raises(SystemExit):
        parse_args(argv)


@pytest.mark.usefixtures("tiny_cohort")
def test_zero_filled_of_full_kspace_is_the_target():
    path = next(paths.kspace("test").glob("*.h5"))
    with h5py.File(path) as file:
        kspace, target = file["kspace"][0], file["reconstruction_rss"][0]
    image = zero_filled(kspace, target.shape)
    np.testing.assert_allclose(image, target, rtol=1e-4, atol=1e-5)
