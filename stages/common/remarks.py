"""What of a Python file's text runs: all but comments, docstrings and blank lines.

Read token by token, not from a syntax tree: what is left is the file's own text, the
same under every version of Python.
"""

import functools
import io
import tokenize
from collections.abc import Iterator

_REMARKS = {tokenize.COMMENT, tokenize.NL}
_BOUNDARIES = {tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
# From Python 3.12 on an f-string is several tokens.
_PIECES_START = getattr(tokenize, "FSTRING_START", None)
_PIECES_END = getattr(tokenize, "FSTRING_END", None)


@functools.cache
def without_remarks(text: str) -> str:
    """Leave out what can be edited without another result.

    A string that is a statement of its own goes, wherever it stands. Spaces and line
    breaks within a statement stay: moving them counts as an edit.

    Raises:
        SyntaxError: the text is no Python.
    """
    lines = text.split("\n")
    tokens = _tokens(text)
    for token in tokens:
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column].rstrip()
    kept: set[int] = set()
    for statement in _statements(tokens):
        if not _is_remark(statement):
            kept.update(_rows(statement))
    return "".join(f"{lines[row - 1]}\n" for row in sorted(kept))


def _statements(tokens: list[tokenize.TokenInfo]) -> Iterator[list[tokenize.TokenInfo]]:
    """The tokens of each logical line, the last is its `NEWLINE`."""
    found: list[tokenize.TokenInfo] = []
    for token in tokens:
        if token.type in _REMARKS or (not found and token.type in _BOUNDARIES):
            continue
        found.append(token)
        if token.type == tokenize.NEWLINE:
            yield found
            found = []


def _is_remark(statement: list[tokenize.TokenInfo]) -> bool:
    """Whether it is one string and nothing else, none that is put together."""
    first, *others = statement
    prefix = first.string[: first.string.find(first.string[-1])]
    is_plain = first.type == tokenize.STRING and "f" not in prefix.lower()
    return is_plain and len(others) == 1


def _rows(statement: list[tokenize.TokenInfo]) -> Iterator[int]:
    """Rows on which something of it stands: blank ones within a string do."""
    started: list[int] = []
    for token in statement:
        first = token.start[0]
        if token.type == _PIECES_START:
            started.append(first)
        elif token.type == _PIECES_END:
            first = started.pop()
        yield from range(first, token.end[0] + 1)


def _tokens(text: str) -> list[tokenize.TokenInfo]:
    try:
        return list(tokenize.generate_tokens(io.StringIO(text).readline))
    except tokenize.TokenError as error:
        message, (row, _) = error.args
        raise SyntaxError(message, ("", row, None, None)) from None
