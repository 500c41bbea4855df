"""Find, by name, the schemas that the stages declare for `params.yaml`.

Nothing is registered: a stage's `settings.py` (or `<part>_settings.py`) holds `BLOCKS`,
a source, attack or method file holds `class Params`.
None of these files is imported: some import PyTorch.
"""

import ast
from pathlib import Path
from typing import Any

from stages.check.excerpt import excerpt

STAGES = Path(__file__).resolve().parents[1]


def blocks() -> list[tuple[str, Any]]:
    """Return (dotted key of `params.yaml`, schema) for every declared block."""
    found: list[tuple[str, Any]] = []
    for path in sorted(
        [*STAGES.glob("*/settings.py"), *STAGES.glob("*/*_settings.py")]
    ):
        declared = excerpt(f"stages.{path.parent.name}.{path.stem}", "BLOCKS")
        found.extend(declared.items())
    return found


def plugins(stage: str) -> list[str]:
    """Names of a stage's source, attack or method files: those that define `Params`."""
    return [
        path.stem
        for path in sorted((STAGES / stage).glob("*.py"))
        if _defines_params(path)
    ]


def sources(*kinds: str) -> list[str]:
    """Names of the sources that give one of some kinds (`stages/download/base.py`)."""
    return [name for name in plugins("download") if _of_source(name, "GIVES") in kinds]


def detectors(*, is_open: bool) -> list[str]:
    """Names of the detectors of the open or of the closed threat model."""
    return [
        name
        for name in plugins("detect")
        if excerpt(f"stages.detect.{name}", "OPEN") == is_open
    ]


def published_splits(source: str) -> tuple[str, ...]:
    """Splits that a source of scans deals its own subjects out to."""
    splits: tuple[str, ...] = _of_source(source, "PUBLISHED")
    return splits


def _of_source(source: str, name: str) -> Any:
    return excerpt(f"stages.download.{source}", name)


def plugin_schema(stage: str, name: str) -> Any:
    return excerpt(f"stages.{stage}.{name}", "Params")


def _defines_params(path: Path) -> bool:
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    return any(
        isinstance(node, ast.ClassDef) and node.name == "Params" for node in tree.body
    )
