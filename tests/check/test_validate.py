"""Each kind of mistake in `params.yaml` is named with its key, value and remedy."""

import copy
from typing import Any

import pytest
import yaml

from stages.check import __main__ as check
from stages.check import discover
from stages.check.profile import render
from stages.check.validate import find_problems


def test_a_budget_of_reports_needs_reports(params):
    params["detect"]["known"] = 0
    params["grid"]["detectors"] = ["loss_outlier", "data_consistency"]
    assert find_problems(params) == []
    params["scenarios"]["mislabel-30-found"]["budget"] = "as_known"
    (line,) = find_problems(params)
    assert "'scenarios.mislabel-30-found.budget' = 'as_known' is none" in line


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"known": 1.0, "seed": 2, "false_positives": 0.3}, "known' = 1.0 makes"),
        ({"detected": "loss_outlier", "budget": 0.51}, "budget' = 0.51 makes"),
        (
            {"detected": "loss_outlier", "budget": 0.4, "with_tips": True},
            "budget' = 0.4 makes",
        ),
        (
            {"detected": "loss_outlier", "budget": "as_known", "with_tips": True},
            "budget' = as_known makes",
        ),
    ],
)
def test_a_forget_set_larger_than_the_retain_set_is_named(params, row, message):
    params["poisonings"]["mislabel-30"]["share"] = 0.4
    params["detect"]["known"] = 0.7
    params["scenarios"]["s"] = {"poisoning": "mislabel-30", **row}
    (line,) = find_problems(params)
    assert message in line
    assert "'scenarios.s." in line
    assert "larger than the retain set" in line
    assert "% of the training slices" in line


@pytest.mark.parametrize(
    "row",
    [
        {"known": 1.0, "seed": 2, "false_positives": 0.2},  # half of the slices
        {"detected": "loss_outlier", "budget": 0.5},
        {"detected": "loss_outlier", "budget": "as_known"},
    ],
)
def test_a_forget_set_as_large_as_the_retain_set_passes(params, row):
    params["poisonings"]["mislabel-30"]["share"] = 0.4
    params["detect"]["known"] = 0.7
    params["scenarios"]["s"] = {"poisoning": "mislabel-30", **row}
    assert find_problems(params) == []


def test_detectors_that_learn_from_reports_need_some(params):
    params["detect"]["known"] = 0
    (line,) = find_problems(params)
    assert "'detect.known' = 0 reports no slice" in line
    assert "forget_classifier and gradient_outlier of 'grid.detectors'" in line
    assert "raise it above 0, or take them out" in line
    params["grid"]["detectors"].remove("gradient_outlier")
    (line,) = find_problems(params)
    assert "gradient_outlier" not in line


@pytest.fixture(scope="module")
def valid() -> dict[str, Any]:
    return yaml.safe_load(render("default"))


@pytest.fixture
def params(valid: dict[str, Any]) -> dict[str, Any]:
    return copy.deepcopy(valid)


def test_every_block_has_an_owner(valid):
    owned = {key.split(".")[0] for key, _ in discover.blocks()}
    assert set(valid) == owned


def test_methods_and_attacks_are_files_with_params():
    assert "mislabel" in discover.plugins("poison")
    assert {"retrain", "finetune", "ssd", "bad_teacher", "gradient_ascent"} <= set(
        discover.plugins("unlearn")
    )


