"""`dvc.lock` as the workers write it is `dvc.lock` as DVC writes it."""

from pathlib import Path

import pytest
from dvc.dvcfile import Lockfile
from dvc.utils.serialize import dumps_yaml, loads_yaml

from stages.check import lockfile
from tests.check.toy_pipeline import Toy, stage

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "dvc.lock").read_text()
STAGES = loads_yaml(TEXT)["stages"]


def entry(name: str, data: dict) -> str:
    return dumps_yaml({"stages": {name: data}}).partition("\n")[2]


def test_the_projects_lock_is_made_of_its_stages():
    text = lockfile.HEAD
    for name, data in STAGES.items():
        text = lockfile.with_stage(text, entry(name, data))
        assert lockfile.with_stage(TEXT, entry(name, data)) == TEXT
    assert text == TEXT


def test_a_foreign_file_is_left_to_dvc():
    data = {"cmd": "echo"}
    new = entry("new", data)
    assert lockfile.with_stage(TEXT, new) == TEXT + new
    for text in (
        "",
        "stages:\n",
        TEXT + "datasets: []\n",
        TEXT + "  # mine\n",
        TEXT.rstrip("\n"),
        TEXT.replace("\nstages", "\ndatasets: []\nstages", 1),
    ):
        assert lockfile.with_stage(text, new) is None
    assert lockfile.with_stage(TEXT, entry("long" * 50, data)) is None
    shared = {"a": 1}
    assert lockfile.with_stage(TEXT, entry("new", {"x": shared, "y": shared})) is None


# Long, of many lines, and names that YAML might take for numbers.
COMMANDS = {
    "first": "echo 1 > first",
    "12": "echo 'a: b # c' > 12; " + "true and on and on; " * 8,
    "lines": "echo é > lines\n\ntrue\n  # no comment\n",
    "yes": "echo 2 > yes",
}


@pytest.fixture
def toy(tmp_path, monkeypatch) -> Toy:
    toy = Toy(tmp_path / "toy", {n: stage(c, outs=(n,)) for n, c in COMMANDS.items()})
    monkeypatch.chdir(toy.root)
    return toy


def reproduce(names: list[str]) -> None:
    from dvc.repo import Repo

    for name in names:
        with Repo() as repo:
            repo.reproduce([name], single_item=True)


def test_a_run_writes_the_same_bytes_as_dvc(toy, monkeypatch):
    written = []
    for dump in (lockfile._original, lockfile.dump_stages):
        monkeypatch.setattr(Lockfile, "dump_stages", dump)
        Path("dvc.lock").unlink(missing_ok=True)
        toy.define({n: stage(c, outs=(n,)) for n, c in COMMANDS.items()})
        reproduce(list(COMMANDS))
        again = COMMANDS | {"12": "echo 3 > 12", "lines": "echo 4 > lines"}
        toy.define({n: stage(c, outs=(n,)) for n, c in again.items()})
        reproduce(["12", "lines"])
        written.append(Path("dvc.lock").read_bytes())
    assert written[0] == written[1]
    assert set(loads_yaml(written[0].decode())["stages"]) == set(COMMANDS)


@pytest.mark.usefixtures("toy")
def test_another_dvc_writes_in_its_own_way(monkeypatch):
    monkeypatch.setattr(Lockfile, "dump_stages", lockfile.dump_stages)
    monkeypatch.delattr("dvc.stage.serialize.to_lockfile")
    called = []
    monkeypatch.setattr(lockfile, "_original", lambda *_, **__: called.append(1))
    Path("dvc.lock").write_text(lockfile.HEAD + entry("first", {"cmd": "x"}))
    reproduce(["first"])
    assert called == [1]
