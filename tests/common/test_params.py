"""A bad parameter is named with its value and with what is allowed."""

from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationError

from stages.common.params import ParamsError, Settings, find_block, load_block

TEXT = """
train:
  epochs: 3
  kind: fast
  nested: {weight: 0.5}
rows:
  a: {weight: 0.25}
"""


class Inner(Settings):
    weight: float = Field(ge=0, le=1)


class Block(Settings):
    epochs: int = Field(ge=1)
    kind: Literal["fast", "slow"]
    nested: Inner


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Make `tmp_path` the root; `write(old, new)` writes params.yaml with a change."""
    monkeypatch.chdir(tmp_path)

    def change(old: str = "", new: str = "") -> None:
        assert old in TEXT
        (tmp_path / "params.yaml").write_text(TEXT.replace(old, new) if old else TEXT)

    change()
    return change


@pytest.mark.usefixtures("write")
def test_a_block_is_read_and_never_changes():
    block = load_block("train", Block)
    assert (block.epochs, block.kind, block.nested.weight) == (3, "fast", 0.5)
    with pytest.raises(ValidationError):
        block.epochs = 4
    assert load_block("train.nested.weight", Annotated[float, Field(ge=0)]) == 0.5
    assert load_block("rows", dict[str, Inner])["a"].weight == 0.25


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("epochs", "epoch", ["'train.epochs' is missing", "'train.epoch' is not a p"]),
        ("epochs: 3", "epochs: 0", ["'train.epochs' = 0", "greater than or equal"]),
        ("epochs: 3", "epochs: many", ["'train.epochs' = 'many'", "valid integer"]),
        ("kind: fast", "kind: fsat", ["'train.kind' = 'fsat'", "'fast' or 'slow'"]),
        ("0.5", "1.5", ["'train.nested.weight' = 1.5", "less than or equal to 1"]),
        ("nested: {weight: 0.5}", "", ["'train.nested' is missing"]),
    ],
)
def test_key_value_and_what_is_allowed_are_named(write, old, new, expected):
    write(old, new)
    with pytest.raises(ParamsError) as error:
        load_block("train", Block)
    assert "params.yaml" in str(error.value)
    for part in expected:
        assert part in str(error.value)


def test_a_number_that_yaml_reads_as_text_is_still_a_number(write):
    write("0.5", "1e-5")
    assert load_block("train", Block).nested.weight == 1e-5


def test_a_misspelt_key_lists_the_known_ones(write):
    write("epochs", "epoch")
    with pytest.raises(ParamsError, match="known keys: epochs, kind, nested"):
        load_block("train", Block)


@pytest.mark.usefixtures("write")
def test_a_missing_block_lists_what_is_there():
    with pytest.raises(ParamsError, match=r"'trian' is missing; found here: train, ro"):
        load_block("trian", Block)
    with pytest.raises(ParamsError, match=r"'rows.b' is missing; found here: a"):
        find_block({"rows": {"a": 1}}, "rows.b.c")
    with pytest.raises(ParamsError, match=r"'rows.a.b' is missing"):
        find_block({"rows": {"a": 1}}, "rows.a.b")


@pytest.mark.parametrize(
    ("text", "named"),
    [("a: [1", "not valid YAML"), ("- 1\n- 2\n", "no mapping but list"), ("", "None")],
)
def test_a_file_that_is_no_mapping_is_named(write, tmp_path, text, named):
    write()
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ParamsError, match=rf"params.yaml .*{named}"):
        load_block("train", Block)


def test_a_missing_file_says_where_to_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParamsError, match="run from the project's root"):
        load_block("train", Block)
