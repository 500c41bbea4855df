"""Rows become scans: repetitions, ids, and tables that are damaged."""

import numpy as np
import pytest

from stages.synthesize import folder
from stages.synthesize.noise import fft2c
from stages.synthesize.scans import ScanError
from tests.synthesize.folder_files import read_all, refused, write_table
from tests.synthesize.raw_files import STOP, coil_images, settings

SHAPE = (2, 3, 27, 24)
ROW = {
    "file": "a.npy", "kind": "kspace", "subject": "p1", "contrast": "T1w",
    "axes": "slice coil row column", "centred": "yes",
}  # fmt: skip


def test_repetitions(tmp_path):
    stored = [
        fft2c(coil_images(SHAPE, seed=seed, share=0.7)).astype(np.complex64)
        for seed in range(3)
    ]
    for number, kspace in enumerate(stored):
        np.save(tmp_path / f"{number}.npy", kspace)
    rows = [ROW | {"file": f"{n}.npy", "repetition": r} for n, r in ((0, 10), (1, 2))]
    (mean,) = read_all(tmp_path, *rows, repetitions="average")
    np.testing.assert_allclose(mean.kspace, (stored[0] + stored[1]) / 2, atol=1e-5)
    (first,) = read_all(tmp_path, *rows, repetitions="first")
    np.testing.assert_array_equal(first.kspace, stored[1])
    kept = folder.find(tmp_path, settings(repetitions="keep"), STOP)
    assert [(scan.volume_id, scan.files[0].name) for scan in kept] == [
        ("p1_T1w-02", "1.npy"), ("p1_T1w-10", "0.npy"),
    ]  # fmt: skip
    found = folder.read(kept[1], settings(repetitions="keep"), STOP)
    np.testing.assert_array_equal(found.kspace, stored[0])
    np.save(tmp_path / "1.npy", stored[1][:1])
    refused(tmp_path, r"0.npy: kspace is \(2, .*of 1.npy \(1, .*must have one shape",
            *rows, repetitions="average")  # fmt: skip
    refused(tmp_path, r"0.npy and .*1.npy are repetitions of one image: .*keep or",
            *(row | {"kind": "image", "centred": ""} for row in rows),
            repetitions="average")  # fmt: skip


def test_ids(tmp_path):
    def pair(one, other):
        return [ROW | {"file": f"{n}.npy"} | row for n, row in enumerate((one, other))]

    refused(tmp_path, r"scans.csv: 'a b' and 'a/b' both would be 'a-b' in file names",
            *pair({"subject": "a b"}, {"subject": "a/b"}))  # fmt: skip
    refused(tmp_path, r"'P1' and 'p1' both would be 'p1'",
            *pair({"subject": "P1"}, {"subject": "p1"}))  # fmt: skip
    refused(tmp_path, r"'T1w-02 of p1' and 'T1w of p1' both would be 'p1_T1w-02'",
            *pair({"contrast": "T1w-02"}, {"repetition": "2"}),
            repetitions="keep")  # fmt: skip
    write_table(tmp_path)
    assert folder.find(tmp_path, settings(), STOP) == []
    (tmp_path / "scans.csv").write_text("file,kind\na.npy,kspace\n")
    with pytest.raises(ScanError, match=r"not as `download` writes it .*--single-item"):
        folder.find(tmp_path, settings(), STOP)
    (tmp_path / "scans.csv").unlink()
    with pytest.raises(ScanError, match=r"scans.csv is missing: run `dvc repro down"):
        folder.find(tmp_path, settings(), STOP)
