"""Whatever the number of ranks, the batches are those of one process."""

from collections import Counter
from functools import partial

import pytest

from stages.common import order
from stages.common.launch import Launch
from stages.common.order import BatchOrder, Part

SHAPES = [(4, 40, 32)] * 9 + [(4, 40, 28)] * 2


def parts(monkeypatch, ranks: int, **options) -> list[list[Part]]:
    """What each of several ranks has of an epoch."""
    found = []
    for rank in range(ranks):
        monkeypatch.setattr(order, "launch", partial(Launch, rank, ranks))
        batches = BatchOrder(SHAPES, 4, **options)
        batches.epoch = 3
        found.append(list(batches))
        assert len(found[-1]) == len(batches)
    return found


def test_one_process_has_whole_batches_of_one_shape(monkeypatch):
    (alone,) = parts(monkeypatch, 1)
    assert [part.indices for part in alone] == [
        [0, 1, 2, 3], [4, 5, 6, 7], [8], [9, 10],
    ]  # fmt: skip
    assert all(part == Part(part.indices, len(part.indices), 1.0) for part in alone)


@pytest.mark.parametrize("ranks", [2, 3, 5])
@pytest.mark.parametrize("shuffle_seed", [None, 1])
def test_parts_make_up_the_batches_of_one_process(monkeypatch, ranks, shuffle_seed):
    (alone,) = parts(monkeypatch, 1, shuffle_seed=shuffle_seed)
    dealt = parts(monkeypatch, ranks, shuffle_seed=shuffle_seed)
    for whole, *shares in zip(alone, *dealt, strict=True):
        assert {part.total for part in shares} == {len(whole.indices)}
        # A value that is its slice's number, averaged as `ReconBatch.mean` and DDP do.
        means = [sum(p.indices) / len(p.indices) * p.share for p in shares]
        expected = sum(whole.indices) / len(whole.indices)
        assert sum(means) / ranks == pytest.approx(expected)
        held = Counter(i for part in shares if part.share for i in part.indices)
        assert held == Counter(whole.indices)
        for part in shares:
            assert part.indices
            assert set(part.indices) <= set(whole.indices)


@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_whole_batches_are_dealt_out_once(monkeypatch, ranks):
    (alone,) = parts(monkeypatch, 1, whole=True)
    dealt = parts(monkeypatch, ranks, whole=True)
    for rank, mine in enumerate(dealt):
        assert mine == alone[rank::ranks]
