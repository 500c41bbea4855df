"""Simulated tumours: where they lie, what they do to a contrast, what they leave."""

import json

import numpy as np
import pytest
from scipy import ndimage

from stages.common.lesions import (
    LEVELS,
    LesionSettings,
    add_lesion,
    draw_lesion,
    find_brain,
    find_head,
    head_width,
)
from stages.common.params import ParamsError, validate
from stages.common.volume import VolumeError

SIZES = {"radius": (0.07, 0.07), "halo": (2.0, 2.0), "push": (0.4, 0.4)}
SETTINGS = LesionSettings(**SIZES)
GREY = 0.5


def make_head(size: int = 96, *, texture: float = 0.0) -> np.ndarray:
    """A bright rim of scalp, dark skull, grey brain, in air with a little noise."""
    rng = np.random.default_rng(1)
    rows, columns = np.meshgrid(*2 * [np.linspace(-1, 1, size)], indexing="ij")
    radius = np.hypot(rows / 0.85, columns / 0.7)
    image = 0.01 * rng.random((size, size))
    image[radius < 1] = 1.0
    image[radius < 0.93] = 0.05
    brain = radius < 0.86
    image[brain] = GREY + texture * rng.standard_normal(int(brain.sum()))
    return image.astype(np.float32)


def lesion(image: np.ndarray, contrast: str = "T2w", seed: int = 3, severity=1.0):
    rng = np.random.default_rng(seed)
    draw = draw_lesion(rng, image, contrast, SETTINGS, severity=severity)
    assert draw is not None
    return draw


def brain_size(image: np.ndarray) -> int:
    return int(find_brain(image).sum())


def distance_from(draw: dict, shape: tuple[int, int]) -> np.ndarray:
    """From the lesion's centre, in core radii."""
    centres = [(np.arange(n) + 0.5) / n * n for n in shape]
    row, column = (share * n for share, n in zip(draw["centre"], shape, strict=True))
    away = np.hypot(centres[0][:, None] - row, centres[1][None] - column)
    return away / (draw["radius"] * shape[0])


@pytest.mark.parametrize("size", [80, 256])
def test_the_brain_is_the_head_without_scalp_and_skull(size):
    image = make_head(size)
    head, brain = find_head(image), find_brain(image)
    assert head[size // 2, size // 2]
    assert not head[:2].any()
    assert head_width(head) == pytest.approx(0.77 * size, rel=0.05)
    assert 0.4 < brain.sum() / head.sum() < 0.75
    assert np.all(np.abs(image[brain] - GREY) < 1e-6)


@pytest.mark.parametrize("size", [80, 256])
@pytest.mark.parametrize(
    ("contrast", "core", "halo"), [("T1w", -1, -1), ("T2w", 1, 1), ("FLAIR", 0, 1)]
)
def test_core_and_halo_have_the_contrasts_grey(size, contrast, core, halo):
    image = make_head(size)
    draw = lesion(image, contrast)
    change = (add_lesion(image, draw) - image) / GREY
    away = distance_from(draw, image.shape)
    middle = change[away < 0.5].mean()
    ring = change[(away > 1.3) & (away < 1.6)].mean()
    assert abs(change[away > 4]).max() < 0.02
    if core:
        assert core * middle > 0.25
    assert halo * ring > (0.05 if contrast == "T1w" else 0.1)


def test_the_lesion_stays_in_the_brain():
    image = make_head()
    brain = find_brain(image)
    for seed in range(20):
        draw = lesion(image, seed=seed)
        change = np.abs(add_lesion(image, draw) - image)
        assert change[~brain].max() == 0
        inside = distance_from(draw, image.shape) < 0.8
        assert brain[inside].all()


def test_the_mass_pushes_tissue_away():
    """A bright spot beside the core moves outward, by the drawn share of a radius."""
    image = make_head(256)
    draw = lesion(image) | {"centre": [0.5, 0.5], "core_level": 1.0, "halo_level": 1.0}
    radius = draw["radius"] * 256
    for row, column in ((0, 1.2), (-1.2, 0)):
        at = (127.5 + row * radius, 127.5 + column * radius)
        rows, columns = np.indices(image.shape)
        spot = np.exp(-((rows - at[0]) ** 2 + (columns - at[1]) ** 2) / (2 * 2**2))
        with_spot = (image + spot).astype(np.float32)
        seen = add_lesion(with_spot, draw) - add_lesion(image, draw)
        found = np.array(ndimage.center_of_mass(np.clip(seen, 0, None)))
        moved = np.hypot(*(found - 127.5)) - 1.2 * radius
        assert moved == pytest.approx(0.4 * radius, rel=0.25)


def test_severity_zero_is_the_identity_and_half_is_less():
    image = make_head(texture=0.02)
    draws = [lesion(image, severity=severity) for severity in (0.0, 0.5, 1.0)]
    none, half, full = (add_lesion(image, draw) for draw in draws)
    assert none.tobytes() == image.tobytes()
    assert 0 < np.linalg.norm(half - image) < 0.7 * np.linalg.norm(full - image)


def test_pure_float32_and_never_negative():
    image = make_head(texture=0.1)
    before = image.copy()
    draw = lesion(image)
    first = add_lesion(image, draw)
    again = add_lesion(image, json.loads(json.dumps(draw)))
    assert first.tobytes() == again.tobytes()
    assert image.tobytes() == before.tobytes()
    assert first.dtype == np.float32
    # Cubic interpolation of black and white pixels rings.
    image[find_brain(image)] = np.random.default_rng(0).choice(
        [0, 1], brain_size(image)
    )
    black = {"core_level": 0.0, "halo_level": 0.0}
    assert add_lesion(image, draw | black).min() >= 0


def test_a_draw_fits_another_resolution():
    small, large = make_head(80), make_head(240)
    draw = lesion(small)
    coarse = add_lesion(small, draw) - small
    fine = (add_lesion(large, draw) - large).reshape(80, 3, 80, 3).mean((1, 3))
    assert np.corrcoef(coarse.ravel(), fine.ravel())[0, 1] > 0.98


def test_draws_differ_by_seed_only():
    image = make_head()
    assert lesion(image, seed=1) == lesion(image, seed=1)
    assert lesion(image, seed=1)["centre"] != lesion(image, seed=2)["centre"]


def test_no_room_no_lesion():
    bar = np.zeros((64, 64), np.float32)
    bar[:, 30:33] = 1
    assert draw_lesion(np.random.default_rng(0), bar, "T2w", SETTINGS) is None
    draw = lesion(make_head())
    with pytest.raises(VolumeError, match="without a brain"):
        add_lesion(np.zeros((64, 64), np.float32), draw)


def test_an_unknown_contrast_is_named():
    with pytest.raises(VolumeError, match=r"contrast GRE; known: T1w.*FLAIR"):
        draw_lesion(np.random.default_rng(0), make_head(), "GRE", SETTINGS)
    assert {"T1w", "T2w", "FLAIR"} <= set(LEVELS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"radius": [0.09, 0.05]}, r"must be \[low, high\]"),
        ({"radius": [0.0, 0.05]}, "greater than 0"),
        ({"push": [0.2, 0.9]}, "less than or equal to 0.6"),
        ({"halo": [0.5, 2]}, "greater than or equal to 1"),
        ({"size": 3}, "not a parameter"),
    ],
)
def test_settings_out_of_range_are_refused(change, message):
    with pytest.raises(ParamsError, match=message):
        validate(SIZES | change, "classify.lesions", LesionSettings)
