"""A small DVC project with committed metrics, and the gate run in it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stages.report import gate

PARAMS = """\
scenarios:
  light: {poisoning: p10, known: 0.5}
  heavy: {poisoning: p30, known: 0.5}
poisonings:
  p10: {share: 0.1}
  p30: {share: 0.3}
grid: {methods: [retrain, ssd], drop_all: []}
unlearn:
  retrain: {}
  ssd: {alpha: 1.0e-5}
gate:
  psnr: {match: ["psnr_*"], better: higher, tolerance: 0.1}
"""
PIPELINE = """\
stages:
  train:
    cmd: mkdir -p data && cp code/train.py data/model
    deps: [code/train.py]
    outs: [data/model]
  unlearn:
    matrix: {method: "${grid.methods}"}
    cmd: mkdir -p metrics && cp data/model metrics/${item.method}.txt
    deps: [code/train.py, data/model]
    params:
      - unlearn.${item.method}
    outs:
      - metrics/${item.method}.txt:
          cache: false
"""
CELLS = ("oracle-0", "unlearned/light/ssd", "unlearned/heavy/ssd")


def summary() -> dict[str, Any]:
    return {
        scenario: {"ssd": {"psnr_val": 30.0, "other": 5, "healing_val": None}}
        for scenario in ("light", "heavy")
    }


def run(*command: str, cwd: Path) -> None:
    subprocess.run(command, cwd=cwd, check=True, capture_output=True)


def make_template(root: Path) -> Path:
    """A small project whose metrics are committed and up to date."""
    files = {
        "params.yaml": PARAMS,
        "dvc.yaml": PIPELINE,
        "code/train.py": "rate = 1\n",
        ".dvc/config": "",
        ".gitignore": "/data/\n/.dvc/cache/\n/.dvc/tmp/\n",
        "metrics/summary.json": json.dumps(summary()),
        "metrics/headline.json": json.dumps({"heavy/ssd/psnr_val": 30.0}),
        "metrics/timing/train.json": json.dumps({"seconds": 1.0}),
    }
    files |= {f"metrics/cells/{c}.json": json.dumps({"psnr_val": 30.0}) for c in CELLS}
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    run("git", "init", "--quiet", "--initial-branch=main", cwd=root)
    run(sys.executable, "-m", "dvc", "repro", "--quiet", cwd=root)
    run("git", "add", "--all", cwd=root)
    author = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    run("git", *author, "commit", "--quiet", "--message=base", cwd=root)
    # As in CI, where nobody pulls the data.
    shutil.rmtree(root / "data")
    return root


def run_gate(capsys: Any, *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stop:
        gate.main(["main", *arguments])
    return int(stop.value.code or 0), capsys.readouterr().out
