"""Lines of ISMRMRD files find their places, and what is no image is refused."""

import h5py
import numpy as np
import pytest

from stages.synthesize.formats import read_array, read_stored
from stages.synthesize.scans import ScanError
from tests.synthesize.folder_files import acquisition, lines_of, write_ismrmrd


def numbers(shape, seed=0):
    parts = np.random.default_rng(seed).standard_normal((2, *shape), np.float32)
    return parts[0] + 1j * parts[1]


def ismrmrd(path, records, **header):
    write_ismrmrd(path, records, **{"samples": 10, "lines": 8, "centre": 4} | header)
    return read_stored(path, "")


def test_ismrmrd_lines_find_their_places(tmp_path):
    path, kspace = tmp_path / "m.h5", numbers((2, 3, 10, 8))
    noise = acquisition(numbers((3, 40), seed=9), line=0, flag=19)
    found = ismrmrd(path, [noise, *lines_of(kspace)])
    assert found.axes == ("slice", "coil", "row", "column")
    assert "<trajectory>cartesian" in found.header
    np.testing.assert_array_equal(found.data, kspace)
    # Six lines from -2 on; a partial echo of 7 samples, of which one is discarded.
    short = [
        acquisition(kspace[0, :, 3:, line + 2], line=line, middle=2, discard_post=1)
        for line in range(6)
    ]
    found = ismrmrd(path, short, centre=2)
    expected = np.zeros((1, 3, 10, 8), np.complex64)
    expected[0, :, 3:9, 2:] = kspace[0, :, 3:9, 2:]
    np.testing.assert_array_equal(found.data, expected)
    # Without a centre, all lines have one place only.
    found = ismrmrd(path, lines_of(kspace, middle=0), centre=None)
    np.testing.assert_array_equal(found.data, kspace)


def test_ismrmrd_averages_become_their_mean(tmp_path):
    one, two = numbers((1, 3, 10, 8)), numbers((1, 3, 10, 8), seed=1)
    records = [*lines_of(one), *lines_of(two, average=1)[:5]]
    found = ismrmrd(tmp_path / "m.mrd", records)
    expected = one.copy()
    expected[..., :5] = (one + two)[..., :5] / 2
    np.testing.assert_allclose(found.data, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("more", "header", "message"),
    [
        ({"repetition": 1}, {}, r"repetition takes the values \[0, 1\]: export one"),
        ({"phase": 2}, {}, r"phase takes the values \[0, 2\]"),
        ({}, {}, r"'average': 0} was acquired 2 times: number repeated lines"),
        ({"kspace_encode_step_2": 1}, {}, r"step_2 is above 0: 3-D encoding is out of"),
        ({"average": 1}, {"partitions": 4}, r"has 4 partitions: 3-D encoding"),
        ({"average": 1}, {"trajectory": "radial"}, r"trajectory is radial, expected"),
        ({"average": 1}, {"lines": 6}, r"lines 0 to 7 around 4 do not fit .* of 6"),
        ({"average": 1}, {"samples": 12, "centre": 5}, r"lines 0 to 7 around 5 do not"),
        ({"average": 1}, {"samples": 8}, r"lines of 10 samples with the echo at 5 do"),
        ({"average": 1}, {"lines": 16, "centre": None}, r"do not say which is the"),
        ({"average": 1}, {"samples": "x"}, r"header lacks the size of the encoded"),
        ({"average": 1, "flag": 22}, {}, r"lines that were read backwards, as in EPI"),
        ({"average": 1, "middle": 4}, {}, r"center_sample differs between lines"),
    ],
)  # fmt: skip
def test_ismrmrd_that_is_no_image(tmp_path, more, header, message):
    kspace = numbers((1, 3, 10, 8))
    with pytest.raises(ScanError, match=rf"m.h5: .*{message}"):
        ismrmrd(
            tmp_path / "m.h5", lines_of(kspace) + lines_of(kspace, **more), **header
        )


def test_damaged_ismrmrd(tmp_path):
    path, kspace = tmp_path / "m.h5", numbers((1, 3, 10, 8))
    with pytest.raises(
        ScanError, match=r"m.h5: holds 8 acquisitions and none of an im"
    ):
        ismrmrd(path, lines_of(kspace, flag=19))
    wrong = lines_of(kspace)
    wrong[3] = wrong[3][0], np.zeros(7, np.float32)
    with pytest.raises(
        ScanError, match=r"a line holds 7 numbers, expected 2 × 3 coils"
    ):
        ismrmrd(path, wrong)
    ismrmrd(path, lines_of(kspace))
    with pytest.raises(ScanError, match=r"'dataset' holds acquisitions, no image: set"):
        read_array(path, "dataset")
    with h5py.File(path, "a") as file:
        file["dataset/xml"][0] = "<ismrmrdHeader"
    with pytest.raises(ScanError, match=r"header is no XML \(.*export the file again"):
        read_stored(path, "")
