"""Figures that need no model: lengths, requests and steps."""

from stages.aftermath.break_even import break_even
from stages.aftermath.relearn import steps_back
from stages.aftermath.sequence import parts
from stages.common.manifest import SliceRef


def test_retraining_breaks_even_at_the_lowest_cost_that_heals_as_much():
    retrained = {0.25: -1.0, 0.5: 0.3, 1.0: 0.2}
    assert break_even(0.1, retrained) == 0.5
    assert break_even(0.3, retrained) == 0.5
    assert break_even(0.31, retrained) is None
    assert break_even(-0.1, retrained) == 0


def test_parts_grow_to_the_whole():
    known = [SliceRef("a", number) for number in range(7)]
    told = parts(known, 3, "s")
    assert [len(part) for part in told] == [3, 5, 7]
    assert set(told[0]) < set(told[1]) < set(told[2]) == set(known)


def test_steps_back_are_the_fewest():
    agreement = {"0": 0.1, "2": 0.4, "8": 0.95, "16": 0.9}
    assert steps_back(agreement, 1.0) == 8
    assert steps_back(agreement, 0.3) == 2
    assert steps_back(agreement, 2.0) is None
