"""ExBox1 is walked as the paper did, and is no cohort."""

import logging

import numpy as np
import pytest

from stages.common.params import load_block
from stages.synthesize import exbox1
from stages.synthesize.scans import Problems, ScanError
from stages.synthesize.settings import SynthesizeSettings
from tests.synthesize.nifti_files import head, save
from tests.synthesize.raw_files import STOP

SETTINGS = load_block("synthesize", SynthesizeSettings).scans
TALL = (12, 12, 18)


def test_it_is_no_cohort(tmp_path):
    with pytest.raises(ScanError, match=r"exbox1 has .*no clean scans.*'artefacts'"):
        exbox1.find(tmp_path, SETTINGS, STOP)


def test_walk_takes_3d_volumes_of_18_slices(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    save(tmp_path / "ExBox1" / "metal ärtefact.nii.gz", head(0, TALL))
    save(tmp_path / "ExBox1" / "deep" / "motion.nii", head(1, TALL)[..., None])
    save(tmp_path / "ExBox1" / "thin.nii.gz", head(2, (12, 18, 17)))
    save(tmp_path / "ExBox1" / "func.nii.gz", np.ones((4, 4, 18, 5), np.float32))
    save(tmp_path / "__MACOSX" / "._motion.nii", head(3, TALL))
    scans = exbox1.walk(tmp_path, STOP)
    assert [scan.volume_id for scan in scans] == [
        "exbox1-ExBox1-deep-motion",
        "exbox1-ExBox1-metal-rtefact",
    ]
    assert {scan.contrast for scan in scans} == {"unknown"}
    assert len({scan.subject_id for scan in scans}) == 2
    assert "thin.nii.gz is (12, 18, 17), not 3-D with 18 slices" in caplog.text
    assert "func.nii.gz is (4, 4, 18, 5)" in caplog.text
    image = exbox1.read(scans[0], SETTINGS, STOP)
    expected = head(1, TALL).transpose(2, 1, 0)
    np.testing.assert_array_equal(image.image, expected)


def test_two_files_of_one_name(tmp_path):
    save(tmp_path / "a" / "b.nii", head(0, TALL))
    save(tmp_path / "a-b.nii.gz", head(0, TALL))
    with pytest.raises(
        ScanError, match=r"both are volume exbox1-a-b: remove or rename"
    ):
        exbox1.walk(tmp_path, STOP)


def test_broken_header_stops_or_is_left_out(tmp_path):
    save(tmp_path / "good.nii.gz", head(0, TALL))
    (tmp_path / "bad.nii.gz").write_bytes(b"nothing")
    with pytest.raises(ScanError, match=r"bad.nii.gz: its header cannot be read"):
        exbox1.walk(tmp_path, STOP)
    problems = Problems("skip")
    assert [s.volume_id for s in exbox1.walk(tmp_path, problems)] == ["exbox1-good"]
    (bad,) = problems.found
    assert bad.path == tmp_path / "bad.nii.gz"
    assert "bad.nii.gz: its header cannot be read" in bad.reason
