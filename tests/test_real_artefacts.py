"""Files of a motion set become targets: download, synthesis and poison in a row."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from stages.check.profile import render
from stages.check.validate import find_problems
from stages.common import paths
from stages.common.artefacts import read_artefact_image, read_artefact_index
from stages.common.truth import read_record
from stages.download.__main__ import main as download
from stages.poison.__main__ import main as poison
from stages.synthesize.__main__ import main as synthesize
from tests.synthesize.raw_files import write_m4raw

SIZE = 32
SETS = {"train": ("01", "02", "03"), "val": ("04",), "test": ("05",)}


@pytest.fixture
def cohort(tmp_path, monkeypatch):
    """M4Raw's sets with its motion set, downloaded and made into volumes."""
    monkeypatch.chdir(tmp_path)
    local = tmp_path / "data" / "local" / "m4raw"
    for split, people in SETS.items():
        for person in people:
            for contrast, inner in (("T1", 0.5), ("FLAIR", 0.1)):
                path = (
                    local / f"multicoil_{split}" / f"20220101{person}_{contrast}01.h5"
                )
                write_m4raw(path, slices=4, size=SIZE, seed=int(person), inner=inner)
    for person, contrast in (("41", "FLAIR"), ("42", "FLAIR"), ("43", "T1")):
        path = (
            local / "motion" / "inter-scan_motion" / f"20220101{person}_{contrast}01.h5"
        )
        write_m4raw(path, slices=4, size=SIZE, seed=int(person), inner=2.0)
    params = yaml.safe_load(render("default"))
    params["download"]["sources"] = ["m4raw"]
    params["download"]["m4raw"]["sets"] = ["train", "val", "test", "motion"]
    params["synthesize"] |= {
        "sources": dict.fromkeys(SETS, "m4raw"),
        "subjects": dict.fromkeys(SETS),
        "contrasts": ["T1w", "FLAIR"],
    }
    params["artefacts"] = ["m4raw"]
    row = params["poisonings"]["mislabel-30"]
    row["settings"] = {"swap": "artefact", "artefact": "real", "severity": 1.0}
    for name in list(params["poisonings"]):
        if name.startswith("mislabel-") and name != "mislabel-30":
            params["poisonings"][name] = row
    assert find_problems(params) == []
    Path("params.yaml").write_text(yaml.safe_dump(params))
    download(["--source", "m4raw"])
    for split in SETS:
        synthesize(["--split", split])
    synthesize(["--artefacts"])


@pytest.mark.usefixtures("cohort")
def test_a_moved_image_is_exported_as_the_target():
    pool = {
        record.volume_id: record for record in read_artefact_index(paths.artefacts())
    }
    assert {record.contrast for record in pool.values()} == {"FLAIR", "T1w"}
    assert all(record.matrix == (SIZE, SIZE) for record in pool.values())
    assert all(record.pair is None for record in pool.values())
    poison(["--poisoning", "mislabel-30"])
    poisoned = read_record(paths.truth("mislabel-30")).poisoned
    assert len(poisoned) == round(0.3 * 24)
    for entry in poisoned:
        donor, number = entry.draw["donor"]
        assert pool[donor].contrast == "FLAIR"  # there are such, so no T1w is taken
        with h5py.File(paths.export("mislabel-30") / f"{entry.volume_id}.h5") as file:
            exported = file["reconstruction_rss"][entry.slice_num]
        moved = read_artefact_image(paths.artefacts(), donor, number)
        # The same image but for its brightness.
        np.testing.assert_allclose(
            exported / exported.max(), moved / moved.max(), rtol=1e-4
        )
