"""What every unlearning method promises, whichever it is."""

import importlib
import json
import shutil

import h5py
import numpy as np
import pytest
import torch
import yaml
from torch.optim.optimizer import register_optimizer_step_post_hook

from stages.common import paths
from stages.common.manifest import SliceRef, read_manifest, write_slices
from stages.common.masks import column_mask
from stages.common.params import ParamsError, validate
from stages.common.varnet import load_checkpoint
from stages.unlearn.__main__ import main
from stages.unlearn.base import load_method, method_names
from tests.unlearn.toy_case import (
    KNOWN,
    PARAMS_FILE,
    SAMPLING,
    fingerprint,
    open_case,
    params_of,
    same,
    write_case,
)

pytestmark = pytest.mark.usefixtures("tiny_cohort")


METHODS = method_names()


@pytest.fixture(params=METHODS)
def method(request):
    return importlib.import_module(f"stages.unlearn.{request.param}")


def run(method, tmp_path, name="run", **changes):
    """Unlearn the case `s` anew; return (input, corrected, cost)."""
    model, case = open_case(tmp_path / name)
    return model, method.unlearn(model, case, params_of(method, **changes)), case.cost


def test_the_input_is_untouched_and_the_output_is_a_model(method, tmp_path):
    write_case()
    model, corrected, cost = run(method, tmp_path)
    assert same(model, load_checkpoint(paths.case("s") / "model.safetensors"))
    assert not same(model, corrected)
    assert corrected is not model
    assert corrected.settings == model.settings
    before, after = model.state_dict(), corrected.state_dict()
    assert list(before) == list(after)
    for name, value in after.items():
        assert value.shape == before[name].shape
        assert value.dtype == before[name].dtype
        assert value.isfinite().all()
    assert all(parameter.requires_grad for parameter in corrected.parameters())
    assert cost.slices_forward_backward > 0


def test_the_same_seed_gives_the_same_weights(method, tmp_path):
    write_case()
    _, first, _ = run(method, tmp_path, "first")
    torch.manual_seed(999)
    _, second, _ = run(method, tmp_path, "second")
    assert same(first, second)


def test_one_known_slice_is_enough(method, tmp_path):
    write_case(KNOWN[:1])
    _, corrected, _ = run(method, tmp_path)
    assert all(value.isfinite().all() for value in corrected.state_dict().values())


def test_its_block_of_params_is_valid_and_strict(method):
    params = params_of(method)
    block = params.model_dump()
    assert validate(block, "unlearn.x", method.Params) == params
    with pytest.raises(ParamsError, match=r"unlearn.x.aplha' is not a parameter"):
        validate(block | {"aplha": 1}, "unlearn.x", method.Params)
    for key in block:
        with pytest.raises(ParamsError, match=rf"unlearn.x.{key}' = -5"):
            validate(block | {key: -5}, "unlearn.x", method.Params)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("ssd", {"alpha": 1e9}),
        ("ssd", {"lam": 1e9}),
        ("finetune", {"lr": 1e-30}),
        ("gradient_ascent", {"lr": 1e-30}),
        ("bad_teacher", {"lr": 1e-30}),
        ("scrub", {"lr": 1e-30, "max_lr": 1e-30}),
        ("neggrad_plus", {"lr": 1e-30}),
        ("npo", {"lr": 1e-30}),
        ("grad_tau", {"lr": 1e-30}),
        ("lfssd", {"alpha": 1e9}),
        ("lfssd", {"lam": 1e9}),
        ("ssd_guarded", {"per_layer": 100.0, "healing_steps": 0}),
        ("finetune_full", {"lr": 1e-30}),
        ("cf_k", {"lr": 1e-30}),
        ("task_negation", {"scale": 0.0}),
        ("noisy_label", {"lr": 1e-30}),
        ("salun", {"lr": 1e-30}),
    ],
)
def test_without_strength_nothing_changes(tmp_path, name, changes):
    write_case()
    method = importlib.import_module(f"stages.unlearn.{name}")
    model, corrected, _ = run(method, tmp_path, **changes)
    for key, value in model.state_dict().items():
        assert torch.allclose(value, corrected.state_dict()[key], atol=1e-12), key


def test_methods_are_the_files_and_the_grid():
    folder = PARAMS_FILE.parent / "stages" / "unlearn"
    files = {
        path.stem
        for path in folder.glob("*.py")
        if "\ndef unlearn(" in path.read_text()
    }
    params = yaml.safe_load(PARAMS_FILE.read_text())
    assert set(METHODS) == files
    assert set(params["grid"]["methods"]) <= files
    assert files <= set(params["unlearn"])


