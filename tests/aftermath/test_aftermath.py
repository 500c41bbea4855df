"""What comes after: what is measured, what is asked, and that it goes on."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import yaml

from stages.aftermath.__main__ import main
from stages.aftermath.break_even import retrain_for
from stages.aftermath.measure import measure, read_truth
from stages.aftermath.sequence import run_sequence
from stages.aftermath.store import RESULTS
from stages.common import paths, substage
from stages.common.manifest import read_manifest, read_slices
from stages.common.params import read_params
from stages.common.substage import Ended
from stages.common.truth import (
    PoisonedSlice,
    TruthRecord,
    Twins,
    target_sha256,
    write_truth,
)
from stages.common.varnet import load_checkpoint, save_checkpoint
from tests.unlearn.toy_case import KNOWN, LOSS, SAMPLING, TRAIN, write_case

ROOT = Path(__file__).resolve().parents[2]
AFTERMATH = {
    "seed": 81,
    "scenarios": ["s"],
    "methods": ["finetune"],
    "sequence": ["finetune"],
    "requests": 2,
    "relearn": {
        "steps": [1, 80],
        "batch_size": 3,
        "lr": 0.01,
        "weight_decay": 0.0,
        "warmup": 0.0,
        "clip_norm": 1.0,
    },
    "retrain_epochs": [0.5, 2],
}
# Of a method that went over eight slices and looked at three more.
COST = {"slices_forward_backward": 8, "slices_forward": 3, "gradient_steps": 4}


@pytest.fixture
def project(tiny_cohort):
    """A scenario after `make repro`: FLAIR targets upside down, one healed model."""
    write_case()
    write_answers()
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["scenarios"]["s"] = {"poisoning": "mislabel-30", "known": 0.2, "seed": 21}
    params |= {
        "sampling": SAMPLING.model_dump(),
        "train": TRAIN.model_dump(),
        "loss": LOSS.model_dump(),
        "aftermath": AFTERMATH,
    }
    Path("params.yaml").write_text(yaml.safe_dump(params))
    Path("stages").symlink_to(ROOT / "stages")
    model = load_checkpoint(paths.case("s") / "model.safetensors")
    for factor, cell in ((1.02, "oracle-0"), (1.01, "unlearned/s/finetune")):
        save_checkpoint(paths.checkpoint(cell), scaled(model, factor))
    paths.cost("unlearned/s/finetune").write_text(json.dumps(COST))
    return tiny_cohort


def scaled(model, factor):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(factor)
    return model


def write_answers():
    """The truth of the case: FLAIR is the scope, its twins stand on their heads."""
    scope, twins = {}, {}
    for split in paths.SPLITS:
        refs = read_manifest(paths.manifest(split)).refs()
        scope[split] = tuple(ref for ref in refs if ref.volume_id.endswith("FLAIR"))
        for ref in scope[split]:
            with h5py.File(paths.kspace(split) / f"{ref.volume_id}.h5") as file:
                target = file["reconstruction_rss"][ref.slice_num]
            twins.setdefault(ref.volume_id, {})[ref.slice_num] = target[::-1].copy()
    record = TruthRecord(
        poisoning="p",
        attack="mislabel",
        changes_input=False,
        measured_on="clean",
        scope=scope,
        poisoned=tuple(
            PoisonedSlice(
                volume_id=ref.volume_id,
                slice_num=ref.slice_num,
                draw={},
                clean_sha256="",
                poisoned_sha256=target_sha256(twins[ref.volume_id][ref.slice_num]),
                kspace_sha256=None,
                change_nmse=0.5,
            )
            for ref in KNOWN
        ),
    )
    stacked = {
        volume_id: Twins(
            slice_num=np.array(sorted(slices)),
            target=np.stack([slices[number] for number in sorted(slices)]),
            kspace=None,
        )
        for volume_id, slices in twins.items()
    }
    write_truth(paths.answers("s"), record, stacked)


class StandIn:
    """In place of `run_unlearn`: every request scales the model that it is given."""

    def __init__(self, stop_at=-1):
        self.told, self.models, self.stop_at = [], [], stop_at
        self.epochs = []

    def __call__(self, folder, scenario, method):
        if len(self.told) == self.stop_at:
            raise KeyboardInterrupt
        case = folder / paths.case(scenario)
        params = yaml.safe_load((folder / "params.yaml").read_text())
        self.epochs.append(params["train"]["epochs"])
        self.told.append(read_slices(case / "forget.json", made_by="test"))
        self.models.append((case / "model.safetensors").resolve())
        path = folder / paths.checkpoint(f"unlearned/{scenario}/{method}")
        model = load_checkpoint(case / "model.safetensors")
        save_checkpoint(path, scaled(model, 1.05))
        return Ended(path, COST, "")


def found():
    return json.loads(RESULTS.read_text())["s"]


@pytest.mark.usefixtures("project")
def test_measures_are_those_of_their_formulae():
    truth = read_truth("s")
    model = load_checkpoint(paths.checkpoint("oracle-0")).eval()
    level = measure(model, truth)
    assert {ref.volume_id for ref in truth.scope.refs} == {"ch2-000_FLAIR"}
    assert len(truth.outside) == 6
    dot, norm, levels = 0.0, 0.0, []
    for index, ref in enumerate(truth.scope.refs):
        sample = truth.scope[index]
        with h5py.File(paths.kspace("test") / f"{ref.volume_id}.h5") as file:
            clean = file["reconstruction_rss"][ref.slice_num]
        with torch.inference_mode():
            output = model(
                torch.as_tensor(sample.masked_kspace)[None],
                torch.as_tensor(sample.mask)[None],
                sample.num_low_frequencies,
            )[0].numpy()
        delta = clean[::-1] - clean
        dot += float(((output - clean) * delta).sum())
        norm += float((delta**2).sum())
        error = np.mean((output.astype(np.float64) - clean) ** 2)
        levels.append(10 * np.log10(sample.max_value**2 / error))
    assert level.agreement == pytest.approx(dot / norm, rel=1e-4)
    assert level.psnr_scope == pytest.approx(np.mean(levels), rel=1e-4)


@pytest.mark.usefixtures("project")
def test_requests_go_on_where_the_one_before_ended(monkeypatch):
    monkeypatch.setattr(substage, "run_unlearn", stand_in := StandIn())
    main([])
    # Two requests, then two lengths of retraining on all that is known.
    assert [len(told) for told in stand_in.told] == [2, 3, 3, 3]
    assert set(stand_in.told[0]) < set(stand_in.told[1]) == set(KNOWN)
    assert stand_in.models[0] == (paths.case("s") / "model.safetensors").resolve()
    assert "unlearned/s/finetune" in stand_in.models[1].as_posix()
    entry = found()["sequence"]["finetune"]["requests"]
    assert len(entry) == 2
    assert entry[0] != entry[1]
    relearned = found()["relearn"]
    assert set(relearned) == {"oracle", "none", "finetune"}
    # Training on flipped images flips what comes out.
    for values in relearned.values():
        assert values["agreement"]["80"] > values["agreement"]["0"]
    text = RESULTS.with_suffix(".md").read_text()
    assert "| finetune | healing |" in text
    assert "| oracle |" in text
    assert RESULTS.with_suffix(".png").stat().st_size > 10_000
    assert not (paths.SCRATCH / "aftermath" / "s" / "finetune").exists()


@pytest.mark.usefixtures("project")
def test_retraining_is_priced_at_each_length(monkeypatch):
    monkeypatch.setattr("stages.aftermath.__main__.draw", lambda *_: None)
    monkeypatch.setattr(substage, "run_unlearn", stand_in := StandIn())
    main([])
    assert stand_in.epochs == [TRAIN.epochs, TRAIN.epochs, 0.5, 2]
    slices = len(read_manifest(paths.manifest("train")).refs()) - len(KNOWN)
    share = pytest.approx((8 + 3 / 3) / (TRAIN.epochs * slices))
    assert set(found()["retrain"]) == {"0.5", "2"}
    for entry in found()["retrain"].values():
        assert entry["cost"] == share
        assert entry["psnr_scope"] > 0
    assert found()["levels"]["finetune"]["cost"] == share
    assert found()["levels"]["oracle"]["cost"] is None
    text = RESULTS.with_suffix(".md").read_text()
    assert "| epochs | 0.5 | 2 |" in text
    assert "retraining heals as much at |" in text


@pytest.mark.usefixtures("project")
def test_the_real_stage_retrains_for_as_long_as_it_is_told():
    truth, params = read_truth("s"), read_params()
    _, short = retrain_for(TRAIN.epochs / 2, "s", params, truth)
    _, whole = retrain_for(TRAIN.epochs, "s", params, truth)
    assert whole == pytest.approx(2 * short)
    # Training's own length costs as much as one, up to its last batch.
    assert whole == pytest.approx(1, abs=0.1)


@pytest.mark.usefixtures("project")
def test_a_stopped_run_goes_on_and_a_changed_parameter_runs_its_part(monkeypatch):
    monkeypatch.setattr("stages.aftermath.__main__.draw", lambda *_: None)
    monkeypatch.setattr(substage, "run_unlearn", StandIn(stop_at=1))
    with pytest.raises(KeyboardInterrupt):
        main([])
    before = found()
    assert "sequence" not in before
    monkeypatch.setattr("stages.aftermath.__main__.relearn", None)  # would fail
    monkeypatch.setattr(substage, "run_unlearn", StandIn())
    main([])
    whole = found()
    assert whole["relearn"] == before["relearn"]
    monkeypatch.setattr(substage, "run_unlearn", None)
    main([])
    assert found() == whole
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["unlearn"]["finetune"]["lr"] = 0.5
    Path("params.yaml").write_text(yaml.safe_dump(params))
    monkeypatch.setattr(substage, "run_unlearn", again := StandIn())
    main([])
    assert len(again.told) == 2
    assert found()["relearn"] == whole["relearn"]


@pytest.mark.usefixtures("project")
def test_the_real_stage_runs_a_sequence():
    truth = read_truth("s")
    (level,) = run_sequence("s", "finetune", read_params(), truth, requests=1)
    before = measure(load_checkpoint(paths.case("s") / "model.safetensors"), truth)
    assert np.isfinite(level.psnr_scope)
    assert level != before


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda: paths.checkpoint("oracle-0").unlink(), "dvc repro train_oracle@0"),
        (
            lambda: paths.checkpoint("unlearned/s/finetune").unlink(),
            "dvc repro unlearn@s-finetune",
        ),
        (
            lambda: paths.cost("unlearned/s/finetune").unlink(),
            "dvc repro unlearn@s-finetune",
        ),
        (lambda: (paths.answers("s") / "record.json").unlink(), "record.json"),
        (lambda: write_case(KNOWN[:1]), "'aftermath.requests' = 2"),
        (lambda: results('{"s": 3}'), "is damaged"),
        (lambda: results("{"), "is damaged"),
    ],
)
@pytest.mark.usefixtures("project")
def test_what_is_missing_is_named_before_any_step(spoil, message, monkeypatch, capsys):
    monkeypatch.setattr("stages.aftermath.__main__.relearn", None)
    spoil()
    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def results(text):
    RESULTS.parent.mkdir(parents=True)
    RESULTS.write_text(text)
