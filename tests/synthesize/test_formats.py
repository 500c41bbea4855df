"""One array in every format comes back the same, and damage is told."""

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from stages.synthesize.formats import arrange, read_array, read_stored
from stages.synthesize.scans import ScanError
from tests.synthesize.folder_files import write_bart, write_matlab_73
from tests.synthesize.nifti_files import truncate
from tests.synthesize.raw_files import HEADER

AXES = ("row", "column", "coil", "slice")
SHAPE = (10, 8, 3, 2)


def numbers(shape=SHAPE, seed=0):
    rng = np.random.default_rng(seed)
    parts = rng.standard_normal((2, *shape)).astype(np.float32)
    return parts[0] + 1j * parts[1]


def write_numpy(path, array):
    np.save(path, np.asfortranarray(array))


def write_matlab(path, array):
    savemat(path, {"k": array, "TE": 30.0, "name": "brain"})


def write_matlab_newest(path, array):
    write_matlab_73(path, k=array, TE=np.ones((1, 1)))


def write_hdf5(path, array):
    with h5py.File(path, "w") as file:
        file["raw/k"] = array
        file["image"] = np.abs(array)


WRITERS = {
    "a.npy": write_numpy, "b.cfl": write_bart, "c.mat": write_matlab,
    "D.MAT": write_matlab_newest, "e.h5": write_hdf5,
}  # fmt: skip


@pytest.fixture(params=list(WRITERS))
def stored(request, tmp_path):
    array = numbers()
    WRITERS[request.param](tmp_path / request.param, array)
    return tmp_path / request.param, array


def test_every_format_gives_the_same(stored):
    """MATLAB's axes too, which version 7.3 stores in reverse."""
    path, array = stored
    found = read_stored(path, "")
    assert found.axes == ()
    assert found.data.dtype == np.complex64
    arranged = arrange(found.data, AXES, path)
    np.testing.assert_array_equal(arranged, array.transpose(3, 2, 0, 1))


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_truncated_files(stored, share):
    path, _ = stored
    truncate(path, share)
    with pytest.raises(ScanError, match=rf"{path.name}.*(export|truncated)"):
        read_stored(path, "")


def test_missing_files(stored):
    path, _ = stored
    path.unlink()
    with pytest.raises(ScanError, match=rf"{path.name} is missing: run `dvc repro"):
        read_stored(path, "")


def test_other_content(tmp_path):
    for name in WRITERS:
        path = tmp_path / name
        path.write_bytes(b"no such file, but long enough to be one. " * 30)
        path.with_suffix(".hdr").write_text("# Dimensions\n4 4\n")
        with pytest.raises(ScanError, match=rf"{name}.*export"):
            read_stored(path, "")
    np.save(tmp_path / "o.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(ScanError, match=r"o.npy cannot be read .*allow_pickle"):
        read_array(tmp_path / "o.npy", "")
    for text in ("4 4", "# Dimensions\n", "# Dimensions\n4 x\n"):
        (tmp_path / "b.hdr").write_text(text)
        with pytest.raises(ScanError, match=r"b.hdr cannot be read as the header of a"):
            read_array(tmp_path / "b.cfl", "")


def test_variables(tmp_path):
    array = numbers()
    savemat(tmp_path / "a.mat", {"k": array, "maps": array[:5], "s": {"x": array}})
    write_matlab_73(
        tmp_path / "b.mat", k=array, maps=array[:5], t=np.ones((2, 2), "u2")
    )
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["k"], file["maps"] = array, array[:5]
    for name in ("a.mat", "b.mat", "c.h5"):
        path = tmp_path / name
        np.testing.assert_array_equal(read_array(path, "maps"), array[:5])
        with pytest.raises(
            ScanError, match=rf"{name}: has several variables .*maps.*column 'key'"
        ):
            read_stored(path, "")
        with pytest.raises(
            ScanError,
            match=rf"{name}: has no variable 'K', it holds k \(.?10.*2.*correct",
        ):
            read_stored(path, "K")
    for name, key in (("a.mat", "s"), ("b.mat", "t")):
        with pytest.raises(ScanError, match=rf"{name}: '{key}' is .*outside of a str"):
            read_array(tmp_path / name, key)
    savemat(tmp_path / "d.mat", {"TE": 30.0, "times": np.ones((1, 9))})
    with pytest.raises(ScanError, match=r"d.mat: has no variable that could be .*TE"):
        read_array(tmp_path / "d.mat", "")


def test_axes_are_checked(tmp_path):
    array, path = numbers(), tmp_path / "x.npy"

    def refused(axes, message, data=array, path=path):
        with pytest.raises(ScanError, match=message):
            arrange(data, axes, path)

    single = arrange(array[:, :, :1, :1], ("row", "column", "-", "-"), path)
    np.testing.assert_array_equal(single[0, 0], array[:, :, 0, 0])
    refused(
        ("row", "column", "coil"), r"x.npy: has 4 axes \(10, 8, 3, 2\), called 'row"
    )
    refused(("row", "column", "coil", "-"), r"lengths \(10, 8, 3, 2\).*may be '-'")
    refused(
        ("coil", "row", "column", "-"),
        r"x.npy: axes",
        numbers((256, 20, 20, 1))[..., :1].repeat(1, 3),
    )
    refused(
        ("coil", "row", "column"),
        r"256 coils of 20 × 20 .*correct 'axes'",
        numbers((256, 20, 20)),
    )
    refused(
        ("row", "column"),
        r"x.npy: holds <U1 \(1, 1\), expected numbers",
        np.array([["a"]]),
    )
    refused(("row", "column"), r"expected numbers", np.ones((0, 4)))
    array[1, 2, 0, 1] = np.nan
    refused(AXES, r"x.npy: 1 values are NaN or infinite: replace them")
    # Neither BART nor MATLAB tells how many axes of length 1 come last.
    for name in ("x.mat", "x.cfl"):
        plane = arrange(numbers((6, 5, 1)), ("row", "column"), tmp_path / name)
        assert plane.shape == (1, 1, 6, 5)
        more = arrange(numbers((6, 5)), ("row", "column", "coil"), tmp_path / name)
        assert more.shape == (1, 1, 6, 5)
    refused(("row", "column", "coil"), r"x.npy: has 2 axes", numbers((6, 5)))


def test_fastmri_names_its_axes(tmp_path):
    path, kspace = tmp_path / "f.h5", numbers((2, 3, 10, 8))
    header = HEADER.format(x=10, y=8, rows=10, columns=8, last=7, centre=4)
    with h5py.File(path, "w") as file:
        file["kspace"], file["ismrmrd_header"] = kspace, header.encode()
        file["reconstruction_rss"] = np.ones((2, 6, 6), np.float32)
        file.attrs["acquisition"] = "AXT2"
    found = read_stored(path, "")
    assert found.axes == ("slice", "coil", "row", "column")
    assert (found.acquisition, found.header) == ("AXT2", header)
    np.testing.assert_array_equal(found.data, kspace)
    np.testing.assert_array_equal(found.target, np.ones((2, 6, 6)))
    with h5py.File(path, "w") as file:
        file["kspace"] = kspace[:, 0]
    assert read_stored(path, "").axes == ("slice", "row", "column")
