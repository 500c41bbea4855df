"""From a person's table to volumes: of made-up files, and of real ones if here."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from stages.common.params import find_block, read_params, validate
from stages.download.folder import Params, fetch
from stages.synthesize import cohort, folder
from stages.synthesize.noise import fft2c
from stages.synthesize.scans import ScanError
from stages.synthesize.settings import SynthesizeSettings
from tests.synthesize.nifti_files import SIZE, head
from tests.synthesize.raw_files import STOP, coil_images, rss, settings

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data"
REAL_TABLE = """file;kind;subject;contrast;axes;centred;key;sens_key;sens_axes
espirit_full.cfl;kspace;espirit;T1w;- row column coil;yes;;;
larson_se_t1_sag.mat;kspace;larson;T1w;row column;yes;;;
alignedsense_xGT.mat;image;aligned;T2w;row column;;xGT;S;row column - coil
brats_gli00001_t2w.nii.gz;image;brats;T2w;;;;;
tcga_fg6692_t2.nii.gz;image;tcga;T2w;;;;;
"""
TABLE = f"""file,kind,subject,contrast,split,axes,centred,key,spacing,scanner
raw/p1.npy,kspace,p1,T1w,train,slice coil row column,yes,,,
p1.mat,image,p1,T2w,train,row column,,x,,
p2.npy,image,p2,T1w,test,column row slice,,,{SIZE} x {SIZE},old
"""


@pytest.fixture
def local(tmp_path, monkeypatch):
    monkeypatch.setenv("MENDMRI_LOCAL", str(tmp_path / "disk"))
    path = tmp_path / "disk" / "folder"
    (path / "raw").mkdir(parents=True)
    return path


def synthesize(split, root):
    block = find_block(read_params(), "synthesize") | {
        "matrix": 32, "oversampling": 2, "contrasts": ["T1w", "T2w"],
        "sources": dict.fromkeys(("train", "val", "test"), "folder"),
        "subjects": {"train": None, "val": 1, "test": 1},
    }  # fmt: skip
    return cohort.synthesize_split(
        split,
        validate(block, "synthesize", SynthesizeSettings),
        raw=root / "raw",
        volumes=root / split,
        manifest=root / f"{split}.json",
        workers=1,
    )


def test_volumes_say_where_they_come_from(local, tmp_path):
    images = coil_images((3, 2, 28, 26), share=0.7)
    np.save(local / "raw" / "p1.npy", fft2c(images).astype(np.complex64))
    savemat(local / "p1.mat", {"x": images[0, 0], "TE": 30.0})
    np.save(local / "p2.npy", head())
    (local / "scans.csv").write_text(TABLE)
    fetch(Params(table="scans.csv"), tmp_path / "raw")
    train, test = (synthesize(split, tmp_path) for split in ("train", "test"))
    assert [(v.volume_id, v.scanner, v.coils, v.matrix) for v in train.volumes] == [
        ("p1_T1w", "folder", 2, (28, 26)),
        ("p1_T2w", "computed-from-image-folder", 1, (28, 26)),
    ]
    assert [(v.volume_id, v.scanner) for v in test.volumes] == [
        ("p2_T1w", "simulated-old")
    ]
    with h5py.File(tmp_path / "train" / "p1_T1w.h5") as file:
        np.testing.assert_allclose(
            file["reconstruction_rss"], rss(fft2c(images)), rtol=1e-4
        )
    with h5py.File(tmp_path / "train" / "p1_T2w.h5") as file:
        assert file.attrs["acquisition"] == "T2w, computed from an image"
        header = file["ismrmrd_header"][()].decode()
        assert "<systemModel>computed-from-image-folder</systemModel>" in header


def test_undersampled_kspace_is_refused(local, tmp_path):
    kspace = fft2c(coil_images((3, 2, 28, 26), share=0.7)).astype(np.complex64)
    kspace[..., ::4] = 0
    np.save(local / "raw" / "p1.npy", kspace)
    (local / "scans.csv").write_text("\n".join(TABLE.splitlines()[:2]))
    fetch(Params(table="scans.csv"), tmp_path / "raw")
    with pytest.raises(ScanError, match=r"p1.npy: 6 of 25 columns are missing"):
        synthesize("train", tmp_path)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real files are not here")
def test_real_files(local, tmp_path):
    for path in REAL.iterdir():
        (local / path.name).symlink_to(path)
    (local / "scans.csv").write_text(REAL_TABLE)
    fetch(Params(table="scans.csv"), tmp_path / "raw")
    scans = {
        scan.subject_id: folder.read(scan, settings(), STOP)
        for scan in folder.find(tmp_path / "raw", settings(), STOP)
    }
    shapes = {
        name: scans[name].kspace.shape for name in ("espirit", "larson", "aligned")
    }
    assert shapes == {
        "espirit": (1, 8, 230, 180), "larson": (1, 1, 256, 256),
        "aligned": (1, 32, 128, 128),
    }  # fmt: skip
    assert scans["brats"].image.shape == (155, 240, 240)
    assert scans["tcga"].image.shape == (26, 256, 224)
    assert scans["tcga"].spacing == pytest.approx((0.8984, 0.8984), abs=1e-3)
    for name in ("espirit", "aligned"):
        # A head that is not wrapped: air in the corners.
        image = rss(scans[name].kspace)[0]
        rows, columns = (length // 8 for length in image.shape)
        corners = [image[:rows, :columns], image[-rows:, -columns:]]
        middle = image[3 * rows : 5 * rows, 3 * columns : 5 * columns]
        assert max(corner.mean() for corner in corners) < 0.1 * middle.mean()
