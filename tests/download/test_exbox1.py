"""ExBox1: from a local copy, or from an address that a person has found."""

import json
from pathlib import Path

import pytest

from stages.download import exbox1
from stages.download.base import SourceError, settle
from tests.download.http_server import FileServer, quick_server
from tests.download.packing import BRAIN, SCAN, pack

RAW = Path("data/raw/exbox1")
FILES = {
    "ExBox1/Motion/T1.nii.gz": BRAIN,
    "ExBox1/metal.nii": SCAN,
    "ExBox1/IntroBox1.html": b"<html>",
    "ExBox1/._metal.nii": b"Apple",
    "__MACOSX/ExBox1/metal.nii": b"Apple",
}
NAMES = ["Motion/T1.nii.gz", "metal.nii"]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MENDMRI_LOCAL", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch):
    with quick_server(monkeypatch) as server:
        yield server


def _fetch(url: str | None = None) -> list[str]:
    fetched = exbox1.fetch(exbox1.Params(url=url), RAW)
    settle(RAW, fetched)
    return list(fetched.names)


def test_says_where_to_put_it() -> None:
    with pytest.raises(
        SourceError,
        match=r"ExBox1 cannot .* could not be verified: .*ExBox1\.zip by hand and put "
        r"it into data/local/exbox1/, .*download\.exbox1\.url",
    ):
        _fetch()
    assert not RAW.exists()


@pytest.mark.parametrize("layout", ["zip", "unpacked", "bare", "deep"])
def test_local_copies_give_the_same_names(project: Path, layout: str) -> None:
    local = project / "data/local/exbox1"
    local.mkdir(parents=True)
    if layout == "zip":
        pack(local / "ExBox1.zip", FILES)
    for name, data in FILES.items() if layout != "zip" else ():
        if layout == "bare":
            name = name.replace("ExBox1/", "")
        path = local / ("course/1" if layout == "deep" else "") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    assert _fetch("http://127.0.0.1:1/unused.zip") == NAMES
    assert (RAW / NAMES[0]).read_bytes() == BRAIN
    assert (RAW / NAMES[1]).read_bytes() == SCAN
    provenance = json.loads((RAW / "provenance.json").read_text())
    assert provenance["licence"].startswith("Unknown: ")


@pytest.mark.parametrize(
    ("kind", "path"),
    [("zip", "/ExBox1/ExBox1.zip"), ("zip", "/download"), ("tar.gz", "/a%20b.tar.gz")],
)
def test_from_an_address(
    server: FileServer, project: Path, kind: str, path: str
) -> None:
    url = server.serve(path, pack(project / f"made.{kind}", FILES).read_bytes())
    assert _fetch(f"{url}?token=secret") == NAMES
    assert (RAW / NAMES[0]).read_bytes() == BRAIN
    assert not (project / ".scratch/download/exbox1").exists()
    text = (RAW / "provenance.json").read_text()
    assert "secret" not in text
    assert json.loads(text)["url"] == url
    # It is not loaded again, unless a file was changed.
    asked = len(server.requests)
    assert _fetch(url) == NAMES
    assert len(server.requests) == asked
    (RAW / NAMES[0]).write_bytes(BRAIN[::-1])
    assert _fetch(url) == NAMES
    assert (RAW / NAMES[0]).read_bytes() == BRAIN


def test_another_address_is_another_origin(server: FileServer, project: Path) -> None:
    archive = pack(project / "made.zip", FILES).read_bytes()
    assert _fetch(server.serve("/old.zip", archive)) == NAMES
    other = pack(project / "other.zip", {"ExBox1/b.nii": SCAN}).read_bytes()
    assert _fetch(server.serve("/new.zip", other)) == ["b.nii"]
    assert not (RAW / NAMES[0]).exists()


def test_wrong_addresses(server: FileServer, project: Path) -> None:
    with pytest.raises(SourceError, match=r"gone\.zip: status 404"):
        _fetch(server.url("/gone.zip"))
    page = server.serve("/page.zip", b"<html>log in</html>" * 99)
    with pytest.raises(SourceError, match=r"page\.zip cannot be read"):
        _fetch(page)
    empty = pack(project / "a.zip", {"ExBox1/readme.txt": b"r"}).read_bytes()
    with pytest.raises(
        SourceError, match=r"/empty\.zip: holds no .*correct download\.exbox1\.url"
    ):
        _fetch(server.serve("/empty.zip", empty))
    assert not RAW.exists()
