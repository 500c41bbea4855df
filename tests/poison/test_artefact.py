"""Artefacts of a slice's own acquisition: each kind does what its name says."""

import numpy as np
import pytest
import torch

from stages.common import paths
from stages.common.manifest import SliceRef
from stages.common.metrics import ssim
from stages.common.params import ParamsError, validate
from stages.poison import artefact
from stages.poison.base import Artefacts, Images, slice_rng
from stages.poison.scanner_artefacts import (
    KINDS,
    MAX_COEFFICIENT,
    add_artefact,
    draw_artefact,
)
from tests.poison.artefact_pool import moved, write_pool

REF = SliceRef("icbm-001_FLAIR", 1)
# What stages/poison/README.md recommends for the potency study.
RECOMMENDED = {"ghosting": 1.0, "motion": 0.5, "spike": 0.5, "bias": 0.75}


def disc(shape, centre, radius):
    rows, columns = np.indices(shape)
    inside = np.hypot(rows - centre[0], columns - centre[1]) < radius
    return inside.astype(np.float32)


def spectrum(image):
    return np.fft.fftshift(np.fft.fft2(image))


def images_of(manifest, *records):
    pool = Artefacts(paths.artefacts(), write_pool(records))
    return Images(paths.kspace("train"), manifest, pool)


def draw_of(images, ref=REF, seed=5, **settings):
    params = artefact.Params(**{"severity": 1.0, "source": "simulated", **settings})
    return artefact.draw(params, ref, images, slice_rng(seed, ref))


