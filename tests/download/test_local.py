"""Where a person's own copy of a source is looked for."""

import subprocess
import sys
from pathlib import Path

import pytest

from stages.download.base import SourceError
from stages.download.local import local_copy, where_to_put

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MENDMRI_LOCAL", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_none_where_there_is_none() -> None:
    assert local_copy("m4raw") is None
    assert where_to_put("m4raw") == (
        "put it into data/local/m4raw/, or name another root with MENDMRI_LOCAL"
    )


def test_a_folder_and_a_link_to_one(project: Path) -> None:
    (project / "data/local/m4raw").mkdir(parents=True)
    (project / "elsewhere").mkdir()
    (project / "data/local/brats").symlink_to(project / "elsewhere")
    assert local_copy("m4raw") == Path("data/local/m4raw")
    assert local_copy("brats") == Path("data/local/brats")
    assert local_copy("exbox1") is None


def test_another_root(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "disk/m4raw").mkdir(parents=True)
    (project / "data/local/brats").mkdir(parents=True)
    monkeypatch.setenv("MENDMRI_LOCAL", str(project / "disk"))
    assert local_copy("m4raw") == project / "disk/m4raw"
    assert local_copy("brats") is None
    assert where_to_put("brats").startswith(f"put it into {project}/disk/brats/, or")
    monkeypatch.setenv("HOME", str(project))
    monkeypatch.setenv("MENDMRI_LOCAL", "~/disk")
    assert local_copy("m4raw") == project / "disk/m4raw"
    monkeypatch.setenv("MENDMRI_LOCAL", "")
    assert local_copy("brats") == Path("data/local/brats")


def test_a_root_that_is_missing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = project / "unmounted"
    monkeypatch.setenv("MENDMRI_LOCAL", str(missing))
    with pytest.raises(
        SourceError, match=f"MENDMRI_LOCAL = {missing} is no folder: name one.*unset it"
    ):
        local_copy("m4raw")
    # A message about something else must still be possible.
    assert str(missing) in where_to_put("m4raw")


def test_a_link_that_leads_nowhere(project: Path) -> None:
    (project / "data/local").mkdir(parents=True)
    (project / "data/local/m4raw").symlink_to(project / "unmounted")
    with pytest.raises(
        SourceError, match=r"data/local/m4raw leads to .*unmounted.*mounted\?"
    ):
        local_copy("m4raw")


def test_sources_start_fast() -> None:
    code = (
        "import sys, stages.download.transfer, stages.download.archives\n"
        "import stages.download.local\n"
        "print(sorted({'requests', 'remotezip', 'torch', 'tqdm'} & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", code]
    found = subprocess.run(
        command, cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert found.stdout == "[]\n"
