"""The pool of real artefacts: aligned with the clean twins, whole or not at all."""

import json

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from stages.common.artefacts import read_artefact_image, read_artefact_index
from stages.common.params import ParamsError, find_block, read_params, validate
from stages.synthesize import images, m4raw, mr_art, registration
from stages.synthesize.artefacts import write_pool
from stages.synthesize.registration import register_rigidly
from stages.synthesize.scans import RawScan, Scan, ScanError, StopError
from stages.synthesize.selection import kept_slices, slice_signal
from stages.synthesize.settings import SynthesizeSettings
from tests.synthesize.nifti_files import head, save, truncate, write_mr_art
from tests.synthesize.raw_files import STOP, write_m4raw

ALL = {"standard": 1, "headmotion1": 2, "headmotion2": 3}


def settings(**scans):
    block = find_block(read_params(), "synthesize")
    block = block | {"matrix": 32, "coils": 2, "scans": block["scans"] | scans}
    return validate(block, "synthesize", SynthesizeSettings)


def skipped(tmp_path):
    index = json.loads((tmp_path / "pool" / "artefacts.json").read_text("utf-8"))
    return dict(index["skipped"])


def pool(tmp_path, *sources, given=None):
    return write_pool(
        sources,
        raw=lambda name: tmp_path / name,
        folder=tmp_path / "pool",
        settings=given or settings(),
        workers=1,
    )


def test_no_source_makes_an_empty_pool(tmp_path):
    assert pool(tmp_path) == []
    assert read_artefact_index(tmp_path / "pool") == []
    assert [path.name for path in (tmp_path / "pool").iterdir()] == ["artefacts.json"]


def test_moved_scans_lie_on_their_twins(tmp_path):
    write_mr_art(tmp_path / "mr_art", scores=ALL, shift=(1.5, -1, 0.5))
    given = settings(max_slices=3)
    records = pool(tmp_path, "mr_art", given=given)
    assert records == read_artefact_index(tmp_path / "pool")
    assert [(r.volume_id, r.score, r.num_slices, r.matrix) for r in records] == [
        ("mr_art-000103_T1w-headmotion1", 2, 3, (32, 32)),
        ("mr_art-000103_T1w-headmotion2", 3, 3, (32, 32)),
    ]
    assert {(r.subject_id, r.contrast, r.source) for r in records} == {
        ("mr_art-000103", "T1w", "mr_art")
    }
    (clean,) = mr_art.find(tmp_path / "mr_art", given.scans, STOP)
    still = mr_art.read(clean, given.scans, STOP)
    kept = kept_slices({"a": slice_signal(still.image)}, given.scans)["a"]
    twin = images.to_volume(clean, still, kept, given).target
    for number in range(3):
        moved = read_artefact_image(
            tmp_path / "pool", "mr_art-000103_T1w-headmotion1", number
        )
        assert moved.dtype == np.float32
        # The same shading, the same place: only interpolation and noise differ.
        assert np.corrcoef(moved.ravel(), twin[number].ravel())[0, 1] > 0.98


def test_walked_scans(tmp_path):
    volume = head(4, (28, 28, 20))
    affine = np.diag([8.0, 8.0, 8.0, 1.0])
    save(tmp_path / "exbox1" / "metal.nii.gz", volume, affine)
    (record,) = pool(tmp_path, "exbox1")
    assert (record.volume_id, record.contrast, record.score) == (
        "exbox1-metal",
        "unknown",
        None,
    )
    image = read_artefact_image(tmp_path / "pool", "exbox1-metal", 0)
    assert image.shape == (32, 32)
    # Native units, no noise outside the head.
    assert 400 < np.percentile(image, 99.5) < 1500
    assert image[:2].max() < 20