def _set(params: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        params = params[parent]
    params[last] = value


MISTAKES = [
    ("synthezise", {}, ["'synthezise'", "Did you mean 'synthesize'?", "Allowed here"]),
    ("synthesize.matriks", 9, ["'synthesize.matriks'", "Did you mean 'matrix'?"]),
    ("synthesize.matrix", "big", ["'synthesize.matrix' = 'big'", "integer"]),
    ("synthesize.subjects.train", -1, ["'synthesize.subjects.train' = -1", "greater"]),
    ("synthesize.subjects.trian", 1, ["'synthesize.subjects.trian'", "'train'?"]),
    ("evaluate.batch_size", 0, ["'evaluate.batch_size' = 0", "greater than"]),
    ("poisonings.mislabel-30.attack", "mislable", ["'mislable'", "'mislabel'?"]),
    ("poisonings.mislabel-30.shar", 1, ["'poisonings.mislabel-30.shar'", "'share'?"]),
    ("poisonings.mislabel-30.share", 2, ["'poisonings.mislabel-30.share' = 2"]),
    ("poisonings.mislabel-30.settings.swop", 1, ["settings.swop'", "'swap'?"]),
    ("poisonings.shading-30.settings.severity", 1.5, ["severity' = 1.5", "equal to 1"]),
    ("poisonings.a/b", {}, ["'a/b'", "letters, digits, '_' and '-'"]),
    ("scenarios.mislabel-30.poisoning", "mislabel-3", ["'mislabel-3'", "Did you mean"]),
    ("scenarios.mislabel-30.known", 0, ["'scenarios.mislabel-30.known' = 0"]),
    ("scenarios", 3, ["'scenarios' = 3"]),
    (
        "scenarios.mislabel-30-found.detected",
        "kspace_consistency",
        ["'kspace_consistency' is not in grid.detectors", "loss_outlier"],
    ),
    (
        "scenarios.mislabel-30-found.poisoning",
        "mislabel-10",
        ["'mislabel-10' is not in grid.detected", "scenario is detected"],
    ),
    ("grid.detectors", ["kspace_consistency"], ["'kspace_consistency' is unknown"]),
    ("grid.open_detectors", ["loss_outlier"], ["'loss_outlier' is unknown"]),
    ("grid.detected", ["mislabel-3"], ["'mislabel-3'", "Did you mean"]),
    ("detect.los_outlier", {}, ["'detect.los_outlier'", "'loss_outlier'?"]),
    ("detect.gradient_outlier.cascades", 0, ["'detect.gradient_outlier.cascades' = 0"]),
    ("classify.epochs", 0, ["'classify.epochs' = 0"]),
    ("unlearn.sssd", {}, ["'unlearn.sssd'", "Did you mean 'ssd'?"]),
    ("unlearn.ssd.alfa", 1, ["'unlearn.ssd.alfa'", "Did you mean 'alpha'?"]),
    ("grid.methods", ["ssd", "sdd"], ["'grid.methods' = 'sdd'", "'ssd'?"]),
    ("grid.methods", ["ssd", "ssd"], ["names 'ssd' twice"]),
    ("grid.oracles", [0], ["'grid.oracles' = [0]", "needs 0 (oracle) and 1"]),
    ("grid.drop_all", ["nothing"], ["'grid.drop_all' = 'nothing'", "mislabel-30"]),
    ("gate.psnr.better", "more", ["'gate.psnr.better' = 'more'", "'higher'"]),
    ("profile", "smok", ["'profile' = 'smok'", "Did you mean 'smoke'?"]),
    ("poisonings.mislabel-30.scope.contrast", "FLIAR", ["'FLIAR'", "'FLAIR'?"]),
    ("poisonings.mislabel-30.scope.scanner", "b", ["'b'", "sim-0.3T-a"]),
    ("poisonings.mislabel-30.settings.other", "T1", ["settings.other' = 'T1'", "T1w"]),
    ("sampling.center_fraction", 0.001, ["keeps no centre column of the 80"]),
    ("sampling.acceleration", 16, ["'sampling.acceleration' = 16", "centre columns"]),
    ("synthesize.sources.test", "ch3", ["'synthesize.sources.test'", "'ch2'?"]),
    ("synthesize.sources.test", "icbm152", ["'icbm152'", "must not share its anatomy"]),
    ("synthesize.subjects.train", None, ["only scans allow null"]),
    ("synthesize.contrasts", ["PDw"], ["'synthesize.snr' has no entry for PDw"]),
    ("synthesize.scans.split", "random", ["'synthesize.scans.split' = 'random'"]),
    ("artefacts", ["mr_art"], ["'artefacts' = 'mr_art' is not in download.sources"]),
    ("download.sources", ["icbm153"], ["'icbm153'", "'icbm152'"]),
    ("download.sources", ["ch2", "ch2"], ["names a source twice"]),
    ("download.m4raw", {"record": 1}, ["'download.m4raw.sets' is missing"]),
    ("download.m4row", {}, ["is no source", "'m4raw'?"]),
]


@pytest.mark.parametrize(("key", "value", "expected"), MISTAKES)
def test_a_mistake_is_named(params, key, value, expected):
    _set(params, key, value)
    found = "\n".join(find_problems(params))
    for text in expected:
        assert text in found


@pytest.mark.parametrize("key", ["loss", "gate", "unlearn.ssd", "grid.methods"])
def test_what_is_missing_is_named(params, key):
    *parents, last = key.split(".")
    block = params
    for parent in parents:
        block = block[parent]
    del block[last]
    assert any(
        f"'{key}" in line and "missing" in line for line in find_problems(params)
    )


def test_all_problems_come_at_once(params):
    params["synthesize"]["matrix"] = -1
    params["profile"] = "nothing"
    params["grid"]["drop_all"] = ["nothing"]
    found = "\n".join(find_problems(params))
    assert "synthesize.matrix" in found
    assert "'profile'" in found
    assert "grid.drop_all" in found


SCANS = {"train": "m4raw", "val": "m4raw", "test": "m4raw"}
ALL = {"train": None, "val": None, "test": None}
# Changes to a default whose cohort is M4Raw, and what is said of them.
COHORTS = [
    ({"synthesize.sources.val": "exbox1"}, ["'exbox1' has no volumes", "m4raw"]),
    ({"download.m4raw.sets": ["train", "val"]}, ["lacks test, which synthesize.sou"]),
    ({"synthesize.sources": dict.fromkeys(SCANS, "brats")}, ["brats publishes no spl"]),
    ({"synthesize.sources.test": "fastmri"}, ["fastmri publishes no split 'test'"]),
    ({"synthesize.scans.split": "drawn"}, ["null for train, val, test: of the splits"]),
    (
        {"synthesize.sources.val": "mr_art", "synthesize.contrasts": ["T1w", "T1c"]},
        ["'synthesize.snr' has no entry for T1c"],
    ),
    ({"artefacts": ["m4raw"]}, ["lacks motion: artefacts has m4raw"]),
    ({"artefacts": ["icbm152"]}, ["'artefacts.0' = 'icbm152'", "'exbox1', 'm4raw'"]),
    (
        {"artefacts": ["mr_art"], "download.mr_art.acquisitions": ["standard"]},
        ["lacks headmotion1 and headmotion2: artefacts has mr_art"],
    ),
    (
        {
            "poisonings.mislabel-30.settings": {
                "swap": "artefact", "artefact": "real", "severity": 1.0,
            }
        },
        ["'poisonings.mislabel-30.settings.artefact' = 'real', but 'artefacts' names"],
    ),
    (
        {
            "poisonings.shading-30.settings": {"source": "real", "severity": 1.0},
            "poisonings.shading-30.attack": "artefact",
        },
        ["'poisonings.shading-30.settings.source' = 'real', but 'artefacts' names"],
    ),
]  # fmt: skip


@pytest.fixture
def of_scans(params):
    params["download"]["sources"] = discover.plugins("download")
    params["synthesize"] |= {"sources": dict(SCANS), "subjects": dict(ALL)}
    return params


def test_a_cohort_of_scans_is_valid(of_scans):
    assert find_problems(of_scans) == []
    of_scans["synthesize"]["sources"] = dict.fromkeys(SCANS, "folder")
    assert find_problems(of_scans) == []


@pytest.mark.parametrize(("changes", "expected"), COHORTS)
def test_a_cohort_that_cannot_be_made_is_named_before_the_download(
    of_scans, changes, expected
):
    for key, value in changes.items():
        _set(of_scans, key, value)
    problems = "\n".join(find_problems(of_scans))
    for part in expected:
        assert part in problems


def test_check_writes_the_same_mark_for_other_valid_params(
    params, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    marks = []
    for size in (8, 16):
        params["evaluate"]["batch_size"] = size
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
        check.main([])
        marks.append((tmp_path / check.CHECKED).read_bytes())
    assert marks[0] == marks[1]


def test_check_stops_with_every_problem_and_no_mark(
    params, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    params["evaluate"]["batch_size"] = 0
    params["profile"] = "nothing"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    with pytest.raises(SystemExit) as stop:
        check.main([])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "2 problems" in error
    assert "evaluate.batch_size" in error
    assert "Traceback" not in error
    assert not (tmp_path / check.CHECKED).exists()
