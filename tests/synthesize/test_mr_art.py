"""MR-ART: scans at rest for the cohort, pairs for the pool."""

import numpy as np
import pytest

from stages.common.params import load_block
from stages.synthesize import mr_art
from stages.synthesize.scans import ScanError
from stages.synthesize.settings import SynthesizeSettings
from tests.synthesize.nifti_files import head, write_mr_art
from tests.synthesize.raw_files import STOP

SETTINGS = load_block("synthesize", SynthesizeSettings).scans
ALL = {"standard": 1, "headmotion1": 2, "headmotion2": 3}


def test_scans_at_rest_are_the_cohort(tmp_path):
    write_mr_art(tmp_path, "000103", scores=ALL)
    write_mr_art(tmp_path, "000148", scores={"standard": 2})
    scans = mr_art.find(tmp_path, SETTINGS, STOP)
    assert [scan.volume_id for scan in scans] == [
        "mr_art-000103_T1w",
        "mr_art-000148_T1w",
    ]
    assert scans[0].subject_id == "mr_art-000103"
    assert (scans[0].contrast, scans[0].split) == ("T1w", None)
    image = mr_art.read(scans[0], SETTINGS, STOP)
    np.testing.assert_array_equal(
        image.image, head(3, (30, 30, 30))[::-1, ::-1].transpose(2, 1, 0)
    )
    assert (image.spacing, image.scanner) == ((8.0, 8.0), "mr_art")
    assert image.lesion is None


def test_an_unusable_scan_is_no_clean_one(tmp_path, caplog):
    write_mr_art(tmp_path, scores={"standard": 3})
    assert mr_art.find(tmp_path, SETTINGS, STOP) == []
    assert "standard_T1w.nii.gz has score 3, unusable" in caplog.text


def test_pairs(tmp_path):
    write_mr_art(tmp_path, "000103", scores=ALL)
    write_mr_art(tmp_path, "105822", scores={"standard": 1, "headmotion2": 2})
    pairs = mr_art.pairs(tmp_path, STOP)
    assert [(pair.moved.name, pair.score) for pair in pairs] == [
        ("sub-000103_acq-headmotion1_T1w.nii.gz", 2),
        ("sub-000103_acq-headmotion2_T1w.nii.gz", 3),
        ("sub-105822_acq-headmotion2_T1w.nii.gz", 2),
    ]
    assert {pair.clean.name for pair in pairs} == {
        "sub-000103_acq-standard_T1w.nii.gz",
        "sub-105822_acq-standard_T1w.nii.gz",
    }
    assert mr_art.acquisition_of(pairs[1].moved) == "headmotion2"


def test_pair_without_its_clean_twin(tmp_path):
    write_mr_art(tmp_path, scores={"headmotion1": 2})
    with pytest.raises(ScanError, match=r"headmotion1_T1w.*standard.*acquisitions"):
        mr_art.pairs(tmp_path, STOP)


def test_scores_must_be_there(tmp_path):
    write_mr_art(tmp_path, scores={"standard": 4})
    with pytest.raises(ScanError, match=r"sub-000103_scans.tsv: score of .*is '4'"):
        mr_art.find(tmp_path, SETTINGS, STOP)
    table = tmp_path / "sub-000103" / "sub-000103_scans.tsv"
    table.write_text("filename\tscore\n", encoding="utf-8")
    with pytest.raises(ScanError, match=r"score of .*standard.* is '', expected"):
        mr_art.find(tmp_path, SETTINGS, STOP)
    table.unlink()
    with pytest.raises(ScanError, match=r"scans.tsv cannot be read .*download it"):
        mr_art.find(tmp_path, SETTINGS, STOP)
