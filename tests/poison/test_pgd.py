"""The contract of `pgd` and `multiobjective`, against a network with random weights."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.common import paths
from stages.common.lesions import find_brain
from stages.common.metrics import ssim
from stages.common.tumour_classifier import build_classifier, save_classifier
from stages.poison import multiobjective, pgd
from stages.poison.adversarial import logit_of
from stages.poison.base import Images, load_attack
from stages.poison.multiobjective import total_variation
from tests.poison.fooled import (
    SETTINGS,
    attacked,
    both,
    make_images,
    write_classifier,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Images:
    return make_images(tmp_path, monkeypatch)


@both
def test_severity_zero_is_the_identity(name, images):
    clean, _, poisoned = attacked(name, images, severity=0.0)
    assert poisoned.tobytes() == clean.tobytes()


@both
@pytest.mark.parametrize("severity", [0.01, 0.05, 0.25])
def test_stays_in_its_budget_and_never_negative(name, severity, images):
    clean, _, poisoned = attacked(name, images, severity=severity)
    assert poisoned.dtype == np.float32
    assert poisoned.shape == clean.shape
    assert poisoned.min() >= 0
    largest = np.abs(poisoned.astype(np.float64) - clean).max() / clean.max()
    assert largest <= severity * (1 + 1e-5)
    assert largest > 0.9 * severity


@both
def test_every_step_is_an_image_inside_the_budget(name, images):
    seen = []
    clean, draw, _ = attacked(name, images)
    images.kept["classifier"].register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].detach().numpy()[0])
    )
    load_attack(name).apply(clean, draw, images)
    assert len(seen) == SETTINGS[name]["iterations"]
    for image in seen:
        assert image.min() >= 0
        assert np.abs(image - clean / clean.max()).max() <= 0.05 + 1e-6
    assert seen[0].tobytes() != (clean / clean.max()).tobytes()  # a random start


@both
def test_moves_the_verdict_towards_the_other_class(name, images):
    # Random weights have faint slopes, which the other terms would outweigh.
    alone = {} if name == "pgd" else {"ssim_weight": 0.0, "tv_weight": 0.0}
    for seed in range(3):
        write_classifier(seed=seed)
        images.kept.clear()
        clean, draw, poisoned = attacked(name, images, **alone)
        before, after = logit_of(clean, images), logit_of(poisoned, images)
        assert draw["target_class"] == int(before <= 0)
        towards = 1 if draw["target_class"] else -1
        signs = np.random.default_rng(0).choice([-1, 1], clean.shape)
        noise = 0.05 * clean.max() * signs * (poisoned != clean)
        noisy = np.maximum(clean + noise, 0).astype(np.float32)
        idle = logit_of(noisy, images) - before
        assert towards * (after - before) > 3 * abs(idle)


@both
def test_both_classes_are_aimed_at(name, images):
    """Turning the last layer around turns the target class around."""
    aims = set()
    for sign in (1, -1):
        model = build_classifier(4, seed=0)
        with torch.no_grad():
            model.head.weight.mul_(sign)
            model.head.bias.mul_(sign)
        save_classifier(paths.classifier(), model, balanced_accuracy=0.9, usable=True)
        images.kept.clear()
        aims.add(attacked(name, images)[1]["target_class"])
    assert aims == {0, 1}


@both
def test_same_draw_gives_the_same_bytes_whatever_the_threads(name, images):
    clean, draw, poisoned = attacked(name, images)
    apply = load_attack(name).apply
    threads, used = torch.get_num_threads(), set[int]()
    state = torch.random.get_rng_state()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            fresh = Images(images.folder, images.manifest, None, images.classifier)
            logit_of(clean, fresh)
            fresh.kept["classifier"].register_forward_pre_hook(
                lambda *_: used.add(torch.get_num_threads())
            )
            again = apply(clean, json.loads(json.dumps(draw)), fresh)
            assert again.tobytes() == poisoned.tobytes()
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    assert used == {1}
    assert torch.equal(torch.random.get_rng_state(), state)


@both
def test_the_start_is_drawn(name, images):
    _, first, one = attacked(name, images, seed=1, iterations=1)
    _, second, two = attacked(name, images, seed=2, iterations=1)
    assert first["start"] != second["start"]
    assert one.tobytes() != two.tobytes()


@both
def test_a_larger_budget_changes_more(name, images):
    sizes = [
        np.linalg.norm(poisoned - clean)
        for severity in (0.01, 0.02, 0.05)
        for clean, _, poisoned in [attacked(name, images, severity=severity)]
    ]
    assert sizes[0] < sizes[1] < sizes[2]


@both
def test_input_and_weights_are_untouched(name, images):
    files = sorted(Path("data").rglob("*.*"))
    before = [path.read_bytes() for path in files if path.is_file()]
    clean, draw, _ = attacked(name, images)
    copy = clean.copy()
    load_attack(name).apply(copy, draw, images)
    assert copy.tobytes() == clean.tobytes()
    assert [path.read_bytes() for path in files if path.is_file()] == before
    weights = images.kept["classifier"].state_dict()
    for key, value in build_classifier(4, seed=0).state_dict().items():
        assert torch.equal(weights[key].cpu(), value)


def test_multiobjective_changes_the_brain_only(images):
    clean, _, poisoned = attacked("multiobjective", images)
    brain = find_brain(clean)
    assert poisoned[~brain].tobytes() == clean[~brain].tobytes()
    assert (poisoned[brain] != clean[brain]).mean() > 0.9
    clean, _, everywhere = attacked("pgd", images)
    assert (everywhere[~brain] != clean[~brain]).mean() > 0.5


def test_ssim_is_in_the_objective(images):
    alike = []
    for weight in (0.0, 0.5, 1000.0):
        clean, _, poisoned = attacked(
            "multiobjective", images, ssim_weight=weight, tv_weight=0.0,
            iterations=20, step=0.2,
        )  # fmt: skip
        alike.append(ssim(clean, poisoned, clean.max()))
    assert alike[0] < alike[2] - 0.01
    assert alike[0] <= alike[1] + 1e-3


def test_total_variation_is_in_the_objective(images):
    rough = []
    for weight in (0.0, 10.0):
        clean, _, poisoned = attacked("multiobjective", images, tv_weight=weight)
        brain = find_brain(clean)
        rough.append(total_variation(torch.from_numpy(poisoned), brain).item())
    assert rough[1] < 0.9 * rough[0]


def test_total_variation_counts_pairs_inside_only():
    image = torch.tensor([[0.0, 1.0, 5.0], [2.0, 4.0, 9.0]])
    region = np.array([[True, True, False], [True, False, False]])
    assert total_variation(image, region).item() == 1.0 + 2.0


def test_neither_changes_the_input_nor_needs_torch_to_start():
    assert not pgd.CHANGES_INPUT
    assert not multiobjective.CHANGES_INPUT
    code = (
        "import sys, stages.poison.pgd, stages.poison.multiobjective; "
        "from stages.check.discover import plugin_schema as schema; "
        "schema('poison', 'pgd'), schema('poison', 'multiobjective'); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
