"""Which blocks of `params.yaml` the code of a stage asks for, read from its text."""

import ast
from collections.abc import Iterable, Iterator

from stages.check import discover
from stages.common.closure import Sources

# They are given a key, or the whole of params.yaml, and decide nothing themselves.
READERS = ("stages/common/params.py", "stages/common/cell_inputs.py")


def blocks_read(stage: str, paths: Iterable[str], sources: Sources) -> set[str]:
    """Dotted keys that some files ask for; `*` for what is not written in the text.

    A key that cannot be made out is returned as the place where it stands.
    """
    found = set()
    for path in paths:
        if path.endswith(".py") and path not in READERS:
            for node in ast.walk(ast.parse(sources[path])):
                found |= set(_asked_for(node, stage, f"{path}:"))
    return found


def _asked_for(node: ast.AST, stage: str, path: str) -> Iterator[str]:
    if isinstance(node, ast.Subscript) and _is_params(node.value):
        yield from _key(node.slice, stage, path)
    if not isinstance(node, ast.Call):
        return
    called = node.func
    if isinstance(called, ast.Attribute) and called.attr == "get":
        if _is_params(called.value):
            yield from _key(node.args[0], stage, path)
        return
    name = getattr(called, "id", getattr(called, "attr", ""))
    if name == "load_block":
        yield from _key(node.args[0], stage, path)
    elif name == "load_row":
        yield from (f"{key}.*" for key in _key(node.args[0], stage, path))
    elif name == "find_block":
        yield from _key(node.args[1], stage, path)


def _is_params(node: ast.AST) -> bool:
    """Whether it is the whole of params.yaml, by the name that it always has."""
    called = node.func if isinstance(node, ast.Call) else None
    return getattr(node, "id", "") == "params" or getattr(called, "id", "") == (
        "read_params"
    )


def _key(node: ast.expr, stage: str, path: str) -> Iterator[str]:
    if isinstance(node, ast.Constant):
        yield str(node.value)
    elif isinstance(node, ast.JoinedStr):
        parts = (getattr(part, "value", "*") for part in node.values)
        yield "".join(part if isinstance(part, str) else "*" for part in parts)
    elif isinstance(node, ast.Name) and node.id == "key" and stage == "train":
        yield from discover.excerpt("stages.train.settings", "BLOCKS")
    else:
        yield f"{path}{node.lineno}"
