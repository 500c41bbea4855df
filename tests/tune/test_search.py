"""The search: what it sees, that it goes on, and what it does when a trial fails."""

import os
from pathlib import Path

import pytest
import yaml

from stages.common import paths, substage
from stages.common.closure import load_sources
from stages.common.manifest import read_manifest, read_slices
from stages.common.masks import Sampling
from stages.common.params import load_block, read_params
from stages.common.varnet import load_checkpoint
from stages.tune import __main__ as tune
from stages.tune import regret, trial
from stages.tune.data import deal_validation, held_subjects, load_data
from stages.tune.log import choices_path, log_path, read_log
from stages.tune.objectives import OBJECTIVES, HowToMeasure
from stages.tune.search import open_case, search
from stages.tune.settings import TuneSettings
from tests.tune.toy_search import (
    ROOT,
    SPACE,
    StandIn,
    read_json,
    write_answers,
    write_project,
)
from tests.unlearn.toy_case import KNOWN

HOW = HowToMeasure(alpha=0.5, held_lines=0.25, seed=71, batch_size=4)


@pytest.fixture
def project(make_cohort, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.getenv('PYTHONPATH', '')}")
    return write_project(make_cohort)


def run(stand_in, monkeypatch, **changes):
    """Search `ssd` with a stand-in for the stage, and changes to the tune block."""
    monkeypatch.setattr(substage, "run_unlearn", stand_in)
    params = read_params()
    settings = TuneSettings(**params["tune"] | changes)
    data = load_data("s", settings, load_block("sampling", Sampling))
    return search(open_case("s", data, HOW), "ssd", params, settings)


def test_a_user_tunes_without_truth_and_then_learns_the_regret(monkeypatch, project):
    """In a project that has neither truth nor test while the search runs."""
    monkeypatch.setattr(tune, "checked", lambda: None)
    monkeypatch.setattr(substage, "run_unlearn", StandIn())
    assert not Path("data/truth").exists()
    assert not paths.kspace("test").exists()
    tune.main([])
    trials = read_log(log_path("s", "ssd"))
    assert [t.number for t in trials] == [0, 1, 2]
    assert trials[0].values == {"lam": project["unlearn"]["ssd"]["lam"]}
    assert set(read_json(choices_path("s", "ssd"))) == set(OBJECTIVES)
    log = log_path("s", "ssd").read_bytes()
    write_answers()
    regret.main([])
    found = read_json(regret.RESULTS)["s"]["ssd"]
    assert found["best"]["regret_db"] == 0
    assert all(found["objectives"][name]["regret_db"] >= 0 for name in OBJECTIVES)
    assert found["blind_regret_db"] > 0
    assert regret.TABLE.read_text().count("| `ssd` | 3 |") == 2
    assert regret.FIGURE.stat().st_size > 0
    assert log_path("s", "ssd").read_bytes() == log
    # What has been measured is not measured again.
    monkeypatch.setattr(regret, "load_checkpoint", None)
    regret.main([])


@pytest.mark.usefixtures("project")
def test_the_real_stage_is_run_with_the_values_of_the_trial():
    Path("stages").unlink()  # under its own name, compiled code is found again
    params = read_params()
    params["unlearn"]["ssd"] |= {"alpha": 0.01, "lam": 0.0001}
    data = load_data(
        "s", TuneSettings(**params["tune"]), load_block("sampling", Sampling)
    )
    trial.prepare(Path("trial"), params, "s", data)
    ended = substage.run_unlearn(Path("trial"), "s", "ssd")
    assert ended.cost["slices_forward_backward"] == len(data.manifest.refs())
    before = load_checkpoint(paths.case("s") / "model.safetensors").state_dict()
    after = load_checkpoint(ended.checkpoint).state_dict()
    shrunk = [
        after[k].norm() < 0.01 * before[k].norm() for k in before if before[k].norm()
    ]
    assert sum(shrunk) > len(shrunk) / 2
    params["unlearn"]["ssd"]["alpha"] = -1
    trial.prepare(Path("trial"), params, "s", data)
    ended = substage.run_unlearn(Path("trial"), "s", "ssd")
    assert ended.checkpoint is None
    assert "'unlearn.ssd.alpha' = -1" in ended.error


@pytest.mark.usefixtures("project")
def test_a_trial_is_given_no_more_than_its_case(monkeypatch):
    seen = []

    def look(folder, scenario, method):
        files = {p.relative_to(folder).as_posix() for p in folder.rglob("*")}
        manifest = read_manifest(folder / paths.manifest("train"))
        forget = read_slices(folder / "data/cases/s/forget.json", made_by="")
        seen.append((files, manifest, forget))
        return StandIn()(folder, scenario, method)

    run(look, monkeypatch, budget=1)
    files, manifest, forget = seen[0]
    assert {f for f in files if f.count("/") == 1} == {"data/kspace", "data/cases"}
    assert not any("val" in f or "test" in f or "truth" in f for f in files)
    held = held_subjects(
        read_manifest(paths.manifest("train")), TuneSettings(**read_params()["tune"])
    )
    assert len(held) == 1
    assert {v.subject_id for v in manifest.volumes}.isdisjoint(held)
    assert set(forget) == {r for r in KNOWN if r.volume_id.split("_")[0] not in held}


