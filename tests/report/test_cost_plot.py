"""Healing against cost: names that can be read, beside the points they belong to."""

from itertools import combinations

import numpy as np
import pytest

from stages.report import maps_views, style
from stages.report.settings import Map

# Two pairs that lie closer than a name is wide, and one that nothing is close to.
PLACES = {
    "gradient_ascent": (0.080, 0.5),
    "task_negation": (0.085, 0.5),
    "npo": (0.030, 1.0),
    "bad_teacher": (0.045, 1.0),
    "ssd": (0.5, -1.0),
}


@pytest.fixture
def axis(monkeypatch, tmp_path):
    """The panel of a scenario in which all models break much, so that all are named."""
    figures = []
    monkeypatch.setattr(style, "save", lambda figure, _: figures.append(figure))
    content = {
        "mislabel-30": {
            model: {
                "cost_share": cost,
                "healing_scope_test": healed,
                "damage_vs_continue_db": -1.0,
            }
            for model, (cost, healed) in PLACES.items()
        }
    }
    row = Map(scenarios=("mislabel-30",), methods=tuple(PLACES))
    maps_views.draw_costs(tmp_path / "cost.png", row, content)
    return figures[0].axes[0]


def boxes(axis):
    return {text.get_text(): text.get_window_extent() for text in axis.texts}


def test_no_name_covers_another_or_a_point(axis):
    named = boxes(axis)
    assert set(named) == set(PLACES)
    for first, second in combinations(named, 2):
        assert not named[first].overlaps(named[second]), (first, second)
    for name, box in named.items():
        for model, place in PLACES.items():
            point = axis.transData.transform(place)
            assert not box.contains(*point), (name, model)


def test_of_two_neighbours_the_left_one_has_its_name_on_the_left(axis):
    named = boxes(axis)
    for left, right in (("gradient_ascent", "task_negation"), ("npo", "bad_teacher")):
        assert named[left].x1 < named[right].x0
    ends = [axis.transAxes.transform(corner) for corner in ((0, 0), (1, 1))]
    inside = np.array([[box.x0, box.y0, box.x1, box.y1] for box in named.values()])
    assert (inside[:, :2] >= ends[0] - 1).all()
    assert (inside[:, 2:] <= ends[1] + 1).all()
