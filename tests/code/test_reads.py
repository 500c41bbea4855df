"""The table of parameters against what the stages read: a forgotten block is stale.

The text of every stage must ask for the blocks that `KINDS` gives to its cells, no more
and no less; and one cell of each entry of dvc.yaml is run, as far as it comes without
data, to see which blocks it asks for.
"""

import shlex
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import pytest

from stages.check.profile import render
from stages.common import params as params_module
from stages.common.cell_inputs import KINDS, blocks_of
from stages.common.closure import code_of_cells, load_sources
from tests.code.reads import blocks_read
from tests.dag import Cell, load_cells

ROOT = Path(__file__).resolve().parents[2]
SOURCES = load_sources(ROOT)
STAGES = {kind.code.partition("/")[0] for kind in KINDS.values()} - {"check"}
# `download` warns of a source that is not among them, and does the same with it.
FOR_A_WARNING = {"download.sources"}


def read_by(stage: str, sources: dict[str, str]) -> set[str]:
    code = code_of_cells(sources)
    names = [name for name in code if name.partition("/")[0] == stage]
    files = set().union(*(code[name] for name in names))
    return blocks_read(stage, sorted(files), sources) - FOR_A_WARNING


def declared(stage: str) -> set[str]:
    kinds = [k for k in KINDS.values() if k.code.partition("/")[0] == stage]
    return {block for kind in kinds for block in kind.params}


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_what_a_stage_reads_is_declared(stage):
    assert read_by(stage, SOURCES) == declared(stage)


@pytest.mark.parametrize(
    ("path", "text", "found"),
    [
        ("stages/unlearn/ssd.py", "load_block('model', Model)", "model"),
        ("stages/unlearn/ssd.py", "read_params()['grid']", "grid"),
        ("stages/common/fit.py", "find_block(read_params(), 'model')", "model"),
        ("stages/unlearn/base.py", "load_block(f'detect.{name}', D)", "detect.*"),
        ("stages/unlearn/base.py", "load_row('scenarios', n, S, '-')", "scenarios.*"),
        ("stages/unlearn/base.py", "load_block(name, D)", "stages/unlearn/base.py:1"),
    ],
)
def test_a_forgotten_block_is_noticed(path, text, found):
    sources = SOURCES | {path: f"{text}\n{SOURCES[path]}".replace("__future__", "")}
    assert read_by("unlearn", sources) - declared("unlearn") == {found}


@pytest.fixture(scope="module")
def cells(tmp_path_factory) -> dict[str, Cell]:
    """One cell of each entry of dvc.yaml."""
    from dvc.repo import Repo

    root = tmp_path_factory.mktemp("dag")
    Repo.init(str(root), no_scm=True).close()
    (root / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    (root / "params.yaml").write_text(render("default"))
    return {cell.name.partition("@")[0]: cell for cell in load_cells(root)}


# What a cell reads after its data, and so not here.
LATER = {"poison": {"sampling"}}
# Read whole, by functions that are given params: see the text alone.
WITHOUT = {"code", "check", "download", "report"}
ENTRIES = (
    "classify detect detect_open drop_list evaluate evaluate_drop_all evaluate_oracle "
    "evaluate_oracle_continue evaluate_poisoned evaluate_references forget forget_tips "
    "poison synthesize synthesize_artefacts train_continue train_drop_all train_oracle "
    "train_oracle_continue train_poisoned unlearn"
).split()


def test_every_entry_is_tried(cells):
    assert set(cells) == {*ENTRIES, *WITHOUT}


@pytest.mark.parametrize("entry", ENTRIES)
def test_what_a_cell_reads_is_in_its_file(entry, cells, tmp_path, monkeypatch):
    asked = set()

    def noting(block, key, schema):
        asked.add(key)
        return validate(block, key, schema)

    validate = params_module.validate
    monkeypatch.setattr(params_module, "validate", noting)
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(render("default"))
    cell = cells[entry]
    words = shlex.split(cell.cmd)
    main = import_module(f"stages.{cell.stage}.__main__").main
    with suppress(SystemExit):  # there are no data
        main(words[words.index("-m") + 2 :])
    (code,) = cell.code
    name = code.removeprefix("data/code/").removesuffix(".txt")
    blocks = set(blocks_of(name))
    inside = {key for key in asked if key.rpartition(".")[0] in blocks}
    assert asked - inside | LATER.get(entry, set()) == blocks
