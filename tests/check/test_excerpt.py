"""A definition without its file is the definition in its file."""

import importlib

import pytest
from pydantic import TypeAdapter

from stages.check import discover
from stages.check import excerpt as excerpts
from stages.check.excerpt import excerpt

TOOLS = """
import missing_library
from pydantic import BaseModel as Model, Field

raise_when_run = 1 / 0
LOWEST: int = 2


def at_least(value):
    return LOWEST if value < LOWEST else value


class Base(Model):
    size: int = Field(ge=LOWEST)
    depth: int = at_least(1)
"""
METHOD = """
import missing_library
from stages.common import tools
from stages.common.tools import Base as Shared, at_least


class Params(Shared):
    width: int = at_least(5)


class Wider(tools.Base):
    width: int = tools.at_least(7)


def unlearn(model):
    return missing_library.run(model)


def width(case: missing_library.Case):  # the name of a field, too
    return case
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    for name, text in {"common/tools": TOOLS, "unlearn/method": METHOD}.items():
        path = tmp_path / f"stages/{name}.py"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    monkeypatch.setattr(excerpts, "ROOT", tmp_path)
    excerpt.cache_clear()
    yield
    excerpt.cache_clear()


@pytest.mark.usefixtures("project")
def test_only_what_a_definition_needs_is_run():
    params = excerpt("stages.unlearn.method", "Params")
    assert params(size=3).model_dump() == {"size": 3, "depth": 2, "width": 5}
    with pytest.raises(ValueError, match="greater than or equal to 2"):
        params(size=1)


@pytest.mark.usefixtures("project")
def test_of_an_imported_module_only_what_is_used_is_run():
    wider = excerpt("stages.unlearn.method", "Wider")
    assert wider(size=3).model_dump() == {"size": 3, "depth": 2, "width": 7}


@pytest.mark.usefixtures("project")
def test_what_it_needs_is_run():
    with pytest.raises(ModuleNotFoundError, match="missing_library"):
        excerpt("stages.unlearn.method", "missing_library")


@pytest.mark.usefixtures("project")
def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match=r"method\.py defines no Settings"):
        excerpt("stages.unlearn.method", "Settings")


def schemas():
    for path in sorted(discover.STAGES.glob("*/settings.py")):
        yield f"stages.{path.parent.name}.settings", "BLOCKS"
    for stage in ("poison", "unlearn"):
        for name in discover.plugins(stage):
            yield f"stages.{stage}.{name}", "Params"


@pytest.mark.parametrize(("module", "name"), [*schemas()])
def test_the_schemas_are_those_of_their_files(module, name):
    taken = excerpt(module, name)
    real = getattr(importlib.import_module(module), name)
    if name == "Params":
        taken, real = {"": taken}, {"": real}
    assert taken.keys() == real.keys()
    for key, schema in taken.items():
        assert TypeAdapter(schema).json_schema() == TypeAdapter(real[key]).json_schema()
