"""What of a file's text counts as code."""

import ast
from pathlib import Path

import pytest

from stages.common.closure import load_sources
from stages.common.remarks import without_remarks

ROOT = Path(__file__).resolve().parents[2]
CODE = '''\
"""What the file is for."""

import math  # of the library


# What follows is long.
def area(radius: float, text: str = "# none") -> float:
    """Of a circle.

    Args:
        radius: in mm.
    """
    parts = [
        "pi",  # first

        "r"
    ]
    note = """
    a

    b  # kept
    """
    return math.pi * radius**2, parts, note


class Empty(ValueError):
    """Nothing else."""
'''
LEFT = '''\
import math
def area(radius: float, text: str = "# none") -> float:
    parts = [
        "pi",
        "r"
    ]
    note = """
    a

    b  # kept
    """
    return math.pi * radius**2, parts, note
class Empty(ValueError):
'''


def test_what_is_left():
    assert without_remarks(CODE) == LEFT


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("What the file is for.", "Another\n\nsentence."),
        ('"""What the file is for."""\n', ""),
        ("  # of the library", ""),
        ("# What follows is long.\n", ""),
        ("\n\n\n", "\n"),
        ("radius: in mm.", "radius: in cm."),
        ("  # first\n\n", "  # 1st\n"),
        ("Nothing else.", "Something else."),
    ],
)
def test_remarks_do_not_count(old, new):
    assert CODE.count(old)
    assert without_remarks(CODE.replace(old, new)) == LEFT


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# none", "# some"),
        ("    a\n\n    b", "    a\n    b"),
        ("b  # kept", "b  # other"),
        ("radius**2", "radius**3"),
        ("    return", "    if radius:\n        return"),
        ("import math", "import cmath as math"),
        ('"r"\n', '"s"\n'),
    ],
)
def test_code_counts(old, new):
    assert CODE.count(old) == 1
    assert without_remarks(CODE.replace(old, new)) != LEFT


@pytest.mark.parametrize("text", ["", "\n", "# alone", '"""Alone."""', "pass", "x = 1"])
def test_a_file_of_next_to_nothing(text):
    code = "" if text[:1] in ('"', "#", "\n") else text
    assert without_remarks(text).strip() == code


@pytest.mark.parametrize("text", ["f(", '"""', "if x:\n    1\n  2\n"])
def test_no_python(text):
    with pytest.raises(SyntaxError) as error:
        without_remarks(text)
    assert error.value.lineno


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('f"{launch()}"\n', 'f"{other()}"\n'),
        ("x = a \\\n\n+ b\n", "x = a \\\n+ b\n"),
        ('x = f"""{\n\ny=}"""\n', 'x = f"""{\ny=}"""\n'),
        ('x = 1; "said"\n', "x = 1\n"),
    ],
)
def test_what_looks_like_a_remark_and_is_none(one, other):
    assert without_remarks(one) != without_remarks(other)


def test_the_projects_own_code_keeps_its_meaning():
    for path, text in load_sources(ROOT).items():
        if path.endswith(".py"):
            tree, left = ast.parse(text), without_remarks(text)
            without_docstrings(tree)
            assert ast.dump(ast.parse(with_bodies(left))) == ast.dump(tree), path
            assert len(left) < len(text), path


def with_bodies(left: str) -> str:
    """Put `pass` where a docstring was all."""
    lines = left.splitlines()
    depths = [len(line) - len(line.lstrip()) for line in lines]
    found = []
    after = [*depths, 0][1:]
    for line, depth, below in zip(lines, depths, after, strict=True):
        found.append(line)
        if line.endswith(":") and below <= depth:
            found.append(f"{' ' * depth}    pass")
    return "\n".join(found)


def without_docstrings(tree: ast.Module) -> None:
    """Take docstrings out in place; `pass` stands where one was all."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            if ast.get_docstring(node, clean=False) is not None:
                node.body = node.body[1:] or [ast.Pass()] * (node is not tree)
