"""A tiny cohort of ellipsoid heads: its files, splits and repeatability."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from fastmri.data import SliceDataset

from stages.common.manifest import read_manifest
from stages.common.params import find_block, read_params, validate
from stages.common.paths import SPLITS
from stages.synthesize import ch2, cohort, noise, simulated
from stages.synthesize.anatomy import Anatomy
from stages.synthesize.scanners import whose_turn
from stages.synthesize.settings import SynthesizeSettings

Build = Callable[..., Path]


def ellipsoid_head(*_: Any) -> Anatomy:
    """White matter with ventricles in grey matter; no skull, no scalp."""
    x, y, z = np.indices((120, 140, 110)) - np.array([60, 60, 50])[:, None, None, None]
    radius = np.sqrt((x / 50) ** 2 + (y / 60) ** 2 + (z / 50) ** 2)
    csf = radius < 0.3
    wm = (radius < 0.8) & ~csf
    gm = (radius < 1) & ~csf & ~wm
    none = np.zeros_like(gm)
    maps = np.stack([gm, wm, csf, none, none]).astype(np.float32)
    return Anatomy(maps, None, np.array([-60.0, -78.0, -50.0]))


def small_settings(**changes: Any) -> SynthesizeSettings:
    block = find_block(read_params(), "synthesize")
    block |= {
        "matrix": 32,
        "oversampling": 2,
        "slices": 2,
        "extent": [0, 20],
        "subjects": {"train": 2, "val": 1, "test": 2},
    }
    return validate(block | changes, "synthesize", SynthesizeSettings)


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Build:
    monkeypatch.setattr(simulated, "load_anatomy", ellipsoid_head)

    def run(name: str, workers: int = 1, **changes: Any) -> Path:
        root, settings = tmp_path / name, small_settings(**changes)
        for split in SPLITS:
            cohort.synthesize_split(
                split,
                settings,
                raw=root / getattr(settings.sources, split),
                volumes=root / split,
                manifest=root / f"{split}.json",
                workers=workers,
            )
        return root

    return run


def _hashes(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_same_params_same_bytes_whatever_the_workers(build: Build) -> None:
    first = _hashes(build("a", workers=1))
    assert first == _hashes(build("b", workers=2))
    other = _hashes(build("c", seed=1))
    assert first.keys() == other.keys()
    assert not set(first.values()) & set(other.values())


def test_more_subjects_keep_the_first(build: Build) -> None:
    few = _hashes(build("few"))
    more = _hashes(build("more", subjects={"train": 2, "val": 1, "test": 3}))
    volumes = {name: value for name, value in few.items() if name.endswith(".h5")}
    assert volumes.items() <= more.items()


def test_one_contrast_less_keeps_the_others(build: Build) -> None:
    every = _hashes(build("every"))
    two = _hashes(build("two", contrasts=["T1w", "FLAIR"]))
    assert "train/icbm-000_T2w.h5" not in two
    assert two["train/icbm-000_FLAIR.h5"] == every["train/icbm-000_FLAIR.h5"]


def test_fastmri_opens_every_volume(build: Build) -> None:
    root = build("a")
    for split in SPLITS:
        manifest = read_manifest(root / f"{split}.json")
        dataset = SliceDataset(root=root / split, challenge="multicoil")
        assert len(dataset) == len(manifest.refs())
        kspace, _, target, attrs, name, _ = dataset[0]
        record = manifest.by_id()[Path(name).stem]
        assert kspace.shape == (record.coils, *record.matrix) == (4, 32, 32)
        assert target.shape == (32, 32)
        assert attrs["max"] == pytest.approx(record.max_value)
        assert attrs["patient_id"] == record.subject_id
        assert attrs["encoding_size"] == attrs["recon_size"] == (32, 32, 1)
        assert (attrs["padding_left"], attrs["padding_right"]) == (0, 32)


def test_target_is_rss_of_the_stored_kspace(build: Build) -> None:
    for path in sorted((build("a") / "train").glob("*.h5")):
        with h5py.File(path) as file:
            kspace, target = file["kspace"][:], file["reconstruction_rss"][:]
        assert kspace.dtype == np.complex64
        images = noise.ifft2c(kspace)
        rss = np.sqrt((np.abs(images) ** 2).sum(axis=1))
        np.testing.assert_allclose(target, rss, rtol=1e-5, atol=1e-5 * target.max())
        assert 50 < target.max() < 200


def test_splits_are_by_subject(build: Build) -> None:
    root = build("a")
    subjects = {}
    for split in SPLITS:
        volumes = read_manifest(root / f"{split}.json").volumes
        subjects[split] = {volume.subject_id for volume in volumes}
        for volume in volumes:
            assert volume.volume_id == f"{volume.subject_id}_{volume.contrast}"
    assert subjects == {
        "train": {"icbm-000", "icbm-001"},
        "val": {"icbm-002"},
        "test": {"ch2-000", "ch2-001"},
    }


def test_subjects_differ_and_contrasts_share_geometry(build: Build) -> None:
    folder = build("a", snr={"T1w": 1e6, "T2w": 1e6, "FLAIR": 1e6}) / "train"

    def outline(name: str) -> np.ndarray:
        with h5py.File(folder / f"{name}.h5") as file:
            target = file["reconstruction_rss"][0]
        return target > 0.15 * np.median(target[target > 0.3 * target.max()])

    same = outline("icbm-000_T1w") ^ outline("icbm-000_FLAIR")
    other = outline("icbm-000_T1w") ^ outline("icbm-001_T1w")
    assert other.sum() > 0
    assert same.sum() < outline("icbm-000_T1w").sum()


def test_noise_has_the_snr_asked_for(build: Build) -> None:
    noisy = build("noisy", snr={"T1w": 20, "T2w": 20, "FLAIR": 20}) / "test"
    with h5py.File(noisy / "ch2-000_T1w.h5") as file:
        kspace, target = file["kspace"][:], file["reconstruction_rss"][:]
    corner = noise.ifft2c(kspace)[..., :4, :4].real
    brain = np.median(target[target > 0.3 * target.max()])
    assert brain / corner.std() == pytest.approx(20, rel=0.3)


def test_empty_slices_are_dropped_from_every_contrast(build: Build) -> None:
    root = build("a", slices=3, extent=[0, 62])
    manifest = read_manifest(root / "train.json")
    for volume in manifest.volumes:
        assert volume.num_slices == 2
        assert (volume.volume_id, 2) in manifest.dropped_slices
        with h5py.File(root / "train" / f"{volume.volume_id}.h5") as file:
            assert len(file["kspace"]) == 2


def test_a_smaller_cohort_leaves_no_volume_of_the_larger(build: Build) -> None:
    build("a", subjects={"train": 3, "val": 1, "test": 2})
    root = build("a")
    for split in SPLITS:
        volumes = {path.stem for path in (root / split).iterdir()}
        assert volumes == set(read_manifest(root / f"{split}.json").by_id())


def test_a_cohort_without_tissue_is_an_error(build: Build, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"synthesize\.extent = \[80.0, 95.0\]"):
        build("a", extent=[80, 95])
    assert not (tmp_path / "a" / "train.json").exists()


def test_a_missing_or_damaged_source_names_its_stage(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"missing: run `dvc repro download@ch2`"):
        simulated.load_anatomy(ch2, tmp_path / "ch2")
    (tmp_path / "ch2").mkdir()
    (tmp_path / "ch2" / "ch2.nii.gz").write_bytes(b"not an image")
    with pytest.raises(ValueError, match=r"cannot be read.*download@ch2"):
        simulated.load_anatomy(ch2, tmp_path / "ch2")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"subjects": {"train": None, "val": 1, "test": 1}}, r"subjects\.train' is nu"),
        ({"contrasts": ["T1w", "PDw"]}, r"sequences' has no entry for PDw"),
    ],
)
def test_what_only_scans_allow_is_refused(build: Build, changes, message) -> None:
    with pytest.raises(ValueError, match=message):
        build("a", **changes)


def _scanners() -> dict[str, Any]:
    block = find_block(read_params(), "synthesize.scanners")
    return {name: dict(row) for name, row in block.items()}


def test_subjects_lie_in_scanners_by_turns(build: Build) -> None:
    """Two to one, both from the first subjects on, and more subjects move nobody."""
    scanners = small_settings().scanners
    turns = [whose_turn(scanners, number) for number in range(24)]
    assert [turn[-1] for turn in turns[:6]] == ["a", "b", "a", "a", "b", "a"]
    assert turns.count("sim-0.3T-b") == 8
    root = build("two", subjects={"train": 3, "val": 1, "test": 2})
    held = {
        volume.subject_id: volume.scanner
        for volume in read_manifest(root / "train.json").volumes
    }
    assert list(held.values()) == turns[:3]
    with h5py.File(root / "train" / "icbm-001_T2w.h5") as file:
        assert "<systemModel>sim-0.3T-b<" in str(file["ismrmrd_header"][()])


def test_scanners_differ_in_noise_and_coils(build: Build) -> None:
    """One subject in either scanner: the same head, other coils and more noise."""
    scanners = _scanners()
    images = {}
    for name, row in scanners.items():
        quiet = build(f"quiet-{name}", scanners={name: row | {"noise": 1e-6}})
        noisy = build(name, scanners={name: row})
        with (
            h5py.File(quiet / "train" / "icbm-000_T2w.h5") as clean,
            h5py.File(noisy / "train" / "icbm-000_T2w.h5") as file,
        ):
            added = file["kspace"][()] - clean["kspace"][()]
            images[name] = (clean["kspace"][()], added.real.std())
    (first, less), (second, more) = images.values()
    assert more / less == pytest.approx(1.3, rel=0.15)
    parts = [np.abs(noise.ifft2c(kspace)) for kspace in (first, second)]
    shares = [part / np.sqrt((part**2).sum(axis=1, keepdims=True)) for part in parts]
    inside = np.s_[:, :, 10:22, 10:22]
    assert np.abs(shares[0][inside] - shares[1][inside]).mean() > 0.02
