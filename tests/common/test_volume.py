"""A volume is written whole and right, or refused with its name."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from stages.common.volume import (
    Volume,
    VolumeError,
    atomic_path,
    check_volume,
    open_volume,
    write_targets,
    write_text,
    write_volume,
)


@pytest.fixture
def volume() -> Volume:
    rng = np.random.default_rng(0)
    kspace = rng.standard_normal((2, 3, 12, 10, 2)).astype(np.float32)
    return Volume(
        kspace=kspace.view(np.complex64)[..., 0],
        target=rng.random((2, 12, 8), dtype=np.float32),
        header="<ismrmrdHeader/>",
        acquisition="AXFLAIR",
        patient_id="icbm-000",
    )


def test_round_trip_in_fastmris_layout(volume, tmp_path):
    path = tmp_path / "sub" / "v.h5"
    write_volume(path, volume)
    with open_volume(path, made_by="synthesize") as file:
        assert np.array_equal(file["kspace"][:], volume.kspace)
        assert file["kspace"].dtype == np.complex64
        assert np.array_equal(file["reconstruction_rss"][:], volume.target)
        assert file["ismrmrd_header"][()].decode() == volume.header
        assert file.attrs["max"] == pytest.approx(volume.target.max())
        assert file.attrs["norm"] == pytest.approx(np.linalg.norm(volume.target))
        assert file.attrs["acquisition"] == "AXFLAIR"
        assert file.attrs["patient_id"] == "icbm-000"
    assert [entry.name for entry in path.parent.iterdir()] == ["v.h5"]


def test_the_same_volume_gives_the_same_bytes(volume, tmp_path):
    write_volume(tmp_path / "a.h5", volume)
    write_volume(tmp_path / "b.h5", volume)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def broken(volume: Volume, fault: str) -> Volume:
    kspace, target = volume.kspace.copy(), volume.target.copy()
    if fault == "dtype":
        kspace = kspace.astype(np.complex128)
    elif fault == "axes":
        kspace = kspace[0]
    elif fault == "target dtype":
        target = target.astype(np.float64)
    elif fault == "target axes":
        target = target[0]
    elif fault == "count":
        target = target[:1]
    elif fault == "size":
        target = np.ones((2, 12, 11), np.float32)
    elif fault == "nan":
        target[1, 2, 3] = np.nan
    elif fault == "inf":
        kspace[0, 0, 0, 0] = np.inf
    elif fault == "empty":
        target[1] = 0
    else:
        kspace[1, 2] = 0
    return volume._replace(kspace=kspace, target=target)


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ("dtype", r"kspace is complex128 \(2, 3, 12, 10\), expected complex64"),
        ("axes", r"kspace is complex64 \(3, 12, 10\)"),
        ("target dtype", r"reconstruction_rss is float64"),
        ("target axes", r"reconstruction_rss is float32 \(12, 8\)"),
        ("count", r"2 k-space slices, 1 target slices"),
        ("size", r"target \(12, 11\) is larger than k-space \(12, 10\)"),
        ("nan", r"not finite"),
        ("inf", r"not finite"),
        ("empty", r"empty target in slices \[1\]"),
        ("dead coil", r"dead \(slice, coil\) pairs \[\[1, 2\]\]"),
    ],
)
def test_each_fault_is_refused_and_nothing_is_written(volume, tmp_path, fault, named):
    check_volume(volume, "v.h5")
    with pytest.raises(VolumeError, match=rf"v.h5: .*{named}"):
        write_volume(tmp_path / "v.h5", broken(volume, fault))
    assert not list(tmp_path.iterdir())


def fail(path: Path, content: str = "half") -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(content)
        raise OSError(28, "No space left on device")


def test_a_failure_midway_leaves_nothing(tmp_path):
    path = tmp_path / "new" / "file.txt"
    with pytest.raises(OSError, match="No space"):
        fail(path)
    assert not list(path.parent.iterdir())


def test_a_failure_midway_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with pytest.raises(OSError, match="No space"):
        fail(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_volume_that_fails_midway_leaves_nothing(volume, tmp_path, monkeypatch):
    def full(*_args: object, **_keywords: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(h5py.File, "create_dataset", full)
    with pytest.raises(OSError, match="No space"):
        write_volume(tmp_path / "v.h5", volume)
    with pytest.raises(OSError, match="No space"):
        write_targets(tmp_path / "t.h5", volume.target)
    assert not list(tmp_path.iterdir())


def test_a_slice_is_one_chunk_and_its_pixels_alone(volume, tmp_path):
    write_volume(tmp_path / "v.h5", volume)
    write_targets(tmp_path / "t.h5", volume.target)
    for name, keys in (("v.h5", ("kspace", "reconstruction_rss")),
                       ("t.h5", ("reconstruction_rss",))):  # fmt: skip
        with h5py.File(tmp_path / name) as file:
            for key in keys:
                data = file[key]
                chunks = [data.id.get_chunk_info(n) for n in range(2)]
                assert data.id.get_num_chunks() == 2
                assert [chunk.chunk_offset[0] for chunk in chunks] == [0, 1]
                assert [chunk.size for chunk in chunks] == [data[0].nbytes] * 2


def test_a_full_disk_is_an_error_that_names_the_file(volume, tmp_path, monkeypatch):
    def full(path: Path, content: bytes) -> None:  # noqa: ARG001
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    for path, write, content in (
        (tmp_path / "v.h5", write_volume, volume),
        (tmp_path / "t.h5", write_targets, volume.target),
    ):
        with pytest.raises(OSError, match="No space left") as error:
            write(path, content)
        assert error.value.filename == str(path)
    assert not list(tmp_path.iterdir())


def test_outputs_are_readable_by_others(tmp_path):
    write_text(tmp_path / "a", "x")
    (tmp_path / "b").touch()
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_targets_hold_the_image_and_its_max_alone(volume, tmp_path):
    write_targets(tmp_path / "t.h5", volume.target)
    with h5py.File(tmp_path / "t.h5") as file:
        assert list(file) == ["reconstruction_rss"]
        assert dict(file.attrs) == {"max": volume.target.max()}
        assert np.array_equal(file["reconstruction_rss"][:], volume.target)


@pytest.mark.parametrize("fault", ["truncated", "garbage", "empty", "no key"])
def test_damaged_files_name_file_and_stage(volume, tmp_path, fault):
    path = tmp_path / "v.h5"
    write_volume(path, volume)
    content = path.read_bytes()
    if fault == "no key":
        with h5py.File(path, "r+") as file:
            del file["kspace"]
    else:
        damaged = {"truncated": content[:600], "garbage": b"x" * 900, "empty": b""}
        path.write_bytes(damaged[fault])
    named = r"v.h5 cannot be read .* `dvc repro --force --single-item synthesize`"
    with (
        pytest.raises(VolumeError, match=named),
        open_volume(path, made_by="synthesize") as file,
    ):
        file["kspace"][:]


def test_a_missing_file_names_the_stage(tmp_path):
    with (
        pytest.raises(VolumeError, match=r"v.h5 is missing: run `dvc repro poison`"),
        open_volume(tmp_path / "v.h5", made_by="poison"),
    ):
        pass
