"""What of a Python file's text runs: all but comments, docstrings and blank lines.

Read token by token, not from a syntax tree: what is left is the file's own text, the
same under every version of Python.
"""

import functools
import io
import itertools
import tokenize

_REMARKS = {tokenize.COMMENT, tokenize.NL}
_BOUNDARIES = {tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}


@functools.cache
def without_remarks(text: str) -> str:
    """Leave out what can be edited without another result.

    A string that is a statement of its own goes, wherever it stands. Spaces and line
    breaks within a statement stay: moving them counts as an edit.

    Raises:
        SyntaxError: the text is no Python.
    """
    lines = text.split("\n")
    kept: set[int] = set()
    tokens = _tokens(text)
    for token in tokens:
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column].rstrip()
    said = [token for token in tokens if token.type not in _REMARKS]
    before = tokenize.NEWLINE
    for token, after in itertools.pairwise(said):  # the last one ends the file
        alone = before in _BOUNDARIES and after.type == tokenize.NEWLINE
        before = token.type
        if token.type not in _BOUNDARIES and not (alone and before == tokenize.STRING):
            kept.update(range(token.start[0], token.end[0] + 1))
    return "".join(f"{lines[row - 1]}\n" for row in sorted(kept))


def _tokens(text: str) -> list[tokenize.TokenInfo]:
    try:
        return list(tokenize.generate_tokens(io.StringIO(text).readline))
    except tokenize.TokenError as error:
        message, (row, _) = error.args
        raise SyntaxError(message, ("", row, None, None)) from None
