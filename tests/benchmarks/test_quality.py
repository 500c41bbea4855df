"""Both trainings of a pair are the same training, and a killed one goes on."""

import json
import logging
from pathlib import Path

import pytest

from stages.common import paths
from stages.common.fit import FitError
from stages.common.training import TrainSettings
from tests.benchmarks import pairs, plain_training, quality
from tests.benchmarks.results import read_results
from tests.common.fit_toy import LOSS, MODEL, OPTIM, SAMPLING

TRAIN = TrainSettings(
    **OPTIM.model_dump(), seed=3, epochs=2, batch_size=4, validate_every=1
)
BLOCKS = {"model": MODEL, "sampling": SAMPLING, "loss": LOSS, "train": TRAIN}


@pytest.fixture
def cohort(make_cohort) -> None:
    make_cohort(train=2, val=1)


@pytest.mark.usefixtures("cohort")
def test_sides_differ_by_rounding_alone():
    """In float32 rounding decides on which side of 0 a ReLU is, so it may show."""
    rows = {side: pairs.train_side(side, 1, BLOCKS) for side in pairs.SIDES}
    for side in (pairs.FAST, pairs.FAST_FP32):
        for name, value in rows[pairs.REFERENCE].items():
            assert rows[side][name] == pytest.approx(value, rel=5e-3), (side, name)
    # In float64 rounding is nothing, so that any other difference would be seen.
    for name, value in rows[pairs.REFERENCE_FP64].items():
        assert rows[pairs.FAST_FP64][name] == pytest.approx(value, rel=1e-11), name
    # Another order or other weights are far beyond rounding.
    other = pairs.train_side(pairs.REFERENCE, 2, BLOCKS)
    found, expected = other["val_psnr"], rows[pairs.REFERENCE]["val_psnr"]
    assert found != pytest.approx(expected, rel=0.05)


@pytest.mark.usefixtures("cohort")
def test_a_killed_reference_goes_on(monkeypatch):
    expected = pairs.train_side(pairs.REFERENCE, 0, BLOCKS)
    make, calls = pairs.reference_loss, []

    def dies(**kwargs):
        loss = make(**kwargs)

        def batch_loss(model, batch):
            calls.append(len(batch.refs))
            if len(calls) == 8:
                raise FitError("killed in the second epoch")
            return loss(model, batch)

        return batch_loss

    monkeypatch.setattr(pairs, "reference_loss", dies)
    with pytest.raises(FitError):
        pairs.train_side(pairs.REFERENCE, 0, BLOCKS)
    assert pairs.train_side(pairs.REFERENCE, 0, BLOCKS) == expected
    # 5 steps in each epoch; the second one is repeated from its beginning.
    assert len(calls) == 8 + 5
    assert not list(paths.SCRATCH.rglob("fit.pt"))


def test_rate_of_the_reference_is_that_of_fit():
    found = [plain_training._factor(step, 10, 0.2) for step in range(10)]
    assert found[:2] == [0.5, 1.0]
    assert found[2] == 1.0
    assert found[6] == pytest.approx(0.5)
    assert 0 < found[9] < 0.05


def test_seeds_are_paired():
    runs = {
        "0": {"fast": {"psnr": 30.1}, "reference": {"psnr": 30.0}},
        "1": {"fast": {"psnr": 30.2}, "reference": {"psnr": 30.4}},
        "2": {"fast": {"psnr": 30.4}, "reference": {"psnr": 30.0}},
        "3": {"fast": {"psnr": 99.0}},
    }
    entry = quality.summarise(runs)
    pair = entry["differences"]["fast - reference"]
    assert pair["seeds"] == ["0", "1", "2"]
    assert pair["each"] == [0.1, -0.2, 0.4]
    assert pair["mean"] == 0.1
    # Student's t of two degrees of freedom: 4.3027 * 0.3 / sqrt(3).
    assert pair["low"] == pytest.approx(0.1 - 0.7452, abs=1e-3)
    assert pair["high"] == pytest.approx(0.1 + 0.7452, abs=1e-3)
    assert (entry["ours"], entry["reference"]) == (30.2333, 30.1333)
    assert "fast_fp32 - reference" not in entry["differences"]


@pytest.fixture
def trained(tmp_path, monkeypatch) -> list[tuple[str, int]]:
    """Trainings that the program has asked for; none takes any time."""
    monkeypatch.chdir(tmp_path)
    asked: list[tuple[str, int]] = []

    def train_side(side, seed, blocks):
        assert blocks == quality.read_blocks("default")
        asked.append((side, seed))
        return {"val_psnr": 30.0 + seed, "val_ssim": 0.8, "val_loss": 0.3}

    monkeypatch.setattr(quality, "train_side", train_side)
    return asked


def blocks_of(**changes):
    return BLOCKS | {"model": MODEL.model_copy(update=changes)}


def test_what_is_there_is_not_repeated(trained, monkeypatch, caplog):
    monkeypatch.setattr(quality, "read_blocks", lambda _: blocks_of(precision="bf16"))
    quality.main(["--seed", "1", "--side", "fast"])
    with caplog.at_level(logging.INFO):
        quality.main([])
    assert "fast 1: there" in caplog.text
    sides = (pairs.FAST, pairs.REFERENCE, pairs.FAST_FP32)
    assert sorted(trained) == sorted({(s, n) for n in quality.SEEDS for s in sides})
    entry = read_results(Path("metrics"))["quality"]
    assert entry["differences"]["fast - reference"]["mean"] == 0
    assert entry["runs"]["1"]["fast"]["psnr"] == 31.0
    page = Path("metrics/benchmarks.md").read_text()
    assert "| 1 | 31.000 | 31.000 | 31.000 |" in page
    assert "mean +0.000 dB over 8 seeds, 95 % interval +0.000 to +0.000" in page
    quality.main(["--seed", "1", "--side", "fast", "--again"])
    assert trained[-1] == ("fast", 1)
    assert json.loads(Path("metrics/benchmarks.json").read_text())["_run"]["quality"]


def test_trainings_of_other_settings_are_not_paired(trained, monkeypatch):
    monkeypatch.setattr(quality, "read_blocks", lambda _: blocks_of())
    quality.main(["--seed", "0"])
    # In float32 a third side would be the first one again.
    assert trained == [("fast", 0), ("reference", 0)]
    monkeypatch.setattr(quality, "read_blocks", lambda _: blocks_of(num_cascades=2))
    quality.main(["--seed", "0", "--side", "fast"])
    assert trained[2:] == [("fast", 0)]
    entry = read_results(Path("metrics"))["quality"]
    assert entry["runs"].keys() == {"0"}
    assert entry["runs"]["0"].keys() == {"fast"}
    assert entry["settings"]["model"]["num_cascades"] == 2
    assert "num_cascades 2" in Path("metrics/benchmarks.md").read_text()


@pytest.mark.usefixtures("cohort")
def test_another_cohort_is_refused():
    with pytest.raises(
        ValueError, match=r"2 subjects, matrices \[\(40, 32\)\]; the pr"
    ):
        quality.read_blocks("default")
