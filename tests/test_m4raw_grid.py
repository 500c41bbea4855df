"""The whole grid on files in M4Raw's layout: the `paper` profile, shortened."""

import json

import pytest
import yaml

from stages.check.profile import render
from stages.check.sandbox import make_sandbox
from tests.smoke_project import ROOT, Project, stages_run
from tests.synthesize.raw_files import write_m4raw

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

# Subjects per set: each has eight scans of 4 coils, 256 x 256. Of their six slices two
# are taken; files of M4Raw's 18 are read in synthesize/test_m4raw.py.
SUBJECTS = {"train": 2, "val": 1, "test": 1}
SLICES = 6
SCANS = {"T1": 3, "T2": 3, "FLAIR": 2}  # repetitions
INNER = {"T1": 0.5, "T2": 1.6, "FLAIR": 0.1}  # what tells the contrasts apart


def write_subjects(folder):
    """Write what a user would put into data/local/m4raw: unpacked archives."""
    number = 0
    for split, count in SUBJECTS.items():
        for _ in range(count):
            number += 1
            for contrast, repetitions in SCANS.items():
                for repetition in range(1, repetitions + 1):
                    name = f"20220101{number:02d}_{contrast}{repetition:02d}.h5"
                    seed = 1000 * number + repetition
                    path = folder / f"multicoil_{split}" / name
                    write_m4raw(path, slices=SLICES, seed=seed, inner=INNER[contrast])


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The paper's profile with a small network, few slices and one scenario."""
    root = tmp_path_factory.mktemp("m4raw") / "project"
    make_sandbox(ROOT, root, profile="paper")
    params, smoke = (yaml.safe_load(render(name)) for name in ("paper", "smoke"))
    params["synthesize"]["scans"]["max_slices"] = 2
    params["model"] = smoke["model"]
    params["train"] |= {"epochs": 1, "batch_size": 2}
    for key in ("poisonings", "scenarios"):
        params[key] = {"mislabel-30": smoke[key]["mislabel-30"]}
    # Of methods and detectors one each: the smoke pipeline runs them all.
    params["grid"] = smoke["grid"] | {
        "methods": ["retrain"],
        "detected": ["mislabel-30"],
        "detectors": ["data_consistency"],
    }
    for key in ("classify", "detect"):
        params[key] = smoke[key]
    params["report"]["bootstrap"]["resamples"] = 100
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    write_subjects(root / "data" / "local" / "m4raw")
    return Project(root)


def test_every_stage_passes_and_nothing_is_left_to_do(project):
    project.side_by_side()
    assert stages_run(project.dvc("repro")) == set()
    manifest = project.read("data/kspace/train.json")
    volumes = {volume["volume_id"]: volume for volume in manifest["volumes"]}
    assert set(volumes) == {
        f"m4raw-20220101{n:02d}_{contrast}"
        for n in (1, 2)
        for contrast in ("FLAIR", "T1w", "T2w")
    }
    for volume in volumes.values():
        assert (volume["coils"], volume["matrix"]) == (4, [256, 256])
        assert volume["num_slices"] == 2
    provenance = project.read("data/raw/m4raw/provenance.json")
    assert len(provenance["files"]) == 32
    assert "CC" in provenance["licence"]
    summary = project.read("metrics/summary.json")
    for model in ("oracle", "none", "retrain"):
        assert summary["mislabel-30"][model]["psnr_scope_test"] > 0
    assert json.dumps(summary)  # no NaN, which JSON does not know
