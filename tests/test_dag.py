"""dvc.yaml against the code: every rule holds, and every rule can be broken."""

import shutil
from pathlib import Path

import pytest
import yaml

from stages.check import discover
from stages.check.profile import names, render
from stages.common import paths
from stages.common.closure import load_sources
from tests import dag_rules as rules
from tests.dag import OUTSIDE, Cell, load_cells

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def sources():
    return load_sources(ROOT)


def resolve(root: Path, text: str) -> list[Cell]:
    """Read dvc.yaml with some params.yaml, in a DVC project of its own."""
    from dvc.repo import Repo

    Repo.init(str(root), no_scm=True).close()
    shutil.copy(ROOT / "dvc.yaml", root)
    (root / "params.yaml").write_text(text)
    return load_cells(root)


@pytest.fixture(scope="module", params=["params.yaml", "default", "smoke"])
def dag(request, tmp_path_factory):
    """(cells, params) of params.yaml as it is and of the embedded data's profiles."""
    here = request.param == "params.yaml"
    text = (ROOT / "params.yaml").read_text() if here else render(request.param)
    return resolve(tmp_path_factory.mktemp("dag"), text), yaml.safe_load(text)


READERS = discover.sources("kspace", "images", "either")


@pytest.mark.parametrize("start", range(0, len(READERS), len(paths.SPLITS)))
def test_the_code_of_every_source_is_declared(start, sources, tmp_path):
    """The profiles use few sources: here each is downloaded, and read for a split."""
    params = yaml.safe_load(render("default"))
    params["download"]["sources"] = discover.plugins("download")
    used = [*READERS[start:], *READERS][: len(paths.SPLITS)]
    params["synthesize"]["sources"] = dict(zip(paths.SPLITS, used, strict=True))
    cells = resolve(tmp_path, yaml.safe_dump(params))
    assert {cell.option("source") for cell in cells} >= {*used, "exbox1", "ch2"}
    assert rules.code_is_declared(cells, sources, params) == []
    assert rules.check_comes_first(cells) == []


@pytest.fixture(scope="module")
def cells(dag) -> list[Cell]:
    return dag[0]


@pytest.fixture(scope="module")
def params(dag):
    return dag[1]


def find(cells: list[Cell], start: str) -> Cell:
    return next(cell for cell in cells if cell.name.startswith(start))


def changed(cells: list[Cell], cell: Cell, **parts: object) -> list[Cell]:
    return [other if other is not cell else cell._replace(**parts) for other in cells]


@pytest.mark.parametrize("profile", names())
def test_every_profile_parses(profile, tmp_path):
    text = render(profile)
    cells = resolve(tmp_path, text)
    assert rules.outs_match_paths(cells) == []
    assert rules.params_exist(cells, yaml.safe_load(text)) == []


def test_the_dag_has_every_stage(cells, sources):
    runs = {cell.stage for cell in cells}
    folders = {path.split("/")[1] for path in sources if path.endswith("__main__.py")}
    assert runs == folders - OUTSIDE
    assert runs.isdisjoint(OUTSIDE)
    assert len({cell.name for cell in cells}) == len(cells)


def test_code_is_declared(cells, sources, params):
    assert rules.code_is_declared(cells, sources, params) == []


@pytest.mark.parametrize(
    ("start", "path"),
    [
        ("train_oracle@", "data/code/train.txt"),
        ("unlearn@mislabel-30-ssd", "data/code/unlearn/ssd.txt"),  # chosen by name
        ("poison@mislabel-30", "data/code/poison/mislabel-30.txt"),
        ("forget@mislabel-30", "data/code/forget/mislabel-30.txt"),
        ("train_continue@", "data/code/train_continue.txt"),
        ("synthesize@test", "data/code/synthesize/ch2.txt"),
        ("synthesize_artefacts", "data/code/synthesize/artefacts.txt"),
        ("report", "data/code/report.txt"),
        ("code", "stages"),
    ],
)
def test_a_missing_dep_is_noticed(cells, sources, params, start, path):
    cell = find(cells, start)
    deps = tuple(dep for dep in cell.deps if dep != path)
    found = rules.code_is_declared(changed(cells, cell, deps=deps), sources, params)
    assert found == [f"{cell.name}: {path} not in deps"]


@pytest.mark.parametrize(
    ("start", "path"),
    [
        ("unlearn@mislabel-30-finetune", "data/code/unlearn/ssd.txt"),
        ("train_oracle@", "data/code/evaluate.txt"),
        ("train_poisoned@", "data/code/train_continue.txt"),
        ("forget@", "data/code"),
        ("forget@", "stages/common"),
        ("report", "stages/report/tables.py"),
    ],
)
def test_a_dep_too_many_is_noticed(cells, sources, params, start, path):
    cell = find(cells, start)
    spare = changed(cells, cell, deps=(*cell.deps, path))
    found = rules.code_is_declared(spare, sources, params)
    assert f"{cell.name}: {path} is not its code" in found


