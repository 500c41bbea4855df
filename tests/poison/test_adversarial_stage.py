"""What `pgd` and `multiobjective` refuse, and a whole run of the stage with them."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from stages.common import paths
from stages.common.artefacts import write_artefact_index
from stages.common.params import ParamsError, validate
from stages.common.truth import read_record
from stages.poison.__main__ import main
from stages.poison.adversarial import logit_of
from stages.poison.base import Images, load_attack, split_images
from tests.classify.heads import write_heads
from tests.poison.fooled import SETTINGS, attacked, both, make_images, write_classifier


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Images:
    return make_images(tmp_path, monkeypatch)


@both
def test_a_classifier_at_chance_or_missing_is_refused(name, images):
    write_classifier(usable=False)
    with pytest.raises(ValueError, match=r"no better than chance .*0\.430.*epochs"):
        attacked(name, images)
    paths.classifier().unlink()
    with pytest.raises(ValueError, match="is missing: run `dvc repro classify`"):
        attacked(name, images)
    images.classifier = None
    with pytest.raises(ValueError, match="was given none: run `dvc repro classify`"):
        attacked(name, images)


@pytest.mark.parametrize("fault", ["truncated", "renamed", "card"])
def test_a_damaged_classifier_is_named(fault, images):
    from safetensors.torch import load_file, save_file

    path = paths.classifier()
    weights = load_file(path)
    card = '{"chans": 4, "balanced_accuracy": 0.9, "usable": true}'
    if fault == "truncated":
        path.write_bytes(path.read_bytes()[:100])
    else:
        if fault == "renamed":
            weights["other"] = weights.pop("head.bias")
        else:
            card = '{"chans": 4}'
        save_file(weights, path, metadata={"classifier": card})
    with pytest.raises(ValueError, match=r"model\.safetensors is no tumour classifier"):
        attacked("pgd", images)


def test_a_slice_without_a_brain_is_refused(images, monkeypatch):
    monkeypatch.setattr(images, "target", lambda _: np.zeros((48, 48), np.float32))
    with pytest.raises(
        ValueError, match="slice 1 of head-train-000_T2w shows no brain"
    ):
        attacked("multiobjective", images)


@both
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"severity": 0.3}, "less than or equal to 0.25"),
        ({"severity": -0.1}, "greater than or equal to 0"),
        ({"step": 0}, "greater than 0"),
        ({"iterations": 0}, "greater than or equal to 1"),
        ({"alpha": 0.03}, "'p.settings.alpha' is not a parameter"),
    ],
)
def test_settings_out_of_range_are_refused(name, change, message):
    settings = {"severity": 0.05, **SETTINGS[name]} | change
    with pytest.raises(ParamsError, match=message):
        validate(settings, "p.settings", load_attack(name).Params)


def test_the_classifier_is_handed_to_every_split(images):
    manifests = {split: images.manifest for split in ("train", "val")}
    write_artefact_index(Path("pool"), [])
    found = split_images(manifests, paths.kspace, Path("pool"), paths.classifier())
    assert {i.classifier for i in found.values()} == {paths.classifier()}


@both
def test_the_stage_poisons_a_training_set(name, images):
    for split in ("val", "test"):
        write_heads(split, 1)
    write_artefact_index(paths.artefacts(), [])
    write_row(name)
    main(["--poisoning", "p"])
    record = read_record(paths.truth("p"))
    assert len(record.poisoned) == 2
    for entry in record.poisoned:
        path = paths.export("p") / f"{entry.volume_id}.h5"
        with h5py.File(path) as file:
            exported = file["reconstruction_rss"][entry.slice_num]
        clean = images.target(entry.ref)
        assert 0 < np.abs(exported - clean).max() <= 0.0501 * clean.max()
        assert entry.draw["target_class"] == int(logit_of(clean, images) <= 0)


def test_the_stage_leaves_nothing_behind_a_refused_classifier(images, capsys):
    for split in ("val", "test"):
        write_heads(split, 1)
    write_artefact_index(paths.artefacts(), [])
    write_classifier(usable=False)
    write_row("pgd")
    with pytest.raises(SystemExit):
        main(["--poisoning", "p"])
    assert (
        f"{images.classifier}: the classifier is no better" in capsys.readouterr().err
    )
    assert not paths.export("p").exists()
    assert not paths.truth("p").exists()


def write_row(name: str) -> None:
    row = {
        "attack": name, "share": 0.5, "scope": {"contrast": "T2w"}, "unit": "slice",
        "seed": 3, "settings": {"severity": 0.05, **SETTINGS[name]},
    }  # fmt: skip
    Path("params.yaml").write_text(yaml.safe_dump({"poisonings": {"p": row}}))