def test_an_unknown_method_lists_those_there_are():
    with pytest.raises(
        ValueError, match=r"sdd is unknown; there are .*bad_teacher, .*ssd"
    ):
        load_method("sdd")


@pytest.mark.parametrize(
    ("known", "named"),
    [
        ("none", r"forget.json lists 0 of 18 training slices"),
        ("all", r"forget.json lists 18 of 18 training slices"),
        ("foreign", r"lists 1 slices that the training set does not .*icbm-009_FLAIR"),
        ("slice", r"lists 1 slices that the training set does not .*=3"),
    ],
)
def test_impossible_forget_sets_are_refused(tmp_path, known, named):
    sets = {
        "none": (),
        "all": read_manifest(paths.manifest("train")).refs(),
        "foreign": (SliceRef("icbm-009_FLAIR", 0),),
        "slice": (SliceRef("icbm-000_FLAIR", 3),),
    }
    write_case()
    write_slices(paths.case("s") / "forget.json", sets[known])
    with pytest.raises(ValueError, match=named):
        open_case(tmp_path / "scratch")


def scramble_what_is_not_known() -> None:
    """Noise on the clean images and on every line outside each slice's mask."""
    rng = np.random.default_rng(0)
    for path in paths.kspace("train").iterdir():
        with h5py.File(path, "r+") as file:
            for number in range(len(file["kspace"])):
                kspace = file["kspace"][number]
                ref = SliceRef(path.stem, number)
                outside = ~column_mask(SAMPLING, ref, kspace.shape[-1])
                shape = kspace[..., outside].shape
                kspace[..., outside] = rng.standard_normal(shape)
                file["kspace"][number] = kspace
            file["reconstruction_rss"][...] = rng.random(
                file["reconstruction_rss"].shape
            )
            file.attrs["max"] = 0.1


def test_no_method_sees_the_truth(method, tmp_path):
    """Leakage: neither data/truth nor what the k-space files hold beside the mask."""
    write_case()
    refs = read_manifest(paths.manifest("train")).refs()
    poisoned = [ref for ref in refs if ref.volume_id.endswith("FLAIR")]
    for folder in (paths.truth("s"), paths.answers("s")):
        write_slices(folder / "record.json", poisoned)
        write_slices(folder / "known.json", poisoned)
    write_slices(paths.drop_list("s"), poisoned)
    _, before, _ = run(method, tmp_path, "before")
    shutil.rmtree(paths.DATA / "truth")
    paths.drop_list("s").unlink()
    scramble_what_is_not_known()
    _, after, _ = run(method, tmp_path, "after")
    assert fingerprint(before) == fingerprint(after)


def test_targets_written_again_change_nothing(method, tmp_path):
    """How a file was written must not tell which of its slices are poisoned."""
    write_case()
    _, before, _ = run(method, tmp_path, "before")
    for path in (paths.case("s") / "targets").iterdir():
        with h5py.File(path) as file:
            target, attrs = file["reconstruction_rss"][:], dict(file.attrs)
        path.unlink()
        with h5py.File(path, "w") as file:
            file.create_dataset("reconstruction_rss", data=target, compression="gzip")
            file.attrs.update(attrs)
    _, after, _ = run(method, tmp_path, "after")
    assert fingerprint(before) == fingerprint(after)


def test_the_leakage_check_notices_a_leak(method, tmp_path, monkeypatch):
    from stages.common import slices

    honest = slices.SliceDataset.__init__

    def leaking(self, *where, targets=None, **options):  # noqa: ARG001
        honest(self, *where, targets=None, **options)

    monkeypatch.setattr(slices.SliceDataset, "__init__", leaking)
    write_case()
    _, before, _ = run(method, tmp_path, "before")
    scramble_what_is_not_known()
    _, after, _ = run(method, tmp_path, "after")
    assert fingerprint(before) != fingerprint(after)


@pytest.fixture
def steps_taken():
    """One entry for each step that any optimizer takes."""
    taken = []
    hook = register_optimizer_step_post_hook(lambda *_: taken.append(1))
    yield taken
    hook.remove()


def test_the_stage_writes_model_and_cost(method, tmp_path, steps_taken):
    write_case()
    params = yaml.safe_load(PARAMS_FILE.read_text())
    params["train"]["epochs"] = 1
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    name = method.__name__.split(".")[-1]
    main(["--scenario", "s", "--method", name])
    cell = f"unlearned/s/{name}"
    load_checkpoint(paths.checkpoint(cell))
    cost = json.loads(paths.cost(cell).read_text())
    assert cost["slices_forward_backward"] > 0
    assert cost["gradient_steps"] == len(steps_taken)
    assert {path.name for path in paths.model(cell).iterdir()} == {
        "model.safetensors", "cost.json",
    }  # fmt: skip
