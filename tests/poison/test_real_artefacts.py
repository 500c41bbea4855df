"""Real artefacts: the closest image of the pool, and nobody of another split."""

import numpy as np
import pytest

from stages.common import paths
from stages.common.artefacts import INDEX, read_artefact_index
from stages.common.manifest import SliceRef
from stages.poison import mislabel
from stages.poison.base import slice_rng, split_images
from stages.poison.real_artefacts import fitted_image
from tests.poison.artefact_pool import moved, write_pool

REF = SliceRef("icbm-001_FLAIR", 2)
PARAMS = mislabel.Params(swap="artefact", artefact="real", severity=1.0)


@pytest.fixture
def split(make_cohort):
    """The training split's images beside a pool of these records."""
    manifests = make_cohort(train=3, val=1, test=1)

    def split(*records):
        write_pool(records)
        return split_images(manifests, paths.kspace, paths.artefacts())["train"]

    return split


def drawn(images, seed=1):
    return mislabel.draw(PARAMS, REF, images, slice_rng(seed, REF))["donor"]


def test_the_same_slice_of_the_moved_scan_comes_first(split):
    images = split(
        moved("x", "FLAIR"), moved("icbm-001", "T1w"), moved("icbm-001", "FLAIR")
    )
    assert all(drawn(images, s) == ["icbm-001_FLAIR-moved", 2] for s in range(9))


def test_then_the_same_contrast_then_any(split):
    images = split(moved("x", "T1w"), moved("y", "FLAIR"), moved("icbm-001", "T1w"))
    donors = [drawn(images, seed) for seed in range(20)]
    assert {name for name, _ in donors} == {"y_FLAIR-moved"}
    assert {number for _, number in donors} == {0, 1, 2}
    assert drawn(split(moved("x", "T1w")))[0] == "x_T1w-moved"
    # A moved scan with fewer slices does not show this one.
    assert drawn(split(moved("icbm-001", "FLAIR", slices=2)))[1] < 2


def test_an_image_of_another_size_is_resized(split):
    images = split(moved("x", "FLAIR", matrix=(80, 64)))
    image = fitted_image(["x_FLAIR-moved", 1], images, (40, 32))
    assert image.dtype == np.float32
    assert image.shape == (40, 32)
    # Stripes of two rows become one row wide: the mean stays.
    assert image.mean() == pytest.approx(2.0, rel=0.01)


def test_people_of_another_split_are_left_out(split):
    images = split(moved("ch2-000", "FLAIR"), moved("icbm-v-000", "FLAIR"))
    assert images.artefacts.records == []
    with pytest.raises(ValueError, match=r"no image for the split train: name a sour"):
        drawn(images)


def test_a_damaged_pool_names_its_stage(split):
    split()
    (paths.artefacts() / INDEX).write_text("[{}]")
    with pytest.raises(ValueError, match=r"artefacts.json is damaged .*synthesize_art"):
        read_artefact_index(paths.artefacts())
    (paths.artefacts() / INDEX).unlink()
    with pytest.raises(ValueError, match=r"missing: run `dvc repro synthesize_artefac"):
        read_artefact_index(paths.artefacts())


@pytest.mark.parametrize("strength", [None, 0.5])
def test_strength_is_of_simulated_artefacts_only(strength):
    given = {"swap": "artefact", "severity": 1.0, "strength": strength}
    if strength is None:
        with pytest.raises(ValueError, match="needs 'strength'"):
            mislabel.Params(artefact="any", **given)
    else:
        with pytest.raises(ValueError, match="'strength' means nothing with artefact:"):
            mislabel.Params(artefact="real", **given)