@pytest.mark.usefixtures("project")
def test_what_judges_is_apart_by_subject():
    settings = TuneSettings(**read_params()["tune"])
    data = load_data("s", settings, load_block("sampling", Sampling))
    trusted, rest = deal_validation(settings)
    subjects = [{r.volume_id.split("_")[0] for r in refs} for refs in (trusted, rest)]
    assert len(subjects[0]) == len(subjects[1]) == 1
    assert subjects[0].isdisjoint(subjects[1])
    assert set(data.known.refs) == set(KNOWN)
    assert set(data.holdout.refs).isdisjoint(KNOWN)
    given = set(data.manifest.refs())
    assert given.isdisjoint(data.holdout.refs)
    assert data.trusted.files.targets is None
    assert data.holdout.files.targets == paths.case("s") / "targets"


@pytest.mark.usefixtures("project")
def test_a_killed_search_goes_on(monkeypatch):
    killed, rest, whole = StandIn(stop_at=1), StandIn(), StandIn()
    with pytest.raises(KeyboardInterrupt):
        run(killed, monkeypatch)
    assert [t.number for t in read_log(log_path("s", "ssd"))] == [0]
    run(rest, monkeypatch)
    assert len(killed.runs) == 1
    assert len(rest.runs) == 2
    log = log_path("s", "ssd").read_bytes()
    run(again := StandIn(), monkeypatch)
    assert again.runs == []
    assert log_path("s", "ssd").read_bytes() == log
    Path(".scratch").rename("elsewhere")
    run(whole, monkeypatch)
    assert whole.runs == killed.runs + rest.runs
    assert log_path("s", "ssd").read_bytes() == log


@pytest.mark.usefixtures("project")
def test_what_shapes_a_trial_begins_a_study_and_a_budget_does_not(monkeypatch):
    run(StandIn(), monkeypatch, budget=1)
    run(more := StandIn(), monkeypatch, budget=2)
    assert len(more.runs) == 1
    wider = {"ssd": {"lam": SPACE["lam"] | {"high": 6.0}}}
    run(anew := StandIn(), monkeypatch, budget=1, methods=wider)
    assert len(anew.runs) == 1
    forget = paths.case("s") / "forget.json"
    forget.write_text(forget.read_text().replace("2", "1", 1))
    run(other := StandIn(), monkeypatch, budget=1)
    run(back := StandIn(), monkeypatch, budget=1)
    assert (len(other.runs), len(back.runs)) == (1, 0)


@pytest.mark.usefixtures("project")
def test_code_of_the_method_begins_a_study(monkeypatch):
    run(StandIn(), monkeypatch, budget=1)
    sources = load_sources(Path())
    for path, anew in (("stages/report/tables.py", 0), ("stages/unlearn/ssd.py", 1)):
        changed = sources | {path: sources[path] + "EDITED = 1\n"}
        monkeypatch.setattr("stages.tune.search.load_sources", lambda _, c=changed: c)
        run(stand_in := StandIn(), monkeypatch, budget=1)
        assert len(stand_in.runs) == anew


@pytest.mark.usefixtures("project")
def test_a_trial_that_fails_counts_and_the_first_may_not(monkeypatch):
    trials = run(StandIn(refuse_at=1), monkeypatch)
    assert [t.status for t in trials] == ["done", "failed", "done"]
    assert read_log(log_path("s", "ssd"))[1].error == "ssd: loss is nan at step 3"
    assert all(c["trial"] != 1 for c in read_json(choices_path("s", "ssd")).values())
    run(again := StandIn(), monkeypatch)
    assert again.runs == []
    with pytest.raises(ValueError, match=r"own block 'unlearn.ssd': ssd: loss is nan"):
        run(StandIn(refuse_at=0), monkeypatch, seed=5, budget=1)


@pytest.mark.usefixtures("project")
def test_a_stage_that_is_broken_stops_the_search(monkeypatch):
    monkeypatch.setattr(substage.sys, "executable", "false")
    with pytest.raises(ValueError, match="ssd on s ended with 1: it said nothing"):
        run(substage.run_unlearn, monkeypatch, budget=1)


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "model.safetensors").unlink(), r"model.safetensors is missing"),
        (lambda f: (f / "forget.json").unlink(), r"run `dvc repro forget@s`"),
        (lambda f: (f / "targets").rename("t"), r"targets is missing: run"),
    ],
)
def test_a_missing_case_is_named_before_any_trial(monkeypatch, spoil, message):
    spoil(paths.case("s"))
    with pytest.raises(ValueError, match=message):
        run(stand_in := StandIn(), monkeypatch)
    assert stand_in.runs == []


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"holdout": 0.9}, "holds out 3 of 3 training subjects"),
        ({"trusted": 2}, "leaves none of the 2 validation subjects"),
    ],
)
def test_too_few_subjects_are_named(monkeypatch, changes, message):
    with pytest.raises(ValueError, match=message):
        run(StandIn(), monkeypatch, **changes)


def test_an_unknown_method_is_named():
    settings = TuneSettings(
        **yaml.safe_load((ROOT / "params.yaml").read_text())["tune"]
    )
    with pytest.raises(ValueError, match=r"--methods sdd is not in 'tune.methods'"):
        tune.selected(settings, ["ssd", "sdd"])
    assert tune.selected(settings, ["ssd", "finetune"]) == ["finetune", "ssd"]
