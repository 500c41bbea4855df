"""The toy DAG is the project's, and DVC runs it."""

import hashlib

import pytest
import yaml

from tests.benchmarks import overhead

CELLS = ("a", "b", "c")


@pytest.fixture
def project(tmp_path):
    """A project that has run: two kinds of code, an evaluation per cell."""
    source = tmp_path / "source"
    (source / ".dvc").mkdir(parents=True)
    (source / "stages").symlink_to(overhead.ROOT / "stages")
    for name in (".dvcignore", ".gitignore", ".dvc/config"):
        (source / name).write_text((overhead.ROOT / name).read_text())
    (source / "params.yaml").write_text(yaml.safe_dump({"cells": list(CELLS)}))
    evaluate = {
        "matrix": {"cell": "${cells}"},
        "cmd": "python -m stages.evaluate --cell ${item.cell}",
        "deps": ["data/code/evaluate.txt"],
        "outs": ["data/panels/${item.cell}"],
        "metrics": [{"metrics/${item.cell}.json": {"cache": False}}],
    }
    code = {"cmd": "python -m stages.code", "deps": ["stages"], "outs": ["data/code"]}
    dag = {"stages": {"code": code, "evaluate": evaluate}}
    (source / "dvc.yaml").write_text(yaml.safe_dump(dag, sort_keys=False))
    lock = {"code": {"outs": [{"path": "data/code", "nfiles": 2}]}}
    for cell in CELLS:
        lock[f"evaluate@{cell}"] = {
            "deps": [{"path": "data/code/evaluate.txt"}],
            "outs": [
                {"path": f"data/panels/{cell}", "nfiles": 3},
                {"path": f"metrics/{cell}.json"},
            ],
        }
    (source / "dvc.lock").write_text(yaml.safe_dump({"stages": lock}))
    return source


def test_dvc_is_timed_on_the_projects_own_dag(project, tmp_path, monkeypatch):
    monkeypatch.setattr(overhead, "ROUNDS", 2)
    folder = tmp_path / "toy"
    folder.mkdir()
    found = overhead.dag(folder, project)
    assert {key: entry["stages"] for key, entry in found.items()} == {
        "no_op": 4, "stage": 4,
    }  # fmt: skip
    assert all(entry["ours"] > 0 for entry in found.values())
    assert len(list((folder / "data/panels/b").iterdir())) == 3
    # The cells ran, with what the measurement had edited.
    lock = yaml.safe_load((folder / "dvc.lock").read_text())["stages"]
    edited = hashlib.md5(b"edited").hexdigest()
    assert [lock[f"evaluate@{cell}"]["deps"][0]["md5"] for cell in CELLS] == [
        edited
    ] * 3


def test_a_stage_that_does_not_run_is_not_timed(project, tmp_path):
    folder = tmp_path / "toy"
    folder.mkdir()
    overhead.make_toy(project, folder)
    with pytest.raises(ValueError, match="evaluate@a of the toy DAG: failed, not run"):
        list(overhead._cell_seconds(folder, ["evaluate@a"]))


def test_start_counts_the_cells_of_the_grid(monkeypatch):
    monkeypatch.setattr(overhead, "ROUNDS", 1)
    timed = []

    def of_imports(command, _):
        timed.append(command[-1])
        return 3.0 if "stages.unlearn.__main__" in command[-1] else 1.0

    monkeypatch.setattr(overhead, "_timed", of_imports)
    entry = overhead.start()[""]
    assert entry["seconds"]["unlearn"] == 3.0
    assert entry["ours"] == 1.0  # the median cell is no unlearning
    (training,) = [imports for imports in timed if "stages.train.__main__" in imports]
    assert "stages.common.varnet" in training
