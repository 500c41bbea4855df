"""Choices, regret and the log, on trials whose numbers are made up."""

from pathlib import Path

import pytest

from stages.tune.log import COSTS, Trial, chosen, read_log, write_log
from stages.tune.objectives import OBJECTIVES
from stages.tune.summary import mean_regret, summarise, table

TRUTH = {"none": (20.0, 30.0), "0": (22.0, 30.0), "1": (25.0, 29.0), "3": (24.0, 29.9)}


def trial(number: int, value: float | None) -> Trial:
    objectives = {} if value is None else dict.fromkeys(OBJECTIVES, value)
    cost = {} if value is None else dict.fromkeys(COSTS, number)
    error = "loss is nan" if value is None else ""
    return Trial("abc", number, {"a": 0.1 * number}, objectives, cost, error)


TRIALS = [trial(0, 1.0), trial(1, 1.5), trial(2, None), trial(3, 2.0)]


def test_regret_is_what_the_choice_lacks_of_the_best():
    entry = summarise(TRIALS, TRUTH)
    assert entry["best"]["trial"] == 1
    assert entry["own"]["regret_db"] == 3
    assert entry["blind_regret_db"] == pytest.approx((3 + 0 + 1) / 3, abs=1e-3)
    assert entry["failed"] == 1
    for name in OBJECTIVES:
        found = entry["objectives"][name]
        assert (found["trial"], found["regret_db"], found["value"]) == (3, 1, 2.0)
    assert mean_regret({"a": entry, "b": entry})["lines_holdout"] == 1
    row = next(x for x in table({"s": {"ssd": entry}}).splitlines() if "`ssd`" in x)
    assert row == (
        "| `ssd` | 4 (1 failed) | 20.00 | 25.00 | 1.00 | 1.00 | 1.00 | 3.00 | 1.33 "
        "| 0.10 |"
    )


def test_of_equal_trials_the_earlier_is_chosen():
    equal = [trial(1, 1.0), trial(0, 1.0)]
    assert {t.number for t in chosen(equal).values()} == {0}
    assert chosen([trial(2, None)]) == {}


def test_a_log_comes_back(tmp_path: Path):
    path = tmp_path / "ssd.csv"
    write_log(path, TRIALS)
    assert read_log(path) == TRIALS
    path.write_text(path.read_text().replace("done", "dome"))
    assert not any(t.objectives for t in read_log(path))
    path.write_text("study,trial\na,b\n")
    with pytest.raises(ValueError, match=r"ssd.csv is damaged .*run `make tune`"):
        read_log(path)
    with pytest.raises(ValueError, match=r"other.csv is missing: run `make tune`"):
        read_log(tmp_path / "other.csv")
