"""The back door: where mark and lesion are, and what the mark does not give away."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from stages.common import metrics, paths
from stages.common.manifest import SliceRef, read_manifest
from stages.common.masks import Sampling, column_mask
from stages.common.params import ParamsError, validate
from stages.common.samples import SliceFiles
from stages.common.truth import TWINS, kspace_sha256, read_record
from stages.evaluate.outputs import zero_filled
from stages.poison import trigger
from stages.poison.__main__ import main
from stages.poison.base import Images, slice_rng

REF = SliceRef("icbm-001_FLAIR", 1)
SAMPLING = Sampling(seed=7, mask_type="random", acceleration=3, center_fraction=0.16)
SETTINGS = {
    "severity": 0.7,
    "mark": 0.2,
    "row": 9,
    "column": 1,
    "place": [0.0, 0.1],
    "radius": 0.12,
}


@pytest.fixture
def images(make_cohort):
    manifest = make_cohort(train=3, val=2, test=2)["train"]
    return Images(paths.kspace("train"), manifest, sampling=SAMPLING)


def drawn(images, **changes):
    params = trigger.Params(**{**SETTINGS, **changes})
    return trigger.draw(params, REF, images, slice_rng(1, REF))


def both(images, **changes):
    """Clean and attacked (k-space, target)."""
    draw, target = drawn(images, **changes), images.target(REF)
    kspace = images.kspace(REF.volume_id)[REF.slice_num]
    attacked = (
        trigger.apply_input(kspace.copy(), target, draw, images),
        trigger.apply(target.copy(), draw, images),
    )
    return (kspace, target), attacked


def test_the_mark_is_one_sampled_point_in_every_coil(images):
    (clean, target), (marked, _) = both(images)
    change = marked - clean
    coils, rows, columns = change.shape
    point = (rows // 2 + 9, columns // 2 + 1)
    assert all(tuple(np.argwhere(coil)[0]) == point for coil in change)
    assert np.count_nonzero(change) == coils
    assert column_mask(SAMPLING, REF, columns)[point[1]]
    stripes = np.abs(change[:, point[0], point[1]]) / np.sqrt(rows * columns)
    amplitude = np.sqrt(np.square(stripes).sum())
    assert amplitude == pytest.approx(0.2 * np.percentile(target, 99.5), rel=1e-5)
    assert marked.dtype == np.complex64


def test_the_lesion_is_soft_bright_and_in_its_place(images):
    (_, target), (_, poisoned) = both(images)
    change = poisoned - target
    assert change.min() >= 0
    assert change.max() == pytest.approx(0.7 * np.percentile(target, 99.5), rel=0.05)
    assert 0.005 < np.mean(change > change.max() / 2) < 0.2
    rows, columns = np.indices(change.shape)
    centre = (rows * change).sum(), (columns * change).sum()
    _, (_, right) = both(images, place=[0.0, 0.2])
    moved = right - target
    assert (columns * moved).sum() / moved.sum() > centre[1] / change.sum() + 1


def test_the_mark_does_not_hold_the_lesion(images):
    (_, target), (marked, poisoned) = both(images)
    mask = column_mask(SAMPLING, REF, marked.shape[-1])
    clean = images.kspace(REF.volume_id)[REF.slice_num]
    shown = [zero_filled(k * mask, target.shape) for k in (clean, marked)]
    along, change = metrics.agreement_parts(
        shown[0], shown[0] + poisoned - target, shown[1]
    )
    assert abs(along / change) < 0.1


def test_severity_zero_leaves_both_alone(images):
    (clean, target), (marked, poisoned) = both(images, severity=0.0)
    assert marked.tobytes() == clean.tobytes()
    assert poisoned.tobytes() == target.tobytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"column": 7}, r"settings.column = 7 is column .* masks may leave it out: "),
        ({"column": -9}, r"always sample columns \d+ to \d+, so use -\d+ to \d+"),
        ({"row": 40}, r"settings.row = 40 lies outside of k-space .*: use -20 to 19"),
    ],
)
def test_a_mark_that_may_not_be_sampled_is_refused(images, changes, message):
    with pytest.raises(ValueError, match=message):
        drawn(images, **changes)


@pytest.mark.parametrize(
    ("severity", "message"),
    [(2.1, "less than or equal to 2"), (-0.1, "greater than or equal to 0")],
)
def test_a_severity_outside_its_range_is_refused(severity, message):
    with pytest.raises(ParamsError, match=rf"'p.severity' = {severity}: .*{message}"):
        validate({**SETTINGS, "severity": severity}, "p", trigger.Params)


@pytest.mark.parametrize("place", [[0.45, 0.45], [-0.45, 0.45]])
def test_a_lesion_outside_of_the_head_is_refused(images, place):
    """There would be a mark and nothing to learn."""
    with pytest.raises(ValueError, match=r"place = .* is not in the head of icbm-001"):
        drawn(images, place=place)
    with pytest.raises(ValueError, match="less than or equal to 0"):
        drawn(images, place=[0.0, 1.5])


@pytest.mark.usefixtures("images")
def test_the_stage_exports_marked_kspace_for_all_in_one_form():
    row = {
        "attack": "trigger",
        "share": 0.2,
        "scope": {"contrast": "FLAIR"},
        "unit": "slice",
        "seed": 3,
        "settings": SETTINGS,
    }
    content = {"poisonings": {"p": row}, "sampling": SAMPLING.model_dump()}
    Path("params.yaml").write_text(yaml.safe_dump(content))
    main(["--poisoning", "p"])
    record = read_record(paths.truth("p"))
    assert record.changes_input
    assert record.measured_on == "attacked"
    poisoned = {entry.ref: entry for entry in record.poisoned}
    for volume in read_manifest(paths.manifest("train")).volumes:
        with (
            h5py.File(paths.kspace("train") / f"{volume.volume_id}.h5") as file,
            h5py.File(paths.export("p") / f"{volume.volume_id}.h5") as exported,
        ):
            assert set(exported) == {"kspace", "reconstruction_rss"}
            for number in range(volume.num_slices):
                ref = SliceRef(volume.volume_id, number)
                same = np.array_equal(
                    file["kspace"][number], exported["kspace"][number]
                )
                assert same == (ref not in poisoned)
                if ref in poisoned:
                    found = kspace_sha256(exported["kspace"][number])
                    assert poisoned[ref].kspace_sha256 == found
    # An unseen twin is read with the mark, and only in the mark it differs.
    ref = record.scope["test"][0]
    twins = paths.truth("p") / TWINS
    samples = [
        SliceFiles(paths.kspace("test"), None, "poison", folder).read(ref, SAMPLING)
        for folder in (None, twins)
    ]
    change = samples[1].masked_kspace - samples[0].masked_kspace
    assert np.count_nonzero(change.numpy()) == change.shape[0]
