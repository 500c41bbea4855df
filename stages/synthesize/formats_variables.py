"""Which variable of a file is meant, and what to say of a file that cannot be read."""

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from stages.synthesize.scans import ScanError

# What NumPy, SciPy and h5py raise for files that are damaged or of another kind.
_DAMAGED = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    NotImplementedError,
    OverflowError,
    MemoryError,
    RuntimeError,
    zlib.error,
)


@contextmanager
def readable(path: Path, kind: str) -> Iterator[None]:
    """Turn what a library raises for a damaged file into a line for its owner.

    Args:
        path: the file.
        kind: what it should be, such as `a .npy file`.

    Raises:
        ScanError: the file is missing, truncated or of another kind.
    """
    try:
        yield
    except ScanError:
        raise
    except FileNotFoundError:
        raise ScanError(f"{path} is missing: run `dvc repro download@folder`") from None
    except _DAMAGED as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ScanError(
            f"{path} cannot be read as {kind} ({reason}): it is truncated, damaged or "
            "something else; export it again, or remove its row from the table"
        ) from None


def choose(
    key: str, held: Mapping[str, str], candidates: list[str], *, path: Path
) -> str:
    """Choose the variable that is meant.

    Args:
        key: what the table says; empty where it says nothing.
        held: name -> description of all that the file holds.
        candidates: those that it may be if the table says nothing.
        path: the file, for errors.

    Raises:
        ScanError: it is not there, or without `key` there is not exactly one.
    """
    listed = ", ".join(f"{name} ({what})" for name, what in held.items()) or "nothing"
    if key and key not in held:
        raise ScanError(
            f"{path}: has no variable '{key}', it holds {listed}: correct 'key' in the "
            "table"
        )
    if not key and len(candidates) != 1:
        several = "several variables" if candidates else "no variable"
        raise ScanError(
            f"{path}: has {several} that could be meant, it holds {listed}: name one "
            "in column 'key' of the table"
        )
    return key or candidates[0]
