"""Two ranks do what one process does, write as one, and none waits for the dead."""

import json
from pathlib import Path

import pytest
import torch

from stages.common import devices
from stages.common.fit import Cost
from tests.common.fit_toy import train_slowly
from tests.common.ranks import of_srun, of_torchrun, torchrun, unwatched


def test_a_process_of_its_own_needs_none_of_it(monkeypatch):
    monkeypatch.setattr(devices, "fabric", None)
    assert (devices.rank(), devices.world_size()) == (0, 1)
    assert devices.shard(range(3)) == [0, 1, 2] == devices.gathered(range(3))
    tensor, model = torch.ones(2), torch.nn.Linear(1, 1)
    assert devices.sum_over_ranks(tensor) is tensor
    assert devices.data_parallel(model) is model
    assert devices.on_rank_zero(lambda: "written") == "written"


@pytest.mark.slow
@pytest.mark.parametrize("marks", [of_torchrun, of_srun])
def test_what_ranks_put_together(tmp_path, marks):
    ended = unwatched("collectives", str(tmp_path), marks=marks)
    assert [code for code, _ in ended] == [0, 0], ended
    seen = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert [one.pop("shard") for one in seen] == [[0, 2, 4], [1, 3]]
    assert seen[0] == seen[1] == {
        "gathered": [f"slice {number}" for number in range(5)],
        "sum": [2.0, 1.0],
        "rank zero": 0,
    }  # fmt: skip


@pytest.mark.usefixtures("tiny_cohort")
def test_training_on_two_ranks_is_training_on_one(tmp_path):
    """Batches are uneven, and the last one leaves a rank without a slice."""
    cost = Cost()
    model, curve = train_slowly(cost=cost)
    torchrun("fit", str(tmp_path))
    seen = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for name, value in model.state_dict().items():
        assert torch.equal(seen[0]["model"][name], seen[1]["model"][name])
        torch.testing.assert_close(seen[0]["model"][name], value, rtol=1e-5, atol=1e-6)
        assert torch.equal(seen[0]["resumed"][name], seen[0]["model"][name])
    assert len(curve) == 2
    for ours, theirs in zip(curve, seen[0]["curve"], strict=True):
        assert theirs == pytest.approx(ours, rel=1e-5)
    assert seen[1]["curve"] == seen[0]["curve"] == seen[0]["curve again"]
    assert seen[0]["cost"] == seen[1]["cost"] == vars(cost)
    assert list((tmp_path / "scratch").iterdir()) == [tmp_path / "scratch/fit.pt"]


@pytest.mark.usefixtures("tiny_cohort")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("failing", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_no_rank_waits_for_one_that_failed(failing):
    ended = unwatched("fail", str(failing), "")
    assert [code for code, _ in ended] == [2, 2]
    assert "a bad sample" in ended[failing][1]
    assert "another rank has ended" in ended[1 - failing][1]
    assert "Traceback" not in ended[0][1] + ended[1][1]


@pytest.mark.usefixtures("tiny_cohort")
@pytest.mark.timeout(300)
def test_no_rank_waits_when_rank_zero_cannot_write():
    Path("file").touch()
    ended = unwatched("fail", "9", "file/below/fit.pt")
    assert [code for code, _ in ended] == [2, 2]
    assert "Not a directory" in ended[0][1]
    assert "rank 0 has failed" in ended[1][1]
