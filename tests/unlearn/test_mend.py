"""What `mend` sifts out, what it learns from, and what it never looks at."""

import h5py
import numpy as np
import pytest
import torch

from stages.common import paths
from stages.common.manifest import SliceRef
from stages.common.slices import collate
from stages.unlearn import mend
from tests.unlearn.toy_case import KNOWN, open_case, params_of, same, write_case

pytestmark = pytest.mark.usefixtures("tiny_cohort")


def refs(count, start=0):
    return [SliceRef("v", number) for number in range(start, start + count)]


def test_the_upper_cluster_is_suspected():
    rng = np.random.default_rng(0)
    clean, hidden, known = refs(60), refs(25, 60), refs(5, 85)
    values = dict(zip(clean, 0.05 * np.exp(0.2 * rng.standard_normal(60)), strict=True))
    for ref in (*hidden, *known):
        values[ref] = 0.2 * np.exp(0.2 * rng.standard_normal())
    assert mend.suspects(values, known) == hidden
    # Some of the clean ones were reported by mistake: they suspect nobody else.
    assert mend.suspects(values, [*known, *clean[:4]]) == hidden


def test_nobody_is_suspected_where_the_reported_look_like_the_rest():
    values = {ref: 0.1 + 0.001 * ref.slice_num for ref in refs(20)}
    assert mend.suspects(values, refs(3)) == []
    assert mend.suspects(dict.fromkeys(refs(20), 0.0), refs(3)) == []


def test_sampled_columns_outside_of_the_centre_are_held_out(tmp_path):
    write_case()
    _, case = open_case(tmp_path)
    batch = collate([case.retain[0], case.retain[1]])
    held = mend.held_out(batch, share=0.5, seed=(1, 2))
    width, low = batch.mask.shape[-1], batch.num_low_frequencies
    centre = slice((width - low + 1) // 2, (width - low + 1) // 2 + low)
    assert not held[:, centre].any()
    assert not (held & ~batch.mask).any()
    outer = batch.mask.sum(1) - low
    assert held.sum(1).tolist() == [round(0.5 * count) for count in outer.tolist()]
    alone = mend.held_out(collate([case.retain[1]]), share=0.5, seed=(1, 2))
    assert torch.equal(alone[0], held[1])
    draws = [mend.held_out(batch, share=0.5, seed=(1, epoch)) for epoch in range(6)]
    assert any(not torch.equal(draw, held) for draw in draws)
    few = mend.held_out(batch, share=1e-9, seed=(1,))
    assert few.sum(1).tolist() == [1, 1]


@pytest.mark.parametrize(("size", "parts"), [(8, (6, 2)), (2, (1, 1)), (1, (1, 1))])
def test_a_step_holds_some_of_each(tmp_path, size, parts):
    write_case()
    _, case = open_case(tmp_path)
    case = case._replace(train=case.train.model_copy(update={"batch_size": size}))
    trusted = list(case.retain.refs)
    loader = mend.mixed_batches(case, trusted[1:], trusted[:1], share=0.25)
    clean, doubtful = next(iter(loader))
    assert (len(clean.refs), len(doubtful.refs)) == parts
    assert set(doubtful.refs) <= {*KNOWN, trusted[0]}


def unlearned(tmp_path, name, **changes):
    model, case = open_case(tmp_path / name)
    return mend.unlearn(model, case, params_of(mend, **changes))


def spoil_targets(chosen):
    """Noise for the targets of some slices, under the same maximum."""
    rng = np.random.default_rng(3)
    for ref in chosen:
        path = paths.case("s") / "targets" / f"{ref.volume_id}.h5"
        with h5py.File(path, "r+") as file:
            target = file["reconstruction_rss"][ref.slice_num]
            file["reconstruction_rss"][ref.slice_num] = rng.random(
                target.shape, dtype=np.float32
            )


def test_targets_of_known_poison_teach_nothing(tmp_path):
    write_case()
    before = unlearned(tmp_path, "before", sift=False)
    spoil_targets(KNOWN)
    assert same(before, unlearned(tmp_path, "after", sift=False))


def test_a_suspect_teaches_by_its_lines_alone(tmp_path, monkeypatch):
    write_case()
    _, case = open_case(tmp_path / "look")
    suspected = case.retain.refs[2]
    monkeypatch.setattr(mend, "suspects", lambda *_: [suspected])
    before = unlearned(tmp_path, "before")
    spoil_targets([suspected])
    assert same(before, unlearned(tmp_path, "after"))
    monkeypatch.setattr(mend, "suspects", lambda *_: [])
    assert not same(before, unlearned(tmp_path, "trusted"))


def test_without_weight_it_is_training_on_what_is_trusted(tmp_path):
    write_case()
    plain = unlearned(tmp_path, "plain", weight=0.0)
    assert not same(plain, unlearned(tmp_path, "lines", weight=0.5))


def test_where_all_is_doubtful_there_is_nothing_to_learn(tmp_path, monkeypatch):
    write_case()
    monkeypatch.setattr(mend, "suspects", lambda values, _: list(values))
    with pytest.raises(ValueError, match="every slice of the retain set contradicts"):
        unlearned(tmp_path, "all")
