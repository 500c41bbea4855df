"""What a source is, and what is recorded of it.

A source is a file of this folder: `class Params(Settings)` is the block
`download.<source>` of params.yaml, and `fetch` brings files into a folder and says
where they come from; `download` removes every other file from that folder and writes
`provenance.json` last. `check` reads what the source is good for: GIVES is `anatomy`,
`kspace`, `images`, `either` or `artefacts`, and of scans PUBLISHED holds the splits
that the source itself deals its subjects out to.
"""

import hashlib
import importlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

from stages.common.params import Settings
from stages.common.volume import write_text

PROVENANCE = "provenance.json"
_BLOCK = 2**20


class SourceError(ValueError):
    """A source cannot be had, or is not what it should be."""


class Origin(NamedTuple):
    """Where data come from and what may be done with them.

    Attributes:
        title: of the data set.
        url: where it is published, for people.
        version: of the data set, or of the package that carries it.
        licence: of the data.
        citation: what a paper that uses them cites.
    """

    title: str
    url: str
    version: str
    licence: str
    citation: str


class Skipped(NamedTuple):
    """A file that was left out, as `on_error: skip` allows, and why."""

    name: str
    reason: str


class Fetched(NamedTuple):
    """What a source has brought.

    Attributes:
        origin: where from.
        names: files, relative to the source's folder, with `/`.
        skipped: what was left out.
    """

    origin: Origin
    names: tuple[str, ...]
    skipped: tuple[Skipped, ...] = ()


class Source(Protocol):
    """What a file of a source holds."""

    Params: type[Settings]

    def fetch(self, params: Any, folder: Path) -> Fetched:
        """Bring the files into `folder`, where an earlier run's may be already.

        A file has its name only when it is whole and verified.

        Raises:
            SourceError: naming what is missing and what to do.
        """
        ...


def load_source(name: str) -> Source:
    """Import a source by the name of its file."""
    return cast(Source, importlib.import_module(f"stages.download.{name}"))


def source_names() -> list[str]:
    """Every source file of this folder."""
    files = sorted(Path(__file__).parent.glob("[a-z]*.py"))
    return [path.stem for path in files if "\nclass Params(" in path.read_text("utf-8")]


def sha256_of(path: Path) -> str:
    """Hash a file of any size."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def settle(folder: Path, fetched: Fetched) -> None:
    """Leave in a source's folder what was fetched and its provenance, nothing else."""
    wanted = {folder / name for name in fetched.names}
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif path not in wanted:
            path.unlink()
    write_text(folder / PROVENANCE, _provenance(folder, fetched))


def _provenance(folder: Path, fetched: Fetched) -> str:
    content = fetched.origin._asdict() | {
        "files": list(_file_records(folder, fetched.names)),
        "skipped": [skipped._asdict() for skipped in sorted(fetched.skipped)],
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _file_records(folder: Path, names: Iterable[str]) -> Iterable[dict[str, Any]]:
    for name in sorted(names):
        path = folder / name
        yield {"name": name, "size": path.stat().st_size, "sha256": sha256_of(path)}
