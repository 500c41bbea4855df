"""Read one validated block of `params.yaml`."""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

PARAMS_FILE = Path("params.yaml")


class Settings(BaseModel):
    """Base of every block: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class ParamsError(ValueError):
    """A key of `params.yaml` is missing, misspelt or out of range."""


SettingsT = TypeVar("SettingsT")


def read_params(path: Path = PARAMS_FILE) -> dict[str, Any]:
    """Return the whole of `params.yaml`.

    Raises:
        ParamsError: the file is missing, is not YAML or is not a mapping.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError(
            f"{path} is not here: run from the project's root, or write one with "
            "`make profile NAME=default`"
        ) from None
    except yaml.YAMLError as error:
        raise ParamsError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise ParamsError(f"{path} holds no mapping but {type(content).__name__}")
    return content


def find_block(params: dict[str, Any], key: str) -> Any:
    """Return what lies at a dotted key such as `unlearn.ssd`."""
    block: Any = params
    walked = []
    for part in key.split("."):
        walked.append(part)
        if not isinstance(block, dict) or part not in block:
            known = ", ".join(map(str, block)) if isinstance(block, dict) else block
            raise ParamsError(
                f"{PARAMS_FILE}: '{'.'.join(walked)}' is missing; found here: {known}"
            )
        block = block[part]
    return block


def validate(block: Any, key: str, schema: type[SettingsT]) -> SettingsT:
    """Turn a block into its schema, or say which key holds what and what is allowed."""
    try:
        return TypeAdapter(schema).validate_python(block)
    except ValidationError as error:
        lines = [_explain(key, problem, schema) for problem in error.errors()]
        raise ParamsError("\n".join(lines)) from None


def load_block(key: str, schema: type[SettingsT]) -> SettingsT:
    """Read `params.yaml` and return the validated block at a dotted key."""
    return validate(find_block(read_params(), key), key, schema)


def load_row(block: str, name: str, schema: type[SettingsT], what: str) -> SettingsT:
    """Read `params.yaml` and return one validated row of a block, such as `scenarios`.

    Args:
        block: key of the block.
        name: of the row.
        schema: of a row.
        what: who asks for it, as the user wrote it: `--scenario`.

    Raises:
        ParamsError: there is no such row, or it is not valid.
    """
    check_row(block, name, what)
    return load_block(f"{block}.{name}", schema)


def check_row(block: str, name: str, what: str) -> None:
    """Say which rows a block has if it lacks the one that is asked for."""
    rows = find_block(read_params(), block)
    if name not in rows:
        raise ParamsError(
            f"{what} {name} is unknown; {PARAMS_FILE} has {', '.join(rows)}"
        )


def _explain(key: str, problem: Any, schema: Any) -> str:
    where = ".".join([key, *map(str, problem["loc"])])
    if problem["type"] == "extra_forbidden":
        allowed = ", ".join(getattr(schema, "model_fields", {})) or "see the README"
        return f"{PARAMS_FILE}: '{where}' is not a parameter; known keys: {allowed}"
    if problem["type"] == "missing":
        return f"{PARAMS_FILE}: '{where}' is missing"
    return f"{PARAMS_FILE}: '{where}' = {problem['input']!r}: {problem['msg']}"
