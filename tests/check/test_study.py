"""A study runs a part of the pipeline beside the project, goes on, and brings back."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from stages.check import study
from stages.check.studies import STUDIES, Study
from stages.check.study import chosen, run_study
from tests.check.toy_pipeline import ROOT, stage

STAGES = {
    "top": stage("echo 1 > made-top", outs=("made-top",)),
    "a-1": stage("cat made-top > made-a1", deps=("made-top",), outs=("made-a1",)),
    "a-2": stage("test -e go && touch made-a2", deps=("made-top",), outs=("made-a2",)),
    "b": stage("touch made-b", outs=("made-b",)),
}
MADE = Path("metrics/toy.json")
TOY = Study("smoke", "tests.check.toy_summary", {MADE: MADE})


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A project of trivial stages, with a study of two of them."""
    root = tmp_path / "project"
    (root / ".dvc").mkdir(parents=True)
    (root / ".dvc" / "config").write_text("")
    (root / ".gitignore").write_text("/.scratch/\n/made-*\n/.dvc/cache/\n")
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": STAGES}))
    author = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    for command in (
        ["init", "--quiet"],
        ["add", "--all"],
        [*author, "commit", "--quiet", "--message=toy"],
    ):
        subprocess.run(["git", "-C", str(root), *command], check=True)
    monkeypatch.chdir(root)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    monkeypatch.setitem(STUDIES, "smoke", TOY)
    return root


def test_a_study_that_failed_tells_what_it_has_and_goes_on(project):
    assert run_study("smoke", jobs=2) != 0
    folder = project / ".scratch/studies/smoke"
    results = project / "metrics/toy.json"
    assert json.loads(results.read_text()) == ["made-a1", "made-top"]
    assert not list(project.glob("made-*"))
    first = (folder / "made-a1").stat().st_mtime_ns
    (project / "go").touch()
    assert run_study("smoke", jobs=2) == 0
    assert json.loads(results.read_text()) == ["made-a1", "made-a2", "made-top"]
    assert (folder / "made-a1").stat().st_mtime_ns == first
    # The project's own cache, so that what both have in common is made once.
    assert (project / ".dvc/cache/files").is_dir()
    assert not (folder / ".dvc/cache/files").exists()


def test_a_fresh_clone_runs_only_what_the_committed_results_lack(project, caplog):
    (project / "go").touch()
    results = project / "metrics/toy.json"
    results.parent.mkdir()
    results.write_text('["made-a1"]')
    with caplog.at_level("INFO"):
        assert run_study("smoke", jobs=2) == 0
    assert "smoke: 1 of 2 are there" in caplog.text
    folder = project / ".scratch/studies/smoke"
    assert not (folder / "made-a1").exists()
    assert json.loads(results.read_text()) == ["made-a1", "made-a2", "made-top"]
    shutil.rmtree(folder)
    assert run_study("smoke", jobs=2) == 0
    assert not list(folder.glob("made-*"))


def test_a_study_may_keep_its_results_elsewhere_and_have_a_seed(project, monkeypatch):
    (project / "go").touch()
    kept = Path("metrics/seeds/2.json")
    monkeypatch.setitem(STUDIES, "seeds-2", TOY._replace(results={MADE: kept}, seed=2))
    assert run_study("seeds-2", jobs=2) == 0
    assert json.loads(kept.read_text()) == ["made-a1", "made-a2", "made-top"]
    assert not MADE.exists()
    found = yaml.safe_load(Path(".scratch/studies/seeds-2/params.yaml").read_text())
    whole = yaml.safe_load((ROOT / "stages/check/profiles/default.yaml").read_text())
    assert found["train"]["seed"] == whole["train"]["seed"] + 2
    # And is given back to the copy by the next call.
    kept.write_text('["made-a1", "made-a2"]')
    shutil.rmtree(project / ".scratch/studies/seeds-2")
    assert run_study("seeds-2", jobs=2) == 0
    assert not (project / ".scratch/studies/seeds-2/made-a2").exists()


