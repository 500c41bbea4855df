"""The gate and the hashes of the code, which are not in git: it makes them anew."""

import shutil
import sys
from pathlib import Path

import pytest

from stages.code.__main__ import write_inputs
from stages.report import gate
from tests.report.gate_project import make_template, run, run_gate

HASHED = """\
stages:
  code:
    cmd: python -m stages.code
    deps: [stages]
    outs: [data/code]
  unlearn:
    cmd: mkdir -p metrics && echo 1 > metrics/ssd.txt
    deps: [data/code/unlearn/ssd.txt]
    outs:
      - metrics/ssd.txt:
          cache: false
"""
CODE = {
    "stages/common/near.py": "rate = 1\n",
    "stages/common/far.py": "",
    "stages/unlearn/__main__.py": "from stages.common import near\n",
    "stages/unlearn/ssd.py": "",
    "stages/unlearn/scrub.py": "",
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    root = make_template(tmp_path / "project")
    (root / "dvc.lock").unlink()
    for name, text in (CODE | {"dvc.yaml": HASHED}).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    monkeypatch.chdir(root)
    write_inputs(root)
    dvc = (sys.executable, "-m", "dvc")
    run(*dvc, "commit", "--force", "code", cwd=root)
    run(*dvc, "repro", "--single-item", "unlearn", cwd=root)
    shutil.rmtree(root / "data")
    return root


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("path", ["stages/common/far.py", "stages/unlearn/scrub.py"])
def test_code_of_no_metric_may_change(capsys, path):
    Path(path).write_text("x = 1\n")
    assert run_gate(capsys)[0] == 0


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("path", ["stages/common/near.py", "stages/unlearn/ssd.py"])
def test_code_that_nobody_reran(capsys, path):
    Path(path).write_text("rate = 2\n")
    code, out = run_gate(capsys)
    assert code == 1
    assert "unlearn: its code or parameters, see data/code/unlearn/ssd.txt, have" in out


@pytest.mark.usefixtures("project")
def test_a_parameter_that_nobody_reran(capsys):
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("1.0e-5", "2.0e-5"))
    assert "unlearn: its code or parameters, see data/code" in run_gate(capsys)[1]
    Path("params.yaml").write_text(text.replace("seed", "seeds"))
    assert "unlearn: its code or parameters" not in run_gate(capsys)[1]


@pytest.mark.usefixtures("project")
def test_code_that_is_gone(capsys):
    Path("stages/unlearn/ssd.py").unlink()
    assert "unlearn: its code" in run_gate(capsys)[1]


@pytest.mark.usefixtures("project")
def test_code_that_is_no_python(caplog):
    Path("stages/unlearn/ssd.py").write_text("def (:\n")
    with pytest.raises(SystemExit) as stop:
        gate.main(["main"])
    assert stop.value.code == 2
    assert "stages/unlearn/ssd.py is no Python" in caplog.text
