"""A run of `forget` that must be refused, with nothing written."""

from typing import Any

import pytest

from stages.common import paths
from stages.forget.__main__ import main


def fails(capsys: Any, *argv: str) -> str:
    """Run it; return the message."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2
    assert not paths.case("s").exists()
    assert not paths.answers("s").exists()
    return capsys.readouterr().err