def test_results_are_written_after_each_piece(project, monkeypatch):
    """After one that failed too, which is the last."""
    monkeypatch.setattr(study, "PARTS_PER_JOB", 1)
    results = project / "metrics/toy.json"
    asked, written, codes = [], [], [0, 0, 5]

    def run(command, folder):
        if results.exists():
            written.append(json.loads(results.read_text()))
        asked.append(command[command.index("--only") + 1 :])
        (folder / f"made-{asked[-1][0].replace('-', '')}").touch()
        return codes[len(asked) - 1]

    monkeypatch.setattr(study, "_run_to_its_end", run)
    assert run_study("smoke", jobs=1) == 0
    assert asked == [["a-1"], ["a-2"]]
    assert written == [["made-a1"]]
    assert json.loads(results.read_text()) == ["made-a1", "made-a2"]
    # The project's results are what counts, not what the copy has of them.
    results.unlink()
    assert run_study("smoke", jobs=1) == 5
    assert asked[2:] == [["a-1"]]
    assert results.exists()


@pytest.mark.usefixtures("project")
def test_results_are_brought_back_whole_or_not_at_all(monkeypatch):
    results = Path("metrics/toy.json")
    results.parent.mkdir()
    results.write_text('["made-a1", "made-a2"]')

    def stopped(source, target):
        Path(target).write_bytes(Path(source).read_bytes()[:5])
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "copyfile", stopped)
    with pytest.raises(KeyboardInterrupt):
        study._copy(results, Path("copy.json"))
    assert not Path("copy.json").exists()
    with pytest.raises(KeyboardInterrupt):
        study._copy(Path("dvc.yaml"), results)
    assert results.read_text() == '["made-a1", "made-a2"]'
    assert list(results.parent.iterdir()) == [results]


def test_a_skipped_stage_is_left_for_another_call(project, caplog):
    """Without `go` the stage a-2 fails."""
    with caplog.at_level("INFO"):
        assert run_study("smoke", jobs=2, skip=["*-2"]) == 0
    assert "smoke: 0 of 2 are there" in caplog.text
    results = project / "metrics/toy.json"
    assert json.loads(results.read_text()) == ["made-a1", "made-top"]
    (project / "go").touch()
    assert run_study("smoke", jobs=2) == 0
    assert json.loads(results.read_text()) == ["made-a1", "made-a2", "made-top"]


def test_damaged_results_stop_a_study_before_it_runs(project):
    (project / "metrics").mkdir()
    (project / "metrics/toy.json").write_text('"damaged"')
    with pytest.raises(ValueError, match="cannot say what is missing"):
        run_study("smoke", jobs=2)
    assert not list(project.glob(".scratch/studies/smoke/made-*"))


def test_parts_are_chosen_in_order():
    needs = {"b-1": ["x"], "a-1": [], "a-2": ["y"], "b-2": ["z"]}
    assert chosen(needs, [], None) == ["b-1", "a-2", "b-2"]
    assert chosen(needs, [], 2) == ["b-1", "a-2"]
    assert chosen(needs, ["b-*"], None) == ["b-1", "b-2"]
    assert chosen(needs, ["b-2", "a-*"], 1) == ["a-2"]
    assert chosen(needs, ["a-1"], None) == []
    with pytest.raises(ValueError, match=r"--only c-\*: .* it has b-1, a-1, a-2, b-2"):
        chosen(needs, ["c-*"], None)


@pytest.mark.parametrize("limit", ["0", "-1", "all"])
def test_a_limit_is_a_number(limit, capsys):
    with pytest.raises(SystemExit):
        study.parse_args(["potency", f"--limit={limit}"])
    assert f"{limit} is no number of parts" in capsys.readouterr().err


@pytest.mark.usefixtures("project")
def test_ctrl_c_lets_dvc_record_what_has_been_done(monkeypatch):
    """As `parallel` needs: it ends its commands, and is waited for."""
    code = (
        "import signal, time\nsignal.signal(2, lambda *_: (time.sleep(1), exit(7)))\n"
    )
    script = Path("slow.py")
    script.write_text(f"{code}print('ready', flush=True)\ntime.sleep(60)\n")
    waits = iter([KeyboardInterrupt])
    original = subprocess.Popen.wait

    def wait(self, timeout=None):
        for interrupt in waits:
            time.sleep(1)
            self.send_signal(signal.SIGINT)
            raise interrupt
        return original(self, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", wait)
    assert study._run_to_its_end([sys.executable, str(script)], Path()) == 7


def test_every_study_has_its_profile_and_its_summary():
    for found in STUDIES.values():
        assert (ROOT / f"stages/check/profiles/{found.profile}.yaml").exists()
        assert (ROOT / f"{found.summary.replace('.', '/')}.py").exists()


def test_an_unknown_study_is_refused():
    with pytest.raises(SystemExit):
        study.parse_args(["potence"])
