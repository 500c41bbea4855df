"""Which files of `stages/` a stage runs: everything imported from its files on.

Read from the text of the files, without importing any, functions' own imports
included. `cell_inputs.py` says which cells depend on it.
"""

import ast
import hashlib
from collections.abc import Iterable
from pathlib import Path

from stages.common.remarks import without_remarks

# Stages that import one of their files by a name out of params.yaml.
CHOOSES = ("detect", "download", "poison", "synthesize", "unlearn")
# `check` takes the settings out of every other stage's files without importing them.
READS_ALL = ("check",)
SUFFIXES = (".py", ".tsv", ".yaml")

Sources = dict[str, str]


def load_sources(root: Path) -> Sources:
    """Every file of stages/ that a stage may run or read: path -> text.

    Raises:
        ValueError: a file is not UTF-8.
    """
    sources = {}
    for path in sorted((root / "stages").rglob("*")):
        if path.suffix in SUFFIXES:
            name = path.relative_to(root).as_posix()
            try:
                sources[name] = path.read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(f"{name} is not UTF-8: {error}") from None
    return sources


class Imports:
    """Who imports whom among the files of `stages/`.

    Args:
        sources: path -> text, as `load_sources` reads them.

    Raises:
        ValueError: a file cannot be parsed.
    """

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._direct: dict[str, set[str]] = {}

    def of(self, path: str) -> set[str]:
        """Files that a file imports or names, without itself."""
        if path not in self._direct:
            self._direct[path] = self._read(path) - {path}
        return self._direct[path]

    def closure(self, roots: Iterable[str]) -> set[str]:
        """Everything that is imported from some files on, themselves included."""
        found: set[str] = set()
        todo = set(roots)
        while todo:
            path = todo.pop()
            found.add(path)
            if path in self._sources:
                todo |= self.of(path) - found
        return found

    def _read(self, path: str) -> set[str]:
        if not path.endswith(".py"):
            return set()
        found = self._files(path.removesuffix(".py").replace("/", "."))
        for name in _imported_names(path, self._sources[path]):
            found |= self._files(name)
        text = without_remarks(self._sources[path])
        folder = path.rpartition("/")[0]
        beside = (other for other in self._sources if not other.endswith(".py"))
        # A table is read by the file beside it that names it.
        return found | {
            other
            for other in beside
            if other.rpartition("/")[0] == folder and Path(other).name in text
        }

    def _files(self, module: str) -> set[str]:
        """The file of a module and of the packages around it."""
        parts = module.split(".")
        if parts[0] != "stages":
            return set()
        names = ["/".join(parts) + ".py"]
        for count in range(1, len(parts) + 1):
            names.append("/".join([*parts[:count], "__init__.py"]))
        return {name for name in names if name in self._sources}


def _imported_names(path: str, text: str) -> list[str]:
    try:
        tree = ast.parse(text, filename=path)
    except SyntaxError as error:
        raise _no_python(path, error) from None
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = path.split("/")[: -node.level]
                base = ".".join([*package, *([base] if base else [])])
            found += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return found


def code_of_cells(sources: Sources) -> dict[str, set[str]]:
    """Files that each kind of cell runs.

    Returns:
        `<stage>` -> the files that its cells run; where each cell chooses one more by
        its name, `<stage>/<name>` -> that one and what it imports among them.
    """
    imports = Imports(sources)
    found: dict[str, set[str]] = {}
    for main in sorted(path for path in sources if path.endswith("/__main__.py")):
        stage, folder = main.split("/")[1], main.rpartition("/")[0]
        if stage in READS_ALL:
            found[stage] = set(sources)
        elif stage in CHOOSES:
            own = (path for path in sources if path.rpartition("/")[0] == folder)
            for path in own:
                if path.endswith(".py") and not Path(path).name.startswith("__"):
                    found[f"{stage}/{Path(path).stem}"] = imports.closure([main, path])
        else:
            found[stage] = imports.closure([main])
    return found


def digest(paths: Iterable[str], sources: Sources) -> str:
    """One line per file, sorted: SHA-256 of what of it runs, and its path.

    Raises:
        ValueError: a file is no Python.
    """
    lines = (f"{_hash(path, sources[path])}  {path}\n" for path in sorted(paths))
    return "".join(lines)


def _hash(path: str, text: str) -> str:
    """SHA-256 of a file, in Python without what no result depends on."""
    if path.endswith(".py"):
        try:
            text = without_remarks(text)
        except SyntaxError as error:
            raise _no_python(path, error) from None
    return hashlib.sha256(text.encode()).hexdigest()


def _no_python(path: str, error: SyntaxError) -> ValueError:
    return ValueError(f"{path} is no Python, line {error.lineno}: {error}")
