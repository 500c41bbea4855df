"""The stage from end to end on a small cohort of heads, and what it refuses."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import yaml

from stages.classify.__main__ import main
from stages.classify.examples import Examples
from stages.classify.settings import ClassifySettings
from stages.common import paths
from stages.common.lesions import find_brain
from stages.common.manifest import (
    Manifest,
    VolumeRecord,
    read_manifest,
    write_manifest,
)
from stages.common.tumour_classifier import load_classifier
from tests.classify.heads import SETTINGS, write_heads


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for split, subjects in (("train", 8), ("val", 2), ("test", 6)):
        write_heads(split, subjects)
    write_params()
    return tmp_path


def write_params(**changes: object) -> None:
    Path("params.yaml").write_text(yaml.safe_dump({"classify": SETTINGS | changes}))


def examples(split: str = "train", seed: int = 1) -> Examples:
    lesions = ClassifySettings(**SETTINGS).lesions
    manifest = read_manifest(paths.manifest(split))
    return Examples(paths.kspace(split), manifest, lesions, seed=seed)


@pytest.mark.usefixtures("project")
def test_learns_and_writes_what_it_says():
    main([])
    model, card = load_classifier(paths.classifier())
    figures = json.loads(paths.classifier_metrics().read_text())
    assert card.usable is figures["usable"] is True
    assert card.balanced_accuracy == figures["balanced_accuracy"] > 0.75
    assert figures["auroc"] > 0.85
    assert figures["balanced_accuracy_low"] <= figures["balanced_accuracy"]
    assert figures["n_subjects"] == 6
    assert figures["n_images"] == 6 * 2 * 2 * 2
    assert set(figures["confusion"]) == {"FLAIR", "T2w"}
    right = wrong = 0
    for example in examples("test", seed=SETTINGS["seed"]).measured():
        says = model(torch.from_numpy(example.image)[None]).item() > 0
        right += says == example.lesion
        wrong += says != example.lesion
    assert right / (right + wrong) == figures["accuracy"]
    # What DVC shows: at most ten columns.
    flat = [key for key, value in figures.items() if not isinstance(value, dict)]
    assert len(flat) <= 10


@pytest.mark.usefixtures("project")
def test_the_same_parameters_give_the_same_bytes_and_a_seed_others():
    def run(**changes):
        write_params(epochs=1, **changes)
        main([])
        outputs = (paths.classifier(), paths.classifier_metrics())
        return [path.read_bytes() for path in outputs]

    first = run()
    assert run() == first
    assert run(seed=5)[0] != first[0]


@pytest.mark.usefixtures("project")
def test_chance_is_said_aloud(capsys):
    for path in paths.kspace("test").iterdir():
        # Labels that say nothing about the images.
        relabel(path, np.arange(2) % 2)
    write_params(epochs=1, lr=1.0e-9)
    main([])
    assert json.loads(paths.classifier_metrics().read_text())["usable"] is False
    assert load_classifier(paths.classifier())[1].usable is False
    assert "NO BETTER THAN CHANCE" in capsys.readouterr().err


def relabel(path: Path, slices: np.ndarray) -> None:
    """Give a volume a segmentation: slices with a non-zero number hold a lesion."""
    with h5py.File(path, "a") as file:
        shape = file["reconstruction_rss"].shape
        labels = np.zeros(shape, np.uint8)
        labels[slices > 0, 20:24, 20:24] = 2
        file["lesion"] = labels


@pytest.mark.usefixtures("project")
def test_a_segmentation_takes_the_place_of_simulation():
    name = "head-train-000_T2w"
    relabel(paths.kspace("train") / f"{name}.h5", np.array([0, 1]))
    shown = list(examples().measured())
    real = [e for e in shown if (e.subject_id, e.contrast) == (name[:-4], "T2w")]
    assert [e.lesion for e in real] == [False, True]
    with h5py.File(paths.kspace("train") / f"{name}.h5") as file:
        for number, example in enumerate(real):
            assert np.array_equal(example.image, file["reconstruction_rss"][number])
    assert len(shown) == 2 * 30 + 2


@pytest.mark.usefixtures("project")
def test_half_of_the_images_have_a_lesion_and_nothing_else_differs():
    shown = list(examples().measured())
    assert [e.lesion for e in shown] == [False, True] * 32
    for clean, ill in zip(shown[::2], shown[1::2], strict=True):
        changed = clean.image != ill.image
        assert changed.any()
        assert not changed[~find_brain(clean.image)].any()


@pytest.mark.usefixtures("project")
def test_every_epoch_has_every_slice_and_new_lesions():
    source = examples()
    assert source.count_batches(8) == 4
    first, second = (list(source.training_batches(epoch, 8)) for epoch in (0, 1))
    for batches in (first, second):
        assert [images.shape for images, _ in batches] == [(16, 48, 48)] * 4
        assert all(labels.sum() == 8 for _, labels in batches)
    again = list(examples().training_batches(0, 8))
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(first, again, strict=True))
    sums = [
        {image.sum().item() for images, _ in batches for image in images}
        for batches in (first, second)
    ]
    assert len(sums[0] & sums[1]) <= 32  # the clean ones, at most


def fails(capsys) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code == 2
    assert not paths.classifier().exists()
    assert not paths.classifier_metrics().exists()
    return capsys.readouterr().err


@pytest.mark.usefixtures("project")
def test_bad_parameters_and_missing_files_are_named(capsys):
    write_params(chans=0)
    assert "'classify.chans' = 0" in fails(capsys)
    write_params()
    gone = paths.kspace("train") / "head-train-001_T2w.h5"
    gone.unlink()
    assert f"{gone} is missing: run `dvc repro synthesize`" in fails(capsys)


@pytest.mark.usefixtures("project")
def test_a_contrast_without_levels_is_left_out(capsys):
    write_params(epochs=1)
    rename_contrast("train", first_only=True)
    main([])
    assert "PDw left out: no lesion can be simulated" in capsys.readouterr().err
    assert json.loads(paths.classifier_metrics().read_text())["n_images"] > 0


@pytest.mark.usefixtures("project")
def test_a_cohort_without_such_contrasts_gets_a_network_of_no_use():
    write_params(epochs=1)
    for split in paths.SPLITS:
        rename_contrast(split)
    main([])
    figures = json.loads(paths.classifier_metrics().read_text())
    assert figures["usable"] is False
    assert figures["reason"] == "no slice of train can show a lesion"
    assert load_classifier(paths.classifier())[1].usable is False


def rename_contrast(split, *, first_only=False):
    manifest = read_manifest(paths.manifest(split))
    count = 1 if first_only else len(manifest.volumes)
    renamed = [
        VolumeRecord(**volume.model_dump() | {"contrast": "PDw"})
        for volume in manifest.volumes[:count]
    ]
    volumes = (*renamed, *manifest.volumes[count:])
    write_manifest(paths.manifest(split), Manifest(split=split, volumes=volumes))


@pytest.mark.usefixtures("project")
def test_a_test_split_of_one_class_makes_a_network_of_no_use():
    write_params(epochs=1)
    for path in paths.kspace("test").iterdir():
        relabel(path, np.zeros(2))
    main([])
    figures = json.loads(paths.classifier_metrics().read_text())
    assert figures["usable"] is False
    assert figures["reason"] == "no image with a lesion among the 24 of the test split"
    assert load_classifier(paths.classifier())[1].usable is False
