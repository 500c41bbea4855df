"""Figures of a classifier, against counts made by hand."""

import numpy as np
import pytest

from stages.classify.measures import (
    Judged,
    auroc,
    balanced_accuracy,
    confusion,
    measure,
)
from stages.classify.settings import Resampling

BOOTSTRAP = Resampling(resamples=500, seed=1)


def judged(*rows: tuple[bool, float], subject: str = "a") -> list[Judged]:
    return [Judged(subject, "T2w", lesion, logit) for lesion, logit in rows]


UNEVEN = judged((True, 2.0), (True, -1.0), (False, -2.0), (False, 1.0), (False, -3.0),
                (False, -0.5), (True, 0.5), (False, -4.0))  # fmt: skip


def test_confusion_and_accuracies_by_hand():
    assert confusion(UNEVEN) == [[4, 1], [1, 2]]
    assert balanced_accuracy(UNEVEN) == pytest.approx((4 / 5 + 2 / 3) / 2)
    figures = measure(UNEVEN, BOOTSTRAP)
    assert figures["accuracy"] == pytest.approx(6 / 8)
    assert figures["balanced_accuracy"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert figures["confusion"] == {"T2w": [[4, 1], [1, 2]]}


def test_auroc_counts_pairs_and_ties_half():
    positive = [row.logit for row in UNEVEN if row.lesion]
    negative = [row.logit for row in UNEVEN if not row.lesion]
    pairs = [(p > n) for p in positive for n in negative]
    assert auroc(UNEVEN) == pytest.approx(np.mean(pairs))
    assert auroc(judged((True, 0.0), (False, 0.0), (False, -1.0))) == 0.75


def test_intervals_are_over_subjects():
    """Subjects all alike leave no width, however many images they have."""
    alike = [row for name in "abcdef" for row in judged(
        (True, 1.0), (True, -1.0), (False, -1.0), subject=name)]  # fmt: skip
    figures = measure(alike, BOOTSTRAP)
    assert figures["accuracy_low"] == figures["accuracy_high"] == pytest.approx(2 / 3)
    mixed = alike + judged((True, -1.0), (False, 1.0), subject="g")
    wider = measure(mixed, BOOTSTRAP)
    assert wider["accuracy_low"] < wider["accuracy"] < wider["accuracy_high"]
    assert measure(mixed, BOOTSTRAP) == wider
    # 100 subjects, right or wrong as a whole: 0.5 +- 1.96 * 0.05.
    halves = [row for number in range(100) for row in judged(
        (True, number % 2 - 0.5), (False, 0.5 - number % 2), subject=str(number))
    ]  # fmt: skip
    figures = measure(halves, BOOTSTRAP)
    assert figures["accuracy_low"] == pytest.approx(0.4, abs=0.03)
    assert figures["accuracy_high"] == pytest.approx(0.6, abs=0.03)


def test_few_subjects_have_no_interval():
    figures = measure(UNEVEN, BOOTSTRAP)
    assert figures["accuracy_low"] is figures["balanced_accuracy_high"] is None
    assert figures["usable"] is True


@pytest.mark.parametrize("subjects", ["a", "abcdef"])
def test_chance_and_below_are_not_usable(subjects):
    for logit in (1.0, -1.0):  # always the same answer
        rows = [row for name in subjects for row in judged(
            (True, logit), (False, logit), subject=name)]  # fmt: skip
        assert measure(rows, BOOTSTRAP)["usable"] is False
    wrong = [row for name in subjects for row in judged(
        (True, -1.0), (False, 1.0), subject=name)]  # fmt: skip
    assert measure(wrong, BOOTSTRAP)["usable"] is False


def test_a_missing_class_is_named():
    for rows, reason in (
        ([(True, 1.0)], "no image without a lesion among the 1 of the test split"),
        ([(False, 1.0), (False, -1.0)], "no image with a lesion among the 2"),
    ):
        figures = measure(judged(*rows), BOOTSTRAP)
        assert figures["usable"] is False
        assert reason in figures["reason"]
