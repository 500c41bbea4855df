"""The gate lets good changes through and stops each kind of bad one."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.report import gate
from tests.report.gate_project import make_template, run_gate


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("template"))


@pytest.fixture
def project(template, tmp_path, monkeypatch) -> Path:
    root = tmp_path / "project"
    shutil.copytree(template, root)
    monkeypatch.chdir(root)
    return root


def _edit(path: str, change: Callable[[Any], None]) -> None:
    content = json.loads(Path(path).read_text())
    change(content)
    Path(path).write_text(json.dumps(content))


def _edit_lock(change: Callable[[Any], None]) -> None:
    lock = yaml.safe_load(Path("dvc.lock").read_text())
    change(lock)
    Path("dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))


def _edit_text(path: str, old: str, new: str) -> None:
    text = Path(path).read_text()
    assert old in text
    Path(path).write_text(text.replace(old, new))


def _edit_params(change: Callable[[Any], None]) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())
    change(params)
    Path("params.yaml").write_text(yaml.safe_dump(params))


@pytest.mark.usefixtures("project")
class TestGreen:
    def test_nothing_changed(self, capsys):
        assert run_gate(capsys)[0] == 0

    def test_timing_is_not_compared(self, capsys):
        _edit("metrics/timing/train.json", lambda timing: timing.update(seconds=None))
        assert run_gate(capsys)[0] == 0

    def test_a_removed_scenario_is_reported(self, capsys):
        _edit_params(lambda params: params["scenarios"].pop("light"))
        _edit("metrics/summary.json", lambda summary: summary.pop("light"))
        Path("metrics/cells/unlearned/light/ssd.json").unlink()
        code, out = run_gate(capsys)
        assert code == 0
        assert "removed (light left the grid)" in out

    def test_what_a_removed_stage_left_in_the_lock_is_no_failure(self, capsys):
        def leave(lock: Any) -> None:
            gone = {"cmd": "true", "deps": [{"path": "data/model", "md5": "0" * 32}]}
            lock["stages"]["unlearn@scrub"] = gone

        _edit_lock(leave)
        assert run_gate(capsys)[0] == 0

    def test_the_report_is_written(self, capsys, tmp_path):
        _, out = run_gate(capsys, "--report", str(tmp_path / "report.md"))
        assert (tmp_path / "report.md").read_text() == out


@pytest.mark.usefixtures("project")
class TestRed:
    def test_a_number_that_got_worse(self, capsys):
        def change(summary: Any) -> None:
            summary["light"]["ssd"] |= {"other": 1, "psnr_val": 29.8}

        _edit("metrics/summary.json", change)
        code, out = run_gate(capsys)
        assert code == 1
        assert "1 regressions, 2 changes" in out
        first = next(line for line in out.splitlines() if line.startswith("| metrics"))
        assert first.startswith(
            "| metrics/summary.json | light.ssd.psnr_val | 30 | 29.8"
        )
        assert "| -0.2 | REGRESSION (psnr: higher is better, tolerance 0.1) |" in first

    def test_a_nan(self, capsys):
        Path("metrics/cells/oracle-0.json").write_text('{"psnr_val": NaN}')
        code, out = run_gate(capsys)
        assert code == 1
        assert "REGRESSION (not finite)" in out

    def test_a_file_that_is_missing(self, capsys):
        Path("metrics/cells/unlearned/heavy/ssd.json").unlink()
        code, out = run_gate(capsys)
        assert code == 1
        assert "REGRESSION (the file is missing)" in out


@pytest.mark.usefixtures("project")
class TestStale:
    def _stale(self, capsys: Any) -> str:
        code, out = run_gate(capsys)
        assert code == 1
        assert "0 regressions" in out
        return out

    def test_code_that_nobody_reran(self, capsys):
        _edit_text("code/train.py", "1", "2")
        out = self._stale(capsys)
        assert "train: code/train.py modified" in out

    def test_a_parameter_that_nobody_reran(self, capsys):
        _edit_text("params.yaml", "1.0e-5", "2.0e-5")
        out = self._stale(capsys)
        assert "unlearn@ssd: params.yaml: unlearn.ssd modified" in out
        assert "unlearn@retrain" not in out

    def test_a_method_that_nobody_ran(self, capsys):
        _edit_text("params.yaml", "[retrain, ssd]", "[retrain, ssd, scrub]")
        _edit_text("params.yaml", "  retrain: {}", "  retrain: {}\n  scrub: {}")
        assert "unlearn@scrub was never run" in self._stale(capsys)

    def test_a_command_that_changed(self, capsys):
        _edit_text("dvc.yaml", "cp code/train.py", "cp -f code/train.py")
        assert "train: changed command" in self._stale(capsys)

    def test_a_result_that_was_edited_by_hand(self, capsys):
        Path("metrics/ssd.txt").write_text("better")
        assert "unlearn@ssd: metrics/ssd.txt modified" in self._stale(capsys)

    def test_a_stage_that_ran_on_an_older_model(self, capsys):
        lock = yaml.safe_load(Path("dvc.lock").read_text())
        lock["stages"]["train"]["outs"][0]["md5"] = "0" * 32
        Path("dvc.lock").write_text(yaml.safe_dump(lock))
        assert "data/model was made anew by train since" in self._stale(capsys)

    def test_a_dependency_that_it_ran_without(self, capsys):
        _edit_text(
            "dvc.yaml", "deps: [code/train.py]\n", "deps: [code/train.py, data/raw]\n"
        )
        assert "train: it depends on data/raw now, and ran without" in self._stale(
            capsys
        )

    def test_no_lock(self, capsys):
        Path("dvc.lock").unlink()
        assert "no stage has been run" in self._stale(capsys)


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("base", ["nowhere", "--all", "main:params.yaml"])
def test_a_bad_base_is_named(caplog, base):
    with pytest.raises(SystemExit) as stop:
        gate.main(["--", base])
    assert stop.value.code == 2
    assert f"'{base}' is no revision" in caplog.text


@pytest.mark.usefixtures("project")
def test_a_metrics_file_that_is_not_json_is_named(caplog):
    Path("metrics/summary.json").write_text("{")
    with pytest.raises(SystemExit) as stop:
        gate.main(["main"])
    assert stop.value.code == 2
    assert "metrics/summary.json is not JSON" in caplog.text
