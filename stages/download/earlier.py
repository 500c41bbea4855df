"""What an earlier run has brought: a source that need not fetch it anew keeps it."""

import json
from pathlib import Path
from typing import Any

from stages.download.base import PROVENANCE, Origin, sha256_of


def earlier_files(folder: Path, origin: Origin) -> tuple[str, ...]:
    """Names of the files that an earlier run brought from the same origin.

    For sources without a list of their files that could be asked for. There are none
    if a single one is not as that run left it.
    """
    try:
        content: Any = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
        same = all(content[key] == value for key, value in origin._asdict().items())
        files = {
            file["name"]: (file["size"], file["sha256"]) for file in content["files"]
        }
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return ()
    intact = all(_is(folder / name, *facts) for name, facts in files.items())
    return tuple(files) if same and intact else ()


def _is(path: Path, size: int, sha256: str) -> bool:
    there = path.is_file() and path.stat().st_size == size
    return there and sha256_of(path) == sha256
