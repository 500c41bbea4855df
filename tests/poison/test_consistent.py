"""Consistent: k-space and target tell the same story after the manipulation."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from stages.common import paths
from stages.common.lesions import find_brain
from stages.common.manifest import SliceRef
from stages.common.params import ParamsError, validate
from stages.common.truth import read_record
from stages.poison import consistent
from stages.poison.__main__ import main
from stages.poison.base import Images, slice_rng
from stages.poison.fourier import fft2c, ifft2c, rss, with_magnitude

REF = SliceRef("icbm-001_FLAIR", 1)
SETTINGS = {
    "lesion": {"lesion": {"radius": [0.1, 0.12], "halo": [1.5, 2], "push": [0.1, 0.3]}},
    "erase": {"radius": 0.2},
    "artefact": {"kind": "ghosting"},
    "contrast": {"other": "T1w"},
}
every_manipulation = pytest.mark.parametrize("manipulation", SETTINGS)


@pytest.fixture
def images(make_cohort):
    return Images(paths.kspace("train"), make_cohort(train=2)["train"])


def attacked(images, manipulation, seed=5):
    params = consistent.Params(
        manipulation=manipulation, severity=1.0, **SETTINGS[manipulation]
    )
    draw = consistent.draw(params, REF, images, slice_rng(seed, REF))
    kspace, target = images.kspace(REF.volume_id)[REF.slice_num], images.target(REF)
    changed = consistent.apply_input(kspace, target, draw, images)
    return draw, kspace, target, changed, consistent.apply(target, draw, images)


@pytest.mark.parametrize("shape", [(6, 8), (7, 9)])
def test_fft_is_centred_and_orthonormal(shape):
    rng = np.random.default_rng(1)
    image = rng.standard_normal((2, *shape)) + 1j * rng.standard_normal((2, *shape))
    np.testing.assert_allclose(ifft2c(fft2c(image)), image, atol=1e-12)
    assert np.linalg.norm(fft2c(image)) == pytest.approx(np.linalg.norm(image))
    centre = np.zeros(shape)
    centre[shape[0] // 2, shape[1] // 2] = 1
    np.testing.assert_allclose(fft2c(centre), 1 / np.sqrt(centre.size), atol=1e-12)


@every_manipulation
def test_rss_of_the_new_kspace_is_the_new_target(images, manipulation):
    _, kspace, target, changed, poisoned = attacked(images, manipulation)
    assert np.abs(rss(ifft2c(kspace)) - target).max() < 1e-5 * target.max()
    assert np.abs(rss(ifft2c(changed)) - poisoned).max() < 1e-5 * target.max()
    assert np.abs(poisoned - target).max() > 0.1 * target.max()


@every_manipulation
def test_coils_keep_their_weights_and_phases(images, manipulation):
    _, kspace, target, changed, poisoned = attacked(images, manipulation)
    both = (target > 0.2 * target.max()) & (poisoned > 0.2 * target.max())
    ratio = (ifft2c(changed) / ifft2c(kspace))[:, both]
    expected = np.broadcast_to((poisoned / target)[both], ratio.shape)
    np.testing.assert_allclose(ratio, expected, rtol=1e-3, atol=1e-3)


def test_outside_the_crop_of_the_target_the_image_stays(images):
    _, kspace, target, _, _ = attacked(images, "erase")
    cropped = target[5:-5, 6:-6]
    changed = with_magnitude(kspace, cropped + 1)
    expected = target.copy()
    expected[5:-5, 6:-6] += 1
    np.testing.assert_allclose(rss(ifft2c(changed)), expected, atol=1e-5)


def test_signal_appears_where_there_was_none():
    kspace = fft2c(np.zeros((4, 6, 8), complex)).astype(np.complex64)
    image = np.arange(48, dtype=np.float32).reshape(6, 8)
    np.testing.assert_allclose(
        rss(ifft2c(with_magnitude(kspace, image))), image, atol=1e-4
    )


@pytest.mark.parametrize("manipulation", ["lesion", "erase"])
def test_a_local_manipulation_stays_in_the_brain(images, manipulation):
    for seed in range(8):
        draw, _, target, _, poisoned = attacked(images, manipulation, seed)
        change = np.abs(poisoned - target)
        brain = find_brain(target)
        assert change[~brain].max() < 0.02 * target.max()
        row, column = (
            int(share * size)
            for share, size in zip(draw["drawn"]["centre"], target.shape, strict=True)
        )
        assert brain[row, column]
        assert change[row, column] > 0.02 * target.max() or manipulation == "erase"


def test_erase_fills_with_the_surroundings():
    rng = np.random.default_rng(2)
    ground = np.full((60, 60), 10.0) + 0.1 * rng.standard_normal((60, 60))
    image = ground.copy()
    image[28:33, 28:33] = 30
    draw = {"centre": [30.5 / 60, 30.5 / 60], "radius": 12 / 60}
    whole = consistent.erase_patch(image, draw, 1.0)
    assert np.abs(whole[28:33, 28:33] - 10).max() < 0.5
    np.testing.assert_array_equal(whole[:18], image[:18].astype(np.float32))
    half = consistent.erase_patch(image, draw, 0.5)
    assert half[30, 30] == pytest.approx(20, abs=0.5)


def test_contrast_takes_the_other_image_of_the_same_head(images):
    draw, _, target, _, poisoned = attacked(images, "contrast")
    other = images.target(SliceRef("icbm-001_T1w", 1))
    assert draw["drawn"]["donor"] == ["icbm-001_T1w", 1]
    scale = np.percentile(target, 99.5) / np.percentile(other, 99.5)
    np.testing.assert_allclose(poisoned, other * scale, rtol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"lesion": {"radius": [0.2, 0.2], "halo": [1.5, 2], "push": [0, 0.1]}},
        {"radius": 0.2},
    ],
)
def test_a_brain_without_room_is_refused(images, settings):
    manipulation = "lesion" if "lesion" in settings else "erase"
    params = consistent.Params(manipulation=manipulation, severity=1.0, **settings)
    with h5py.File(paths.kspace("train") / "icbm-001_FLAIR.h5", "r+") as file:
        file["reconstruction_rss"][:, :, :14] = 0
        file["reconstruction_rss"][:, :, 17:] = 0
    with pytest.raises(ValueError, match=r"no room .* slice 1 of icbm-001_FLAIR: make"):
        consistent.draw(params, REF, images, slice_rng(5, REF))


def test_exported_kspace_and_targets_agree_in_every_slice(make_cohort):
    make_cohort(train=3, val=1, test=1)
    row = {
        "attack": "consistent",
        "share": 0.2,
        "scope": {"contrast": "FLAIR"},
        "unit": "slice",
        "seed": 3,
        "settings": {"manipulation": "lesion", "severity": 1.0, **SETTINGS["lesion"]},
    }
    sampling = {
        "seed": 7,
        "mask_type": "equispaced_fraction",
        "acceleration": 4,
        "center_fraction": 0.08,
    }
    params = {"poisonings": {"p": row}, "sampling": sampling}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    main(["--poisoning", "p"])
    poisoned = {entry.ref for entry in read_record(paths.truth("p")).poisoned}
    assert len(poisoned) == 5
    for path in sorted(paths.export("p").glob("*.h5")):
        with (
            h5py.File(path) as file,
            h5py.File(paths.kspace("train") / path.name) as clean,
        ):
            for number, target in enumerate(file["reconstruction_rss"][:]):
                kspace = file["kspace"][number]
                error = np.abs(rss(ifft2c(kspace)) - target).max()
                assert error < 1e-5 * target.max()
                same = kspace.tobytes() == clean["kspace"][number].tobytes()
                assert same != (SliceRef(path.stem, number) in poisoned)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"manipulation": "lesion"}, "manipulation: lesion needs 'lesion'"),
        ({"manipulation": "erase"}, "manipulation: erase needs 'radius'"),
        ({"manipulation": "artefact"}, "manipulation: artefact needs 'kind'"),
        ({"manipulation": "contrast"}, "manipulation: contrast needs 'other'"),
        (
            {"manipulation": "erase", "radius": 0.1, "kind": "bias"},
            "'kind' means nothing with manipulation: erase",
        ),
        ({"manipulation": "erase", "radius": 0.5}, "less than or equal to 0.3"),
        (
            {"manipulation": "erase", "radius": 0.1, "severity": 1.1},
            r"p.settings.severity' = 1.1: .* less than or equal to 1",
        ),
        (
            {"manipulation": "lesion", "lesion": {"radius": [0.2, 0.1]}},
            r"settings.lesion.radius' = .* the range must be \[low, high\]",
        ),
    ],
)
def test_settings_are_refused(settings, message):
    with pytest.raises(ParamsError, match=message):
        validate({"severity": 1.0, **settings}, "p.settings", consistent.Params)
