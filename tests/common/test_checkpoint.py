"""A checkpoint comes back bit by bit, or is refused by name."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from stages.common.varnet import (
    ModelSettings,
    VarNet,
    build_varnet,
    load_checkpoint,
    save_checkpoint,
)

SETTINGS = ModelSettings(
    num_cascades=1, chans=2, pools=1, sens_chans=2, sens_pools=1, precision="fp32"
)


@pytest.fixture
def model() -> VarNet:
    return build_varnet(SETTINGS, seed=0)


def write(path: Path, weights: dict[str, torch.Tensor], settings: dict) -> Path:
    save_file(weights, path, metadata={"model": json.dumps(settings)})
    return path


def test_round_trip(model, tmp_path):
    path = tmp_path / "cell" / "model.safetensors"
    save_checkpoint(path, model)
    loaded = load_checkpoint(path)
    assert loaded.settings == SETTINGS
    assert list(loaded.state_dict()) == list(model.state_dict())
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert path.read_bytes() == rewritten(path, loaded)


def rewritten(path: Path, model: VarNet) -> bytes:
    again = path.with_name("again.safetensors")
    save_checkpoint(again, model)
    return again.read_bytes()


@pytest.mark.parametrize("fault", ["missing", "renamed", "extra", "shape"])
def test_names_and_shapes_are_strict(model, tmp_path, fault):
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    key = next(iter(weights))
    if fault == "shape":
        weights[key] = weights[key].repeat(2, 1, 1, 1)
    elif fault == "extra":
        weights["module.extra"] = torch.zeros(1)
    else:
        value = weights.pop(key)
        if fault == "renamed":
            weights[f"module.{key}"] = value
    named = "module.extra" if fault == "extra" else key
    path = write(tmp_path / "model.safetensors", weights, SETTINGS.model_dump())
    with pytest.raises(ValueError, match=r"model.safetensors") as error:
        load_checkpoint(path)
    assert named in str(error.value)


@pytest.mark.parametrize("fault", ["truncated", "garbage", "empty", "pickle"])
def test_damaged_and_foreign_files_are_named(model, tmp_path, fault):
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, model)
    content = path.read_bytes()
    if fault == "pickle":
        torch.save(model.state_dict(), path)
    else:
        damaged = {"truncated": content[:-100], "garbage": b"\xff" * 50, "empty": b""}
        path.write_bytes(damaged[fault])
    with pytest.raises(ValueError, match=r"model.safetensors is no MendMRI checkpoint"):
        load_checkpoint(path)


@pytest.mark.parametrize("metadata", [None, {"other": "1"}, {"model": "{"}])
def test_files_without_settings_are_named(model, tmp_path, metadata):
    path = tmp_path / "model.safetensors"
    save_file(dict(model.state_dict()), path, metadata=metadata)
    with pytest.raises(ValueError, match=r"model.safetensors is no MendMRI checkpoint"):
        load_checkpoint(path)


def test_unknown_settings_are_named(model, tmp_path):
    settings = SETTINGS.model_dump() | {"num_cascade": 3}
    path = write(tmp_path / "model.safetensors", dict(model.state_dict()), settings)
    with pytest.raises(ValueError, match=r"model.safetensors.*\n?.*num_cascade"):
        load_checkpoint(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"nothing.safetensors is missing: run `dvc"):
        load_checkpoint(tmp_path / "nothing.safetensors")


def test_a_failed_write_leaves_the_old_checkpoint(model, tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, model)
    before = path.read_bytes()

    def full(weights: object, target: Path, metadata: object) -> None:  # noqa: ARG001
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("stages.common.varnet.save_file", full)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(path, build_varnet(SETTINGS, seed=1))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
