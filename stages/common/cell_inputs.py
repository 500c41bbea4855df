"""What each kind of cell is made from: its code, and the parameters that it reads.

`KINDS` is the one place that says which blocks of `params.yaml` a cell depends on. A
new file that a stage chooses by its name (a source, attack, method or detector) needs
no entry. `code` writes it all down for the cells to depend on, `report`'s gate looks
whether it has changed since.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from stages.common import paths
from stages.common.closure import Sources, code_of_cells, digest, load_sources
from stages.common.params import PARAMS_FILE, ParamsError, find_block, read_params

Params = dict[str, Any]


class Kind(NamedTuple):
    """Cells that run the same code and read the same blocks.

    Attributes:
        code: name of the code, as `code_of_cells` has it; `{attack}` stands for what
            the cell's row says.
        params: blocks that a cell reads; `*` stands for the last part of its name.
        rows: block whose rows the cells are, each with a file of its own.
    """

    code: str
    params: tuple[str, ...] = ()
    rows: str = ""


_BASE_MODEL = ("loss", "model", "sampling", "train")
_UNLEARN = ("loss", "sampling", "train", "unlearn.*", "unlearn.seed")
_DETECT = ("detect.*", "detect.batch_size", "detect.seed", "loss", "sampling")

# A name in data/code/ -> what the cells depend on with it.
KINDS = {
    "check": Kind("check"),  # depends on params.yaml itself
    "classify": Kind("classify", ("classify",)),
    "detect/*": Kind("detect/*", _DETECT),
    "download/*": Kind("download/*", ("download.*",)),
    "drop_list": Kind("forget"),
    "evaluate": Kind("evaluate", ("evaluate", "sampling")),
    "forget/*": Kind("forget", ("scenarios.*",), rows="scenarios"),
    "forget_tips": Kind("forget", ("detect.known", "detect.seed")),
    "poison/*": Kind(
        "poison/{attack}", ("poisonings.*", "sampling"), rows="poisonings"
    ),
    "report": Kind("report", ("grid", "poisonings", "profile", "report", "scenarios")),
    "synthesize/*": Kind("synthesize/*", ("synthesize",)),
    "synthesize/artefacts": Kind("synthesize/artefacts", ("artefacts", "synthesize")),
    "train": Kind("train", _BASE_MODEL),
    "train_continue": Kind("train", (*_BASE_MODEL, "unlearn.finetune")),
    "unlearn/*": Kind("unlearn/*", _UNLEARN),
}


def cell_inputs(root: Path) -> dict[str, str]:
    """The text of `data/code/<name>.txt` for every kind of cell: name -> text.

    Raises:
        ParamsError: `params.yaml` is missing, is not YAML or is not a mapping.
        ValueError: a file of stages/ is not UTF-8, or is no Python.
    """
    return inputs_of(read_params(root / PARAMS_FILE), load_sources(root))


def inputs_of(params: Params, sources: Sources) -> dict[str, str]:
    """A line per file of code, as `digest` writes it, then the parameters.

    They are YAML in comments. What `params` lacks is left out: `check` comes next, and
    says what is wrong with it.
    """
    code = code_of_cells(sources)
    hashes = {name: digest(files, sources) for name, files in code.items()}
    return {
        name: hashes[code_name] + _listed(params, blocks_of(name))
        for name, code_name in _names(params, code)
        if code_name in code
    }


def blocks_of(name: str) -> list[str]:
    """Blocks of `params.yaml` that the cells of a name in `data/code/` read."""
    folder, _, last = name.rpartition("/")
    kind = KINDS[name] if name in KINDS else KINDS[f"{folder}/*"]
    return [block.replace("*", last) for block in kind.params]


def _names(params: Params, code: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(name in `data/code/`, name of its code) of everything that cells depend on."""
    for name, kind in KINDS.items():
        if kind.rows:
            rows = params.get(kind.rows)
            for key, row in rows.items() if isinstance(rows, dict) else ():
                own = name.replace("*", str(key))
                if paths.can_name(own) and isinstance(row, dict):
                    yield own, kind.code.format(attack=row.get("attack"))
        elif name.endswith("/*"):
            prefix = name.removesuffix("*")
            yield from ((own, own) for own in code if own.startswith(prefix))
        else:
            yield name, kind.code


def _listed(params: Params, blocks: Iterable[str]) -> str:
    found = {}
    for block in blocks:
        try:
            found[block] = find_block(params, block)
        except ParamsError:
            continue
    if not found:
        return ""
    # Sorted: where a key stands in params.yaml changes no number.
    text = yaml.safe_dump(found, allow_unicode=True, width=4096)
    return "".join(f"# {line}\n" for line in (f"{PARAMS_FILE}:", *text.splitlines()))
