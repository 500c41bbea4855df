"""Take one definition out of a file of the project, without running the rest of it.

`check` validates against classes such as `stages.unlearn.ssd.Params`. The files that
hold them import PyTorch for what else is in them: seconds, for a few lines of schema.
"""

import ast
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@cache
def excerpt(module: str, name: str) -> Any:
    """Return what a module binds to a name at its top level.

    Only the statement that binds it is run, and before it those that bind the names it
    uses. Other libraries are imported, files of the project are taken excerpts of.

    Raises:
        AttributeError: the module binds no such name.
    """
    path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    binding = {bound: node for node in tree.body for bound in _bound(node)}
    if name not in binding:
        raise AttributeError(f"{path} defines no {name}")
    namespace: dict[str, Any] = {"__name__": module}
    _run(name, binding, namespace, str(path))
    return namespace[name]


class Excerpts:
    """A module of the project, of which only what is asked for is run."""

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return excerpt(self._module, name)


def _run(
    name: str, binding: dict[str, ast.stmt], namespace: dict[str, Any], path: str
) -> None:
    """Run the statement that binds a name, after those that it needs."""
    if name in namespace or name not in binding:
        return  # run already, or a built-in name
    node = binding[name]
    source = _source_in_project(node, name)
    if source is not None:
        module, original = source
        namespace[name] = excerpt(module, original) if original else Excerpts(module)
        return
    # A function may use its own name: by the time it is called it is there.
    rest = {key: value for key, value in binding.items() if value is not node}
    for used in ast.walk(node):
        # What it binds, such as a field of a class, is no use of a name's namesake.
        if isinstance(used, ast.Name) and isinstance(used.ctx, ast.Load):
            _run(used.id, rest, namespace, path)
    exec(compile(ast.Module([node], type_ignores=[]), path, "exec"), namespace)


def _source_in_project(node: ast.stmt, name: str) -> tuple[str, str] | None:
    """(module, name there) of `from stages.<module> import <name>`.

    The name there is empty where a module of the project is imported itself.
    """
    if not isinstance(node, ast.ImportFrom) or not node.module:
        return None
    (original,) = (a.name for a in node.names if name == (a.asname or a.name))
    folder = ROOT.joinpath(*node.module.split("."))
    if folder.with_suffix(".py").is_file():
        return node.module, original
    if (folder / f"{original}.py").is_file():
        return f"{node.module}.{original}", ""
    return None  # a library


def _bound(node: ast.stmt) -> list[str]:
    """Names that a top-level statement binds."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name.split(".")[0] for alias in node.names]
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else []
    if isinstance(node, ast.AnnAssign) and node.value is not None:
        targets = [node.target]
    return [target.id for target in targets if isinstance(target, ast.Name)]