@pytest.mark.parametrize("ghosts", [2, 3, 4, 5])
@pytest.mark.parametrize("lost", [0.5, 1.0])
def test_ghosts_lie_at_shares_of_the_field_of_view_along_the_columns(ghosts, lost):
    image = disc((40, 120), (20, 10), 5)
    ghosted = add_artefact(image, {"kind": "ghosting", "ghosts": ghosts}, lost)
    copies = [np.roll(image, n * 120 // ghosts, axis=1) for n in range(ghosts)]
    # The central line, each row's mean, is not lost.
    mean = image.mean(axis=1, keepdims=True)
    expected = np.abs(image - lost * (np.mean(copies, axis=0) - mean))
    np.testing.assert_allclose(ghosted, expected, atol=1e-5)
    assert ghosted[20, 10 + 120 // ghosts] > 0.04


def test_motion_leaves_the_centre_of_kspace_and_spoils_the_outer_columns():
    # On a bright ground no value falls below zero, where a magnitude folds it back.
    image = 2 + disc((60, 80), (26, 34), 15) + disc((60, 80), (36, 46), 9)
    draw = draw_artefact("motion", np.random.default_rng(3))
    change = np.abs(spectrum(add_artefact(image, draw, 1.0)) - spectrum(image))
    changed = change.sum(axis=0) / np.abs(spectrum(image)).sum(axis=0)
    assert changed[35:46].max() < 1e-5
    assert changed[:5].mean() > 0.05
    assert changed[-5:].mean() > 0.05


def test_motion_turns_about_the_middle_and_shifts():
    rows, columns = np.indices((61, 61)) - 30
    image = np.exp(-(rows**2 + columns**2) / 4).astype(np.float32)
    draw = draw_artefact("motion", np.random.default_rng(1))
    turns = {**draw, "poses": [[turn, 0, 0] for turn, *_ in draw["poses"]]}
    shifts = {**draw, "poses": [[0, row, column] for _, row, column in draw["poses"]]}
    for poses, least, most in ((turns, 0.0, 0.02), (shifts, 0.2, 1.0)):
        change = np.linalg.norm(add_artefact(image, poses, 1.0) - image)
        assert least <= change / np.linalg.norm(image) < most


@pytest.mark.parametrize("seed", range(4))
def test_a_spike_is_one_spatial_frequency(seed):
    image = 1 + disc((40, 56), (20, 28), 12)
    draw = draw_artefact("spike", np.random.default_rng(seed))
    change = add_artefact(image, draw, 0.3).astype(np.float64) - image
    # A cosine with three tenths of the mean signal for its amplitude.
    assert change.max() == pytest.approx(0.3 * image.mean(), rel=0.05)
    energy = np.abs(spectrum(change)) ** 2
    row, column = np.floor(np.array(draw["position"]) * image.shape).astype(int)
    mirrored = energy[40 - row, 56 - column]
    assert (energy[row, column] + mirrored) / energy.sum() > 0.999
    assert (row, column) != (20, 28)


@pytest.mark.parametrize("shape", [(40, 56), (41, 33)])
def test_a_bias_field_is_the_exponential_of_a_cubic(shape):
    image = np.ones(shape, np.float32)
    draw = {"kind": "bias", "coefficients": [0.0] * 9}
    draw["coefficients"][0] = 1.0  # of the columns alone
    field = np.log(add_artefact(image, draw, 0.5))
    edge = 1.0  # TorchIO's axis runs to the last pixel's middle
    expected = 0.5 * MAX_COEFFICIENT * np.linspace(-edge, edge, shape[1])
    np.testing.assert_allclose(field, np.broadcast_to(expected, shape), atol=1e-5)
    draw = draw_artefact("bias", np.random.default_rng(1))
    field = np.log(add_artefact(image, draw, 1.0))
    rows, columns = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    terms = [
        (rows**i * columns**j).ravel() for i in range(4) for j in range(4 - i) if i + j
    ]
    solved, *_ = np.linalg.lstsq(np.stack(terms, 1), field.ravel(), rcond=None)
    np.testing.assert_allclose(np.stack(terms, 1) @ solved, field.ravel(), atol=1e-4)
    assert sorted(solved) == pytest.approx(sorted(draw["coefficients"]), abs=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_ssim_falls_with_severity_and_stays_plausible(kind, make_cohort):
    images = images_of(make_cohort(train=2)["train"])
    means = []
    for severity in (0.25, 0.5, 0.75, 1.0, RECOMMENDED[kind]):
        values = []
        for volume_id in ("icbm-001_FLAIR", "icbm-001_T1w", "icbm-000_T2w"):
            ref = SliceRef(volume_id, 1)
            clean = images.target(ref)
            draw = draw_of(images, ref, kind=kind, severity=severity)
            spoilt = artefact.apply(clean, draw, images)
            values.append(ssim(clean, spoilt, float(clean.max())))
        means.append(np.mean(values))
    assert all(np.diff(means[:4]) < 0)
    assert means[0] < 0.995
    assert means[-1] >= 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_no_global_random_state_is_touched(kind):
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    draw = draw_artefact(kind, np.random.default_rng(1))
    add_artefact(disc((20, 24), (10, 12), 6), draw, 0.5)
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])


def test_any_draws_every_kind(make_cohort):
    images = images_of(make_cohort(train=2)["train"])
    draws = [draw_of(images, kind="any", seed=seed) for seed in range(30)]
    assert {draw["artefact"]["kind"] for draw in draws} == set(KINDS)


def test_shared_is_one_artefact_for_all_slices(make_cohort):
    images = images_of(make_cohort(train=2)["train"])
    refs = [SliceRef("icbm-001_FLAIR", 1), SliceRef("icbm-000_T1w", 2)]
    for kind in KINDS:
        one, other = (draw_of(images, ref, kind=kind, shared=7) for ref in refs)
        assert one == other
        assert one != draw_of(images, kind=kind, shared=9) or kind == "ghosting"
    own = [draw_of(images, ref, kind="spike") for ref in refs]
    assert own[0] != own[1]


def test_real_takes_the_pair_of_the_slice(make_cohort):
    manifest = make_cohort(train=2)["train"]
    images = images_of(
        manifest, moved("x", "FLAIR"), moved("icbm-001", "FLAIR", matrix=(80, 64))
    )
    draw = draw_of(images, source="real")
    assert draw["donor"] == ["icbm-001_FLAIR-moved", REF.slice_num]
    spoilt = artefact.apply(images.target(REF), draw, images)
    # The pool's image is stripes: every row has one value.
    assert spoilt.std(axis=1).max() < 1e-3
    assert spoilt.std(axis=0).min() > 0.1


@pytest.mark.parametrize(
    "record",
    [
        moved("icbm-001", "T1w"),
        moved("icbm-001", "FLAIR", paired=False),
        moved("icbm-001", "FLAIR", slices=1),
    ],
)
def test_real_refuses_a_slice_without_a_pair(make_cohort, record):
    images = images_of(make_cohort(train=2)["train"], record)
    with pytest.raises(ValueError, match=r"slice 1 of icbm-001_FLAIR: the pool has 1 "):
        draw_of(images, source="real")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "simulated"}, "source: simulated needs 'kind'"),
        ({"source": "real", "kind": "spike"}, "'kind' means nothing with source: real"),
        ({"source": "real", "shared": 1}, "'shared' means nothing with source: real"),
        ({"source": "simulated", "kind": "blur"}, "'ghosting', 'motion', 'spike'"),
        ({"source": "real", "severity": 1.2}, "less than or equal to 1"),
    ],
)
def test_settings_are_refused(settings, message):
    with pytest.raises(ParamsError, match=message):
        validate({"severity": 1.0, **settings}, "p.settings", artefact.Params)


def test_a_target_without_signal_is_refused(make_cohort):
    images = images_of(make_cohort(train=2)["train"])
    draw = draw_of(images, kind="bias")
    with pytest.raises(ValueError, match=r"99.5th percentile of bias of a target is 0"):
        artefact.apply(np.zeros((40, 32), np.float32), draw, images)