def test_raw_scans_keep_their_size(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    kspace = rng.standard_normal((2, 3, 20, 24)) + 1j * rng.standard_normal(
        (2, 3, 20, 24)
    )
    scan = Scan("m4raw-7_T1w", "m4raw-7", "T1w", None, (tmp_path / "a.h5",))
    monkeypatch.setattr(m4raw, "find_motion", lambda *_: [scan])
    monkeypatch.setattr(
        m4raw,
        "read",
        lambda *_: RawScan(
            kspace.astype(np.complex64), None, None, "AXT1", "m4raw-0.3T"
        ),
    )
    (tmp_path / "m4raw").mkdir()
    (record,) = pool(tmp_path, "m4raw")
    assert (record.volume_id, record.source, record.matrix) == (
        "m4raw-7_T1w",
        "m4raw",
        (20, 24),
    )
    image = read_artefact_image(tmp_path / "pool", "m4raw-7_T1w", 1)
    # Parseval: the transform is orthonormal.
    assert (image**2).sum() == pytest.approx((np.abs(kspace[1]) ** 2).sum(), rel=1e-4)


def test_damage_leaves_the_old_pool(tmp_path, caplog):
    pool(tmp_path)
    write_mr_art(tmp_path / "mr_art", scores=ALL)
    name = "sub-000103/anat/sub-000103_acq-headmotion1_T1w.nii.gz"
    truncate(tmp_path / "mr_art" / name)
    with pytest.raises(ScanError, match=r"headmotion1_T1w.nii.gz: .*on_error to skip"):
        pool(tmp_path, "mr_art")
    assert read_artefact_index(tmp_path / "pool") == []
    records = pool(tmp_path, "mr_art", given=settings(on_error="skip"))
    assert [record.score for record in records] == [3]
    assert "left out" in caplog.text
    assert list(skipped(tmp_path)) == [f"mr_art/{name}"]
    for acquisition in ("headmotion2", "standard"):
        truncate(tmp_path / "mr_art" / name.replace("headmotion1", acquisition))
    with pytest.raises(ScanError, match=r"every scan with artefacts was left out; the"):
        pool(tmp_path, "mr_art", given=settings(on_error="skip"))
    assert len(read_artefact_index(tmp_path / "pool")) == 1


def test_what_cannot_be_listed_is_told(tmp_path):
    """A name, a twin, a header: each of one image, and the others are made."""
    motion = tmp_path / "m4raw" / "motion" / "inter-scan_motion"
    for number in (1, 2):
        write_m4raw(motion / f"7_T10{number}.h5", slices=2, size=32, seed=number)
    (motion / "7_T102.h5").write_bytes(b"nothing")
    (motion / "notes.h5").touch()
    write_mr_art(tmp_path / "mr_art", scores={"headmotion1": 2})
    write_mr_art(tmp_path / "mr_art", "4", scores={"standard": 1, "headmotion1": 2})
    truncate(tmp_path / "mr_art" / "sub-4" / "anat" / "sub-4_acq-standard_T1w.nii.gz")
    (tmp_path / "exbox1").mkdir()
    (tmp_path / "exbox1" / "bad.nii.gz").write_bytes(b"nothing")
    sources = ("m4raw", "mr_art", "exbox1")
    for source in sources:
        with pytest.raises(StopError, match="on_error to skip"):
            pool(tmp_path, source)
    (record,) = pool(tmp_path, *sources, given=settings(on_error="skip"))
    assert record.volume_id == "m4raw-7_T1w-inter"
    reasons = {
        "m4raw/motion/inter-scan_motion/notes.h5": "not a name of M4Raw",
        "mr_art/sub-000103/anat/sub-000103_acq-headmotion1_T1w.nii.gz": "clean twin",
        "exbox1/bad.nii.gz": "its header cannot be read",
        "m4raw/motion/inter-scan_motion/7_T102.h5": "cannot be read",
        # It is left out with its twin.
        "mr_art/sub-4/anat/sub-4_acq-headmotion1_T1w.nii.gz": "standard_T1w.nii.gz: ",
    }
    told = skipped(tmp_path)
    assert list(told) == list(reasons)
    assert all(reason in told[name] for name, reason in reasons.items())
    with pytest.raises(ScanError, match=r"was left out; the first one: .*clean twin"):
        pool(tmp_path, "mr_art", given=settings(on_error="skip"))


def test_sources_that_have_nothing(tmp_path):
    with pytest.raises(ParamsError, match=r"'artefacts' names brats, .*exbox1, m4raw"):
        pool(tmp_path, "brats")
    with pytest.raises(ScanError, match=r"mr_art is missing: add mr_art to download"):
        pool(tmp_path, "mr_art")
    write_mr_art(tmp_path / "mr_art", scores={"standard": 1})
    with pytest.raises(ScanError, match=r"no images with artefacts: add headmotion1"):
        pool(tmp_path, "mr_art")


def test_registration_undoes_a_known_motion(tmp_path):
    shape = (56, 60, 48)
    fixed = head(5, shape)
    rotation = Rotation.from_euler("xyz", [5, -3, 8], degrees=True).as_matrix()
    centre, shift = (np.array(shape) - 1) / 2, np.array([2.0, -1.5, 1.0])
    offset = centre - rotation @ centre + shift
    moved = ndimage.affine_transform(fixed, rotation, offset, order=3)
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    paths = [
        save(tmp_path / "moved.nii.gz", 0.7 * moved.clip(0), affine),
        save(tmp_path / "fixed.nii.gz", fixed, affine),
    ]
    result = register_rigidly(*paths)
    assert result.shape == shape
    assert result.min() >= 0
    np.testing.assert_array_equal(result, register_rigidly(*paths))
    # What is left of the motion, from how the image would change with a small one.
    inside = ndimage.binary_erosion(fixed > 50, iterations=4)
    smooth = ndimage.gaussian_filter(fixed, 1)
    slopes = np.stack([slope[inside] for slope in np.gradient(smooth)], axis=1)
    left = (ndimage.gaussian_filter(result, 1) / 0.7 - smooth)[inside]
    voxels = np.linalg.lstsq(slopes, left, rcond=None)[0]
    assert np.abs(voxels).max() < 0.1
    corner = np.corrcoef(result[inside], fixed[inside])[0, 1]
    assert corner > 0.99 > 0.9 > np.corrcoef(moved[inside], fixed[inside])[0, 1]


def test_registration_that_makes_no_sense(tmp_path, monkeypatch):
    affine = np.diag([8.0, 8.0, 8.0, 1.0])
    fixed = head(5, (20, 20, 20))
    paths = [
        save(tmp_path / "m.nii", ndimage.shift(fixed, (3, 0, 0), order=1), affine),
        save(tmp_path / "f.nii", fixed, affine),
    ]
    monkeypatch.setattr(registration, "_FARTHEST", 10.0)
    with pytest.raises(
        ScanError, match=r"m.nii: registration to f.nii ended at 2\d mm"
    ):
        register_rigidly(*paths)
    save(tmp_path / "m.nii", np.ones((20, 20, 20), np.float32), affine)
    save(tmp_path / "f.nii", np.ones((20, 20, 20), np.float32), affine)
    with pytest.raises(ScanError, match=r"m.nii: cannot be registered to f.nii .*one"):
        register_rigidly(*paths)
    save(tmp_path / "f.nii", np.zeros((20, 20, 20), np.float32), affine)
    with pytest.raises(ScanError, match=r"f.nii: holds no value above zero"):
        register_rigidly(*paths)