def test_code_that_nobody_hashes_is_noticed(cells, sources, params):
    without = {p: t for p, t in sources.items() if p != "stages/unlearn/ssd.py"}
    found = rules.code_is_declared(cells, without, params)
    gone = "`code` does not write data/code/unlearn/ssd.txt"
    assert f"unlearn@mislabel-30-ssd: {gone}" in found


def test_imports_by_name_are_known(sources):
    assert rules.loads_by_name_are_known(sources) == []
    text = "from importlib import import_module\n"
    found = rules.loads_by_name_are_known(sources | {"stages/report/new.py": text})
    assert found == ["stages/report/new.py imports by a name"]


def test_outs_match_paths(cells):
    assert rules.outs_match_paths(cells) == []
    cell = find(cells, "unlearn@")
    other = changed(cells, cell, outs=("data/models/elsewhere",))
    assert len(rules.outs_match_paths(other)) == 1
    checked = [cell.stage for cell in cells if rules.expected_outs(cell) is not None]
    assert set(checked) == {
        "download", "synthesize", "poison", "forget", "train", "unlearn", "evaluate",
        "classify", "detect",
    }  # fmt: skip


def test_params_exist(cells, params):
    assert rules.params_exist(cells, params) == []
    without = {key: block for key, block in params.items() if key != "loss"}
    assert any("'loss'" in line for line in rules.params_exist(cells, without))
    cell = find(cells, "unlearn@mislabel-30-ssd")
    twice = changed(cells, cell, params=("unlearn.ssd",))
    assert rules.params_exist(twice, params) == [
        f"{cell.name}: 'unlearn.ssd' is declared twice"
    ]


def test_the_grid_is_the_files(params, sources):
    assert rules.grid_is_files(params, sources) == []
    grid = params | {"grid": {"methods": ["ssd", "sdd"]}}
    assert rules.grid_is_files(grid, sources) == [
        "grid.methods has sdd: no such file",
        "grid.methods has sdd: no block in unlearn",
    ]
    grid = params | {"grid": params["grid"] | {"detectors": ["los_outlier"]}}
    found = rules.grid_is_files(grid, sources)
    assert found == ["detector los_outlier: no such file"]


def test_stages_are_apart(sources):
    assert rules.stages_are_apart(sources) == []
    text = "def f():\n    from stages.train.base_models import parse_cell\n"
    for path in ("stages/common/new.py", "stages/unlearn/new.py"):
        found = rules.stages_are_apart(sources | {path: text})
        assert f"{path} imports stages/train/base_models.py" in found
    relative = {"stages/unlearn/new.py": "from ..train import base_models\n"}
    assert rules.stages_are_apart(sources | relative)


def test_truth_is_kept(cells, sources):
    assert rules.truth_is_kept(cells, sources) == []
    text = "from stages.common.truth import read_record\n"
    found = rules.truth_is_kept(cells, sources | {"stages/unlearn/new.py": text})
    assert found == ["stages/unlearn/new.py imports the truth"]
    for line in (text, "from stages.tune import regret\n"):
        found = rules.truth_is_kept(cells, sources | {"stages/tune/search.py": line})
        assert len(found) == 1
    cell = find(cells, "unlearn@")
    deps = (*cell.deps, "data/truth/scenario/mislabel-30")
    found = rules.truth_is_kept(changed(cells, cell, deps=deps), sources)
    assert found == [f"{cell.name} depends on the truth"]


def test_the_threat_model_is_closed(cells):
    assert rules.closed_threat_model(cells) == []
    for start, extra in (
        ("unlearn@", "data/kspace/test"),
        ("unlearn@", "data/export/mislabel-30"),
        ("detect@", "data/kspace/test"),
        ("detect@", "data/models/oracle-0"),
    ):
        cell = find(cells, start)
        open_ = changed(cells, cell, deps=(*cell.deps, extra))
        assert rules.closed_threat_model(open_)


def test_check_comes_first(cells):
    assert rules.check_comes_first(cells) == []
    cell = find(cells, "check")
    other = changed(cells, cell, outs=("data/other",))
    assert len(rules.check_comes_first(other)) == len(cells) - 2


def test_files_are_short(sources):
    assert rules.files_are_short(sources) == []
    assert rules.files_are_short({"stages/a.py": "x\n" * 301}) == [
        "stages/a.py has 301 lines"
    ]
