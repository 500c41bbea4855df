"""The benchmarks run, at toy size, and refuse to compare what is not the same."""

import json
import logging
from pathlib import Path

import pytest
import torch

from stages.common import paths
from stages.common.slices import make_loader
from stages.common.volume import write_text
from tests.benchmarks import __main__ as program
from tests.benchmarks import importance_pass, loading, steps
from tests.benchmarks.agreement import largest_difference, require_same
from tests.benchmarks.cohort import make_dataset
from tests.benchmarks.pipeline import repro
from tests.benchmarks.sizes import Plan, Size, read_size
from tests.benchmarks.timing import compare, in_turns

PLAN = Plan(
    batches=(1, 2),
    rounds=1,
    importance_training=1,
    importance_slices=2,
    importance_batches=(2,),
    importance_rounds=1,
    load_rounds=1,
)
UNPAIRED = ("start", "dag/no_op", "dag/stage", "repro")  # with nothing to compare
MEASURED = {"ours", "reference", "ratio", "batch"}


@pytest.fixture(scope="module")
def toy() -> Size:
    size = read_size("smoke", PLAN)
    synthesize = size.synthesize.model_copy(
        update={"matrix": 16, "contrasts": size.synthesize.contrasts[:1]}
    )
    return size._replace(synthesize=synthesize)


def promised() -> set[str]:
    steps_of = [
        f"{key}{batch}"
        for key in ("fp32", "best")
        for batch in ("", "/batch_1", "/own_batch")
    ]
    keys = {"load_epoch", "load_epoch/first", "load_epoch/training", *UNPAIRED}
    for size in ("default", "paper"):
        keys |= {f"importance/{size}/{key}" for key in steps_of if "_1" not in key}
        for kind in ("train_step", "infer"):
            keys |= {f"{kind}/{size}/{key}" for key in steps_of}
    return keys


