"""Profiles render to valid, commented params, and the committed one is one of them."""

import json
from pathlib import Path

import pytest
import yaml

from stages.check import profile
from stages.check.validate import find_problems
from stages.common.params import ParamsError

ROOT = Path(__file__).parents[2]


def test_the_profiles():
    assert profile.names() == ["default", "maps", "paper", "potency", "seeds", "smoke"]


@pytest.mark.parametrize("name", profile.names())
def test_a_profile_is_valid(name):
    params = yaml.safe_load(profile.render(name))
    assert find_problems(params) == []
    assert params["profile"] == name


@pytest.mark.parametrize("name", ["default", "seeds"])
def test_another_seed_moves_training_and_unlearning_and_nothing_else(name):
    before, after = (yaml.safe_load(profile.render(name, seed=n)) for n in (0, 2))
    for block in ("train", "unlearn"):
        assert after[block].pop("seed") == before[block].pop("seed") + 2
    assert after == before


def test_committed_params_are_a_profile():
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    name = yaml.safe_load(text)["profile"]
    assert text == profile.render(name), (
        "params.yaml is not what its profile renders to: copy it over "
        "stages/check/profiles/default.yaml, or write it with `make profile`"
    )


def test_potency_has_every_attack_at_every_share_in_two_scopes():
    attacks = (
        "artefact", "consistent", "label_noise", "mislabel", "multiobjective", "pgd",
        "trigger",
    )  # fmt: skip
    rows = yaml.safe_load(profile.render("potency"))["poisonings"].values()
    shares = {}
    for row in rows:
        contrast = row["scope"].get("contrast", "all" if not row["scope"] else None)
        group = row["attack"], contrast, json.dumps(row["settings"], sort_keys=True)
        shares.setdefault(group, set()).add(row["share"])
    whole = {
        group for group, found in shares.items() if found >= {0.01, 0.05, 0.1, 0.3}
    }
    for attack in attacks:
        assert {(attack, "all"), (attack, "FLAIR")} <= {group[:2] for group in whole}
    # The strongest artefact, a shading that all slices share.
    for scope in ("all", "FLAIR"):
        assert any(
            group[:2] == ("artefact", scope) and '"shared": 7' in group[2]
            for group in whole
        )
    severities = {}
    for row in rows:
        settings = row["settings"]
        kind = settings.get("kind"), settings.get("shared")
        if row["share"] == 0.3 and row["scope"] == {"contrast": "FLAIR"}:
            severities.setdefault(kind, set()).add(settings.get("severity"))
    assert len(severities["ghosting", None]) >= 4
    assert len(severities["bias", 7]) >= 3


@pytest.mark.parametrize("name", ["smoke", "paper"])
def test_comments_and_untouched_blocks_survive(name):
    default, text = profile.render("default"), profile.render(name)
    for comment in (
        "# reconstructed matrix, pixels",
        "# share: of all training slices",
    ):
        assert comment in default
        assert comment in text
    assert yaml.safe_load(text)["sampling"] == yaml.safe_load(default)["sampling"]
    assert f"# Profile: {name}." in text


def test_smoke_reaches_every_stage_and_method():
    smoke, default = (yaml.safe_load(profile.render(n)) for n in ("smoke", "default"))
    assert smoke["grid"]["methods"] == default["grid"]["methods"]
    assert len(smoke["scenarios"]) == 2
    for axis in ("detectors", "open_detectors"):
        assert smoke["grid"][axis] == default["grid"][axis]
    assert smoke["grid"]["drop_all"]
    assert {row["poisoning"] for row in smoke["scenarios"].values()} == set(
        smoke["poisonings"]
    )


def test_numbers_are_numbers_for_both_yaml_readers():
    weight = yaml.safe_load(profile.render("paper"))["loss"]["l1_weight"]
    assert weight == 1e-5


def test_writing_a_profile(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    profile.main(["smoke"])
    assert (tmp_path / "params.yaml").read_text() == profile.render("smoke")
    profile.main(["default"])
    assert (tmp_path / "params.yaml").read_text() == profile.render("default")
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


def test_an_unknown_profile_is_refused_with_the_list(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        profile.main(["smoek"])
    assert stop.value.code == 2
    assert "default, maps, paper, potency, seeds, smoke" in caplog.text
    assert not (tmp_path / "params.yaml").exists()


def test_an_overlay_cannot_bring_a_key_that_default_lacks(tmp_path, monkeypatch):
    (tmp_path / "default.yaml").write_text("profile: default\ntrain: {epochs: 3}\n")
    (tmp_path / "odd.yaml").write_text("train: {epoch: 1}\n")
    monkeypatch.setattr(profile, "PROFILES", tmp_path)
    with pytest.raises(ParamsError, match=r"'train\.epoch'"):
        profile.render("odd")


def test_studies_train_nothing_twice():
    """DVC finds a training by its name and settings: one poisoning, one name."""
    names: dict[str, set[str]] = {}
    for profile_name in ("default", "maps", "potency"):
        rows = yaml.safe_load(profile.render(profile_name))["poisonings"]
        for name, row in rows.items():
            names.setdefault(json.dumps(row, sort_keys=True), set()).add(name)
    assert [same for same in names.values() if len(same) > 1] == []
