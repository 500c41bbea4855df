"""Write a profile into `params.yaml`.

Inputs: `stages/check/profiles/default.yaml`, a whole `params.yaml` with its comments,
and the overlay of another profile, which holds only what differs. Mappings are merged;
`poisonings`, `scenarios` and `maps` are replaced whole, since leaving out a row must be
possible.
Output: `params.yaml`.

    python -m stages.check.profile smoke
"""

import argparse
import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stages.common.params import PARAMS_FILE, ParamsError
from stages.common.volume import write_text

PROFILES = Path(__file__).resolve().parent / "profiles"
BASE = "default"
# What luck has a hand in, while poisons and data stay the same.
SEEDED = ("train", "unlearn")
REPLACED = ("poisonings", "scenarios", "maps")

log = logging.getLogger(__name__)


def names() -> list[str]:
    """Return the profiles there are, the default first."""
    overlays = {path.stem for path in PROFILES.glob("*.yaml")} - {BASE}
    return [BASE, *sorted(overlays)]


def render(name: str, *, seed: int = 0) -> str:
    """Return the text of `params.yaml` in a profile.

    Args:
        name: of the profile.
        seed: added to the seeds of training and unlearning.

    Raises:
        ParamsError: there is no such profile, or it sets a key that `default` lacks.
    """
    if name not in names():
        raise ParamsError(f"'{name}' is not a profile; there are: {', '.join(names())}")
    text = (PROFILES / f"{BASE}.yaml").read_text(encoding="utf-8")
    if name == BASE and not seed:
        return text
    overlay_text = ""
    if name != BASE:
        overlay_text = (PROFILES / f"{name}.yaml").read_text(encoding="utf-8")
    yaml = _yaml()
    params = yaml.load(text)
    _merge(params, yaml.load(overlay_text) or {}, name)
    params["profile"] = name
    for block in SEEDED:
        params[block]["seed"] += seed
    stream = io.StringIO()
    yaml.dump(params, stream)
    return _leading_comment(overlay_text) + stream.getvalue().rstrip("\n") + "\n"


def _yaml() -> YAML:
    """Round-trip YAML: comments, order and the style of each value survive."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    return yaml


def _merge(params: Any, overlay: Any, name: str, path: tuple[str, ...] = ()) -> None:
    for key, value in overlay.items():
        where = (*path, str(key))
        if key not in params:
            dotted = ".".join(where)
            raise ParamsError(f"profile {name} sets '{dotted}', unknown to {BASE}.yaml")
        whole = len(where) == 1 and key in REPLACED
        if isinstance(value, dict) and isinstance(params[key], dict) and not whole:
            _merge(params[key], value, name, where)
        else:
            params[key] = value


def _leading_comment(text: str) -> str:
    """Return what an overlay says about itself in its first lines."""
    lines = []
    for line in text.splitlines(keepends=True):
        if not line.startswith("#"):
            break
        lines.append(line)
    return "".join(lines)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stages.check.profile")
    parser.add_argument("name", help=f"one of: {', '.join(names())}")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    name = parse_args(argv).name
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        write_text(PARAMS_FILE, render(name))
    except ParamsError as error:
        log.error("%s", error)
        raise SystemExit(2) from None
    log.info("%s now holds the profile '%s'", PARAMS_FILE, name)


if __name__ == "__main__":
    main()