def test_every_group_is_measured_and_written(toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_text(paths.timing("train", "oracle-0"), '{"seconds": 12.5}\n')
    write_text(paths.timing("train", "oracle-1"), '{"seconds": 7.5}\n')
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    alone = {"ours": 1.5, "reference": None, "ratio": None, "batch": None, "unit": "s"}
    start = {"": alone | {"seconds": {"train": 1.5}}}
    dag = dict.fromkeys(("no_op", "stage"), alone | {"stages": 7})
    overhead = {"start": lambda _: start, "dag": lambda _: dag}
    monkeypatch.setattr(program, "OVERHEAD", overhead)
    sizes = {"default": toy, "paper": toy}
    program.run(program.choose(""), sizes, paths.METRICS, wall_seconds=30.0)
    results = json.loads((paths.METRICS / "benchmarks.json").read_text())
    runs = results.pop("_run")
    assert set(results) == promised()
    for key, entry in results.items():
        assert entry.keys() >= MEASURED, key
        if key not in UNPAIRED:
            assert entry["ours"] > 0
            assert entry["reference"] > 0
            assert entry["ratio"] > 0
    assert results["repro"]["stages"] == {"train": {"seconds": 20.0, "cells": 2}}
    assert set(runs) == {*program.GROUPS, "start", "dag", "repro"}
    assert runs["infer/paper"]["settings"]["matrix"] == 16
    assert runs["infer/paper"]["threads"] == torch.get_num_threads()
    page = (paths.METRICS / "benchmarks.md").read_text()
    assert all(f"| `{key}` |" in page for key in promised() - {*UNPAIRED})
    assert "| `train` | 2 | 20.0 |" in page
    assert "OMP_NUM_THREADS=3 python -m tests.benchmarks --only train_step/p" in page
    assert "DAG of 7 stages DVC adds 1.50 s" in page
    assert "matrix 16, coils" in page
    assert str(Path.home()) not in page


def test_wall_time_stays_with_the_run_it_is_of(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_text(paths.timing("train", "oracle-0"), '{"seconds": 12.5}\n')
    write_text(paths.timing("tune", "tune"), '{"seconds": 99.0}\n')
    measured = repro({}, wall_seconds=30.0)
    assert measured["stages"] == {"train": {"seconds": 12.5, "cells": 1}}
    assert repro(measured, wall_seconds=None) == measured
    write_text(paths.timing("train", "oracle-0"), '{"seconds": 12.6}\n')
    assert repro(measured, wall_seconds=None)["wall_seconds"] is None


def test_nothing_ran_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="holds no timing: run `make repro`"):
        repro({}, wall_seconds=None)


def test_one_group_leaves_the_others_alone(toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sizes = {"default": toy, "paper": toy}
    old = {"ours": 1.0, "unit": "ms per slice"}
    content = {"infer/default/best": old, "infer/default/gone": old, "load_epoch": old}
    write_text(paths.METRICS / "benchmarks.json", json.dumps(content))
    program.run(program.choose("infer/default/best"), sizes, paths.METRICS)
    results = json.loads((paths.METRICS / "benchmarks.json").read_text())
    assert results["load_epoch"] == old
    assert results["infer/default/best"] != old
    assert "infer/default/gone" not in results
    assert "train_step/default/best" not in results


@pytest.mark.parametrize("measure", [steps.train_step, steps.infer])
def test_another_network_is_not_timed(toy, tmp_path, monkeypatch, measure):
    make = steps.make_reference

    def changed(settings, weights):
        model = make(settings, weights)
        with torch.no_grad():
            model.cascades[0].model.unet.up_conv[-1][1].bias.add_(0.01)
        return model

    monkeypatch.setattr(steps, "make_reference", changed)
    with pytest.raises(ValueError, match="the fp32 output differs from"):
        measure(toy, tmp_path)


def test_another_loss_is_not_timed(toy, tmp_path, monkeypatch):
    loss = steps.reference_loss
    monkeypatch.setattr(steps, "reference_loss", lambda **_: loss(l1_weight=0.5))
    with pytest.raises(ValueError, match="the loss differs from"):
        steps.train_step(toy, tmp_path)


def test_an_importance_of_batches_is_not_timed(toy, tmp_path, monkeypatch):
    def squared_mean(model, dataset, batch_loss, **_):
        (batch,) = make_loader(dataset, batch_size=len(dataset))
        names, parameters = zip(*model.named_parameters(), strict=True)
        gradients = torch.autograd.grad(batch_loss(model, batch), parameters)
        return {n: g.square() for n, g in zip(names, gradients, strict=True)}

    plan = PLAN._replace(importance_slices=32)
    monkeypatch.setattr(importance_pass, "importance", squared_mean)
    with pytest.raises(ValueError, match="the importance in float64 differs from"):
        importance_pass.importance_pass(toy._replace(plan=plan), tmp_path)


@pytest.mark.parametrize(
    "changed", ["target", "max_value", "masked_kspace", "one more"]
)
def test_other_samples_are_not_timed(toy, tmp_path, changed):
    samples = list(make_dataset(toy, tmp_path, slices=2))
    reference = loading._reference_data(toy, tmp_path)
    loading._check(samples, reference)
    if changed == "one more":
        samples.append(samples[0])
    else:
        value = getattr(samples[1], changed)
        samples[1] = samples[1]._replace(**{changed: value * 1.001})
    with pytest.raises(ValueError, match="loaded slices"):
        loading._check(samples, reference)


def test_ratio_is_paired_by_round_at_each_sides_best_batch():
    entry = compare(
        {1: [9.0, 9.0, 9.0], 8: [1.0, 2.0, 4.0]}, {1: [4.0, 6.0, 4.0], 8: [9.0] * 3}
    )
    assert (entry["batch"], entry["batch_reference"]) == (8, 1)
    assert (entry["ours"], entry["reference"]) == (2.0, 4.0)
    assert (entry["ratio"], entry["ratio_min"], entry["ratio_max"]) == (3.0, 1.0, 4.0)


def test_sides_take_turns_after_a_call_that_is_not_timed():
    calls: list[str] = []
    works = {name: (lambda name=name: calls.append(name)) for name in "ab"}
    seconds = in_turns(works, rounds=2)
    assert calls == ["a", "b"] * 3
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2}


def test_what_is_not_a_number_is_not_the_same():
    with pytest.raises(ValueError, match="differs from the reference's by nan"):
        require_same("the loss", float("nan"), allowed=1.0)
    one = {"w": torch.ones(2)}
    assert largest_difference(one, {"w": torch.tensor([1.0, 4.0])}) == 0.75
    assert largest_difference(one, {"v": torch.ones(2)}) == float("inf")


def test_unknown_groups_are_named(caplog):
    with caplog.at_level(logging.ERROR), pytest.raises(SystemExit) as ended:
        program.main(["--only", "train"[::-1]])
    assert ended.value.code == 2
    assert "there are: train_step/default" in caplog.text
