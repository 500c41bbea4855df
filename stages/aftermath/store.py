"""What has been found so far, kept after each part so that a stopped run goes on."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from stages.common import paths
from stages.common.closure import Imports, digest, load_sources
from stages.common.params import find_block
from stages.common.volume import write_text

RESULTS = paths.METRICS / "maps" / "aftermath.json"
BLOCKS = ("aftermath.seed", "sampling", "loss", "train", "evaluate.batch_size")
MEASURE = "stages/aftermath/measure.py"
UNLEARN = "stages/unlearn/__main__.py"
MEND = "restore it from git, or remove it to begin anew"

Entry = dict[str, Any]


class Store:
    """Entries by scenario, kind and model; each is good while its key is the same.

    Args:
        params: the whole of `params.yaml`.

    Raises:
        ValueError: the results of earlier runs are damaged.
    """

    def __init__(self, params: Mapping[str, Any]) -> None:
        self._params = params
        self._sources = load_sources(Path())
        self._imports = Imports(self._sources)
        self.found: dict[str, dict[str, dict[str, Entry]]] = {}
        self._old = _read()

    def get(
        self,
        scenario: str,
        kind: str,
        model: str,
        make: Callable[[], Entry],
        *,
        files: Iterable[Path],
        blocks: Iterable[str] = (),
        code: Iterable[str] = (),
    ) -> Entry:
        """An entry of an earlier run, or a new one, which is written at once.

        Args:
            scenario: of the entry.
            kind: `levels`, `relearn`, `sequence` or `retrain`.
            model: of the entry.
            make: makes it.
            files: what it is made from.
            blocks: of `params.yaml`, beside those that all entries depend on.
            code: files of stages/ that it runs, beside what measures.
        """
        key = self._key(files, [*BLOCKS, *blocks], [MEASURE, *code])
        entry = self._old.get(scenario, {}).get(kind, {}).get(model, {})
        if entry.get("key") != key:
            entry = {**make(), "key": key}
        self.found.setdefault(scenario, {}).setdefault(kind, {})[model] = entry
        self.write()
        return entry

    def write(self) -> None:
        """Write what has been found, and what older runs have left for later parts."""
        whole = {**self._old, **self.found}
        for scenario, kinds in self.found.items():
            whole[scenario] = {
                kind: {
                    **self._old.get(scenario, {}).get(kind, {}),
                    **kinds.get(kind, {}),
                }
                for kind in {**self._old.get(scenario, {}), **kinds}
            }
        _write(whole)

    def finish(self) -> None:
        """Write what has been found, and nothing else."""
        _write(self.found)

    def _key(
        self, files: Iterable[Path], blocks: Iterable[str], code: Iterable[str]
    ) -> str:
        text = json.dumps(
            {block: find_block(dict(self._params), block) for block in blocks},
            sort_keys=True,
        )
        text += digest(self._imports.closure(code), self._sources)
        for path in files:
            text += f"{path} {hashlib.sha256(path.read_bytes()).hexdigest()}\n"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _read() -> dict[str, Any]:
    try:
        content = json.loads(RESULTS.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ValueError(f"{RESULTS} is damaged ({error}): {MEND}") from None
    levels = [content]
    for _ in range(3):  # scenarios, kinds, models
        if not all(isinstance(level, dict) for level in levels):
            raise ValueError(f"{RESULTS} is damaged (not as it is written): {MEND}")
        levels = [inner for level in levels for inner in level.values()]
    if not all(isinstance(entry, dict) for entry in levels):
        raise ValueError(f"{RESULTS} is damaged (not as it is written): {MEND}")
    found: dict[str, Any] = content
    return found


def _write(content: dict[str, Any]) -> None:
    write_text(RESULTS, json.dumps(content, indent=1, allow_nan=False) + "\n")
