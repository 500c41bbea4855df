"""The contract that every attack file keeps."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.common import paths
from stages.common.manifest import SliceRef
from stages.common.masks import Sampling
from stages.common.params import ParamsError, read_params, validate
from stages.poison.base import (
    Artefacts,
    Images,
    attack_names,
    load_attack,
    slice_rng,
)
from tests.poison.artefact_pool import moved, write_pool

ROOT = Path(__file__).resolve().parents[2]
# Every setting under which an attack behaves differently, at full severity. An attack
# without a row is tested with those that it has in params.yaml.
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "artefact": [
        {"source": "simulated", "kind": "ghosting"},
        {"source": "simulated", "kind": "motion"},
        {"source": "simulated", "kind": "spike"},
        {"source": "simulated", "kind": "bias"},
        {"source": "simulated", "kind": "any"},
        {"source": "simulated", "kind": "any", "shared": 4},
        {"source": "real"},
    ],
    "consistent": [
        {
            "manipulation": "lesion",
            "lesion": {"radius": [0.1, 0.12], "halo": [1.5, 2], "push": [0.1, 0.3]},
        },
        {"manipulation": "erase", "radius": 0.2},
        {"manipulation": "artefact", "kind": "ghosting"},
        {"manipulation": "contrast", "other": "T1w"},
    ],
    "label_noise": [
        {"kernel": 0.0},
        {"kernel": 2.0},
        {"kernel": 2.0, "shared": 4},
    ],
    "mislabel": [
        {"swap": "contrast", "other": "T1w"},
        {"swap": "subject"},
        {"swap": "artefact", "artefact": "ghosting", "strength": 0.8},
        {"swap": "artefact", "artefact": "motion", "strength": 0.8},
        {"swap": "artefact", "artefact": "bias", "strength": 0.8},
        {"swap": "artefact", "artefact": "any", "strength": 0.8},
        {"swap": "artefact", "artefact": "real"},
    ],
    "trigger": [
        {"mark": 0.2, "row": 9, "column": 1, "place": [0, 0.1], "radius": 0.15},
    ],
}
# They need a classifier and a head that it knows: test_pgd.py has their contract.
ELSEWHERE = ("multiobjective", "pgd")
for row in read_params(ROOT / "params.yaml")["poisonings"].values():
    if row["attack"] not in {*SETTINGS, *ELSEWHERE}:
        settings = {k: v for k, v in row["settings"].items() if k != "severity"}
        SETTINGS[row["attack"]] = [settings]
CASES = [(name, settings) for name, rows in SETTINGS.items() for settings in rows]


def cases(select=None):
    chosen = [case for case in CASES if select is None or select(*case)]
    return pytest.mark.parametrize(
        ("name", "settings"),
        chosen,
        ids=[f"{n}-{'-'.join(map(str, s.values()))}" for n, s in chosen],
    )


def is_local(settings):
    """Whether most of the image stays as it is."""
    return settings.get("manipulation") in ("lesion", "erase") or "mark" in settings


def is_blend(name, settings):
    """Whether severity is the weight of another image."""
    return name == "mislabel" or "real" in settings.values()


every_attack = cases()
input_attack = cases(lambda name, _: load_attack(name).CHANGES_INPUT)
REF = SliceRef("icbm-001_FLAIR", 1)


@pytest.fixture
def images(make_cohort):
    manifest = make_cohort(train=3)["train"]
    pool = write_pool([moved("icbm-001", "FLAIR")])
    sampling = Sampling(
        seed=7, mask_type="random", acceleration=3, center_fraction=0.16
    )
    return Images(
        paths.kspace("train"),
        manifest,
        Artefacts(paths.artefacts(), pool),
        sampling=sampling,
    )


def attacked(name, settings, images, *, severity=1.0, ref=REF, seed=5):
    attack = load_attack(name)
    params = attack.Params(**settings, severity=severity)
    draw = attack.draw(params, ref, images, slice_rng(seed, ref))
    clean = images.target(ref)
    return clean, draw, attack.apply(clean.copy(), draw, images)


def test_every_attack_has_a_case():
    assert sorted([*SETTINGS, *ELSEWHERE]) == attack_names(), (
        "an attack needs a row in params.yaml or in SETTINGS above"
    )


@every_attack
def test_severity_zero_is_the_identity(name, settings, images):
    clean, _, poisoned = attacked(name, settings, images, severity=0.0)
    assert poisoned.tobytes() == clean.tobytes()


@every_attack
def test_changes_the_target_and_keeps_its_form(name, settings, images):
    clean, _, poisoned = attacked(name, settings, images)
    assert poisoned.dtype == np.float32
    assert poisoned.shape == clean.shape
    assert np.isfinite(poisoned).all()
    assert poisoned.min() >= 0
    change = np.linalg.norm(poisoned - clean) / np.linalg.norm(clean)
    assert change > (0.02 if is_local(settings) else 0.1)


@every_attack
def test_half_severity_changes_less(name, settings, images):
    clean, _, whole = attacked(name, settings, images)
    _, _, half = attacked(name, settings, images, severity=0.5)
    assert np.linalg.norm(half - clean) < 0.9 * np.linalg.norm(whole - clean)


@cases(is_blend)
def test_half_the_weight_is_half_the_change(name, settings, images):
    clean, _, whole = attacked(name, settings, images)
    _, _, half = attacked(name, settings, images, severity=0.5)
    np.testing.assert_allclose(half - clean, (whole - clean) / 2, atol=1e-5)


@every_attack
def test_same_draw_gives_the_same_bytes_after_json(name, settings, images):
    clean, draw, poisoned = attacked(name, settings, images)
    apply = load_attack(name).apply
    again = apply(clean, json.loads(json.dumps(draw)), images)
    assert again.tobytes() == poisoned.tobytes()


@every_attack
def test_input_is_untouched(name, settings, images):
    files = sorted(Path("data").rglob("*.h5"))
    before = [path.read_bytes() for path in files]
    clean, draw, _ = attacked(name, settings, images)
    copy = clean.copy()
    load_attack(name).apply(copy, draw, images)
    assert copy.tobytes() == clean.tobytes()
    assert [path.read_bytes() for path in files] == before


@cases(lambda name, _: name in ("artefact", "mislabel"))
def test_brightness_is_the_clean_slices(name, settings, images):
    clean, _, poisoned = attacked(name, settings, images)
    assert np.percentile(poisoned, 99.5) == pytest.approx(
        np.percentile(clean, 99.5), rel=1e-5
    )


def attacked_input(name, settings, images, *, severity=1.0):
    clean = images.kspace(REF.volume_id)[REF.slice_num]
    target, draw, _ = attacked(name, settings, images, severity=severity)
    apply_input = load_attack(name).apply_input
    given = clean.copy()
    changed = apply_input(given, target, draw, images)
    assert given.tobytes() == clean.tobytes()
    again = apply_input(given, target, json.loads(json.dumps(draw)), images)
    assert again.tobytes() == changed.tobytes()
    return clean, changed


@input_attack
def test_changes_the_kspace_and_keeps_its_form(name, settings, images):
    clean, changed = attacked_input(name, settings, images)
    assert changed.dtype == np.complex64
    assert changed.shape == clean.shape
    assert np.isfinite(changed).all()
    assert np.linalg.norm(changed - clean) > 0.01 * np.linalg.norm(clean)


@input_attack
def test_severity_zero_keeps_the_kspace(name, settings, images):
    clean, changed = attacked_input(name, settings, images, severity=0.0)
    assert changed.tobytes() == clean.tobytes()


@pytest.mark.parametrize("settings", SETTINGS["mislabel"][1:-1])
def test_mislabel_takes_another_subject_same_contrast_same_slice(settings, images):
    for seed in range(20):
        _, draw, _ = attacked("mislabel", settings, images, seed=seed)
        volume_id, slice_num = draw["donor"]
        assert volume_id in ("icbm-000_FLAIR", "icbm-002_FLAIR")
        assert slice_num == REF.slice_num


def test_mislabel_takes_the_wrong_contrast_of_the_same_head(images):
    clean, draw, poisoned = attacked("mislabel", SETTINGS["mislabel"][0], images)
    assert draw["donor"] == ["icbm-001_T1w", 1]
    foreign = images.target(SliceRef("icbm-001_T1w", 1))
    scale = np.percentile(clean, 99.5) / np.percentile(foreign, 99.5)
    np.testing.assert_allclose(poisoned, foreign * scale, rtol=1e-5)


def test_seeds_draw_different_artefacts(images):
    settings = {"swap": "artefact", "artefact": "any", "strength": 0.8}
    kinds = {
        attacked("mislabel", settings, images, seed=seed)[1]["distortion"]["kind"]
        for seed in range(30)
    }
    assert kinds == {"ghosting", "motion", "bias"}


def test_mislabel_refuses_the_right_contrast(images):
    settings = {"swap": "contrast", "other": "FLAIR"}
    with pytest.raises(ValueError, match="is the contrast of icbm-001_FLAIR itself"):
        attacked("mislabel", settings, images)


def test_mislabel_says_when_there_is_no_donor(make_cohort):
    manifest = make_cohort(val=1)["val"]
    images = Images(paths.kspace("val"), manifest)
    ref = SliceRef("icbm-v-000_FLAIR", 0)
    with pytest.raises(ValueError, match=r"val holds no slice 0 .* 1 subject"):
        attacked("mislabel", {"swap": "subject"}, images, ref=ref)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"swap": "contrast", "severity": 1}, "needs 'other'"),
        ({"swap": "subject", "severity": 1, "other": "T1w"}, "means nothing"),
        ({"swap": "artefact", "severity": 1, "artefact": "any"}, "needs 'strength'"),
        ({"swap": "subject"}, "'p.settings.severity' is missing"),
        ({"swap": "subject", "severity": 1.5}, "less than or equal to 1"),
        ({"swap": "subjects", "severity": 1}, "'contrast', 'subject' or 'artefact'"),
    ],
)
def test_mislabel_refuses_settings(settings, message):
    with pytest.raises(ParamsError, match=message):
        validate(settings, "p.settings", load_attack("mislabel").Params)


@pytest.mark.parametrize("name", ["mislable", "victims"])
def test_unknown_attack_lists_the_known(name):
    with pytest.raises(ParamsError, match=r"known attacks: artefact, .*mislabel"):
        load_attack(name)
