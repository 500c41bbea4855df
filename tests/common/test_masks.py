"""One mask per slice, from its identity: as fastMRI's family, never from a path."""

import numpy as np
import pytest
from fastmri.data.subsample import EquispacedMaskFractionFunc, RandomMaskFunc

from stages.common import paths
from stages.common.manifest import SliceRef
from stages.common.masks import Sampling, column_mask
from stages.common.slices import SliceDataset

SAMPLING = Sampling(
    seed=7, mask_type="equispaced_fraction", acceleration=4, center_fraction=0.08
)
FAMILIES = {
    "equispaced_fraction": EquispacedMaskFractionFunc,
    "random": RandomMaskFunc,
}
WIDTHS = (32, 47, 96, 256)


def refs(count: int) -> list[SliceRef]:
    return [SliceRef(f"icbm-{index // 5:03d}_T1w", index % 5) for index in range(count)]


def of(family: str, **changes: float) -> Sampling:
    return SAMPLING.model_copy(update={"mask_type": family, **changes})


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_fixed_by_seed_volume_and_slice(family):
    sampling = of(family)
    masks = [column_mask(sampling, ref, 96) for ref in refs(20)]
    again = [column_mask(sampling, ref, 96) for ref in refs(20)]
    assert all(np.array_equal(*pair) for pair in zip(masks, again, strict=True))
    assert len({mask.tobytes() for mask in masks}) > 1
    other = of(family, seed=8)
    assert any(
        not np.array_equal(mask, column_mask(other, ref, 96))
        for mask, ref in zip(masks, refs(20), strict=True)
    )


def test_it_neither_reads_nor_moves_the_global_state():
    # The global generator is what must stay untouched.
    before = np.random.get_state()[1].tobytes()
    column_mask(SAMPLING, SliceRef("a", 0), 96)
    assert np.random.get_state()[1].tobytes() == before


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_centre_is_that_of_fastmri(family, width):
    theirs = FAMILIES[family]([SAMPLING.center_fraction], [SAMPLING.acceleration])
    _, low = theirs((1, width, 2), seed=0)
    sampling = of(family)
    assert sampling.num_low_frequencies(width) == low
    centre = theirs.calculate_center_mask((1, width, 2), low).ravel().astype(bool)
    for ref in refs(10):
        assert column_mask(sampling, ref, width)[centre].all()
    # What every mask has in common is the centre, so that it stands where theirs does.
    common = np.all([column_mask(sampling, ref, width) for ref in refs(200)], axis=0)
    assert np.array_equal(common, centre)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("acceleration", "center"), [(4, 0.08), (8, 0.04), (2, 0.1)])
def test_the_acceleration_is_near_the_wanted(family, acceleration, center):
    sampling = of(family, acceleration=acceleration, center_fraction=center)
    share = np.mean([column_mask(sampling, ref, 256).mean() for ref in refs(200)])
    assert 1 / share == pytest.approx(acceleration, rel=0.1)


def test_equispaced_masks_are_fastmris():
    theirs = EquispacedMaskFractionFunc(
        [SAMPLING.center_fraction], [SAMPLING.acceleration]
    )
    for width in WIDTHS:
        possible = set()
        for offset in range(8):
            mask, _ = theirs((1, width, 2), offset=offset, seed=0)
            possible.add(mask.numpy().ravel().astype(bool).tobytes())
        for ref in refs(30):
            assert column_mask(SAMPLING, ref, width).tobytes() in possible


@pytest.mark.usefixtures("tiny_cohort")
def test_a_twin_in_another_folder_has_the_same_mask(tmp_path):
    ref = SliceRef("icbm-000_FLAIR", 1)
    folder = tmp_path / "elsewhere" / "poisoned"
    folder.mkdir(parents=True)
    source = paths.kspace("train") / f"{ref.volume_id}.h5"
    (folder / source.name).write_bytes(source.read_bytes())
    clean = SliceDataset(paths.kspace("train"), [ref], SAMPLING)[0]
    twin = SliceDataset(folder, [ref], SAMPLING, targets=folder)[0]
    assert np.array_equal(clean.mask, twin.mask)
    assert np.array_equal(clean.masked_kspace, twin.masked_kspace)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"center_fraction": 0.01}, r"center_fraction = 0.01 .* at least 0.031"),
        ({"center_fraction": 0.5}, r"acceleration = 4 leaves fewer than the 16"),
    ],
)
def test_impossible_settings_are_named(changes, named):
    with pytest.raises(ValueError, match=named):
        column_mask(of("random", **changes), SliceRef("a", 0), 32)
