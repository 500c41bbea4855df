"""The README shows what the pipeline wrote."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "metrics" / "tables" / "results.md"
SUMMARY = ROOT / "metrics" / "summary.json"
DETECTION = ROOT / "metrics" / "studies" / "detection.json"
SEEDS = ROOT / "metrics" / "seeds" / "seeds.json"
GAINS = ("mislabel-30", "shading-30")
BACK_DOOR = "trigger-10"
UNSHOWN = ("oracle_continue", "none", "continue")
POTENCY = ROOT / "metrics" / "potency.json"
INTERVAL = re.compile(r"-?\d+\.\d\d \[-?\d+\.\d\d, -?\d+\.\d\d\]")


def strangers(readme: str, results: str) -> list[str]:
    """Rows of result tables in the README that are not among the results."""
    written = set(results.splitlines())
    rows, inside = [], False
    for line in readme.splitlines():
        inside = line.startswith("| model |") or (inside and line.startswith("|"))
        if inside and line not in written:
            rows.append(line)
    return rows


@pytest.mark.skipif(not RESULTS.exists(), reason="no results are committed here")
def test_the_tables_are_those_of_the_report():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "| model |" in readme
    assert strangers(readme, RESULTS.read_text(encoding="utf-8")) == []


def test_another_number_is_noticed():
    table = "| model | PSNR |\n| --- | ---: |\n| ssd | 16.12 |\n"
    assert strangers(table, table) == []
    assert strangers(table.replace("16.12", "26.12"), table) == ["| ssd | 26.12 |"]


def at_a_glance(readme):
    """(method, scenario) -> healing and change outside as the README has them."""
    lines = readme.partition("| method | `mislabel-30` |")
    rows = (lines[1] + lines[2]).partition("\n\n")[0].splitlines()
    cells = [[cell.strip(" `") for cell in row.strip("|").split("|")] for row in rows]
    scenarios = cells[0][1:]
    return {
        (row[0], name): cell.replace("−", "-")
        for row in cells[2:]
        for name, cell in zip(scenarios, row[1:], strict=True)
    }


def two_digits(value):
    return f"{round(value, 2) + 0.0:.2f}"


@pytest.mark.skipif(not SUMMARY.exists(), reason="no results are committed here")
def test_the_overview_is_the_summary():
    summary = json.loads(SUMMARY.read_text())
    shown = at_a_glance((ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(shown) == 6 * 5
    for (method, scenario), cell in shown.items():
        figures = summary[scenario][method]
        healed = figures["healing_scope_test"]
        if scenario == BACK_DOOR:
            assert healed is None
            healed = figures["healing_agreement_scope_test"]
        outside = figures["damage_outside_db"]
        shown_healing = "–" if healed is None else two_digits(healed)
        wanted = f"{shown_healing} ({two_digits(outside)})"
        assert cell == wanted, (method, scenario)


@pytest.mark.skipif(not SEEDS.exists(), reason="no study is committed here")
def test_gains_over_seeds_are_those_of_the_study():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme.partition("| gain in the scope, dB, mean of four seeds |")[2]
    rows = table.partition("\n\n")[0].splitlines()[2:]
    found = json.loads(SEEDS.read_text())
    studied = [found[name]["gain_scope_test_db"] for name in GAINS]
    assert len(rows) == len(studied[0]) - len(UNSHOWN)
    for row in rows:
        name, *cells = (cell.strip(" `") for cell in row.strip("|").split("|"))
        for cell, gains in zip(cells, studied, strict=True):
            gain = gains[name.partition(":")[0]]
            assert len(gain["values"]) == 4
            mean, low, high = (two_digits(gain[key]) for key in ("mean", "low", "high"))
            assert cell == f"{mean} [{low}, {high}]", name


def test_pictures_of_the_readme_are_there():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = [part.split(")")[0] for part in text.split("](metrics/figures/")[1:]]
    assert shown
    missing = [
        name for name in shown if not (RESULTS.parents[1] / "figures" / name).exists()
    ]
    assert not RESULTS.exists() or not missing


def with_intervals(node):
    """Every figure of a tree that has an interval, as a README writes it."""
    found = set()
    for key, value in node.items():
        if isinstance(value, dict):
            found |= with_intervals(value)
        elif isinstance(node.get(f"{key}_low"), float) and value is not None:
            low, high = node[f"{key}_low"], node[f"{key}_high"]
            found.add(f"{value:.2f} [{low:.2f}, {high:.2f}]")
    return found


@pytest.mark.parametrize(
    ("page", "heading", "figures", "least"),
    [
        ("poison", "## What bites", POTENCY, 10),
        ("detect", "## What to expect", DETECTION, 7),
    ],
)
def test_intervals_are_those_that_the_study_measured(page, heading, figures, least):
    if not figures.exists():
        pytest.skip("no study is committed here")
    text = (ROOT / "stages" / page / "README.md").read_text(encoding="utf-8")
    section = text.partition(heading)[2].partition("\n## ")[0]
    claimed = set(INTERVAL.findall(section))
    assert len(claimed) >= least
    assert claimed - with_intervals(json.loads(figures.read_text())) == set()


# Attack as its page calls it -> poisonings: 30 % in FLAIR, 10 % in it, 30 % over all.
ATTACKS = {
    "`artefact`, one shading for all, 0.75": ("artefact-flair-30-bias-shared-75",),
    "`artefact`, one shading for all, 0.5": (
        "artefact-flair-30-bias-shared", "shading-flair-10", "shading-all-30",
    ),
    "`artefact`, one shading for all, 0.25": ("artefact-flair-30-bias-shared-25",),
    "`mislabel`, another contrast": ("mislabel-30", "mislabel-10"),
    "`mislabel`, somebody else with a shading": ("mislabel-artefact-flair-30",),
    "`mislabel`, somebody else": ("", "", "mislabel-random-30"),
    "`artefact` spike, 0.5": ("artefact-flair-30-spike",),
    "`artefact` shading, each its own, 0.75": ("artefact-flair-30-bias",),
    "`consistent`, the wrong contrast": (
        "consistent-flair-30-contrast", "consistent-flair-10-contrast",
    ),
    "`artefact` motion, 0.5": ("artefact-flair-30-motion",),
    "`label_noise`": (
        "label-noise-flair-30", "label-noise-flair-10", "label-noise-all-30",
    ),
    "`pgd`": ("pgd-flair-30", "pgd-flair-10", "pgd-all-30"),
    "`artefact` ghosts, one for all, 0.75": ("artefact-flair-30-ghost-shared",),
    "`multiobjective`": (
        "multiobjective-flair-30", "multiobjective-flair-10", "multiobjective-all-30",
    ),
    "`consistent`, a lesion": (
        "consistent-flair-30", "consistent-flair-10", "consistent-all-30",
    ),
    "`artefact` ghosts, each its own, 1.0": (
        "artefact-30", "artefact-flair-10", "artefact-all-30",
    ),
}  # fmt: skip


def losses(node):
    """Poisoning -> figures, of a tree of any depth."""
    for value in node.values():
        if isinstance(value, dict) and "poisoning" in value:
            yield value["poisoning"], value
        elif isinstance(value, dict):
            yield from losses(value)


def attack_table(text):
    """Attack -> the other cells of its row."""
    table = text.partition("| attack | SSIM to clean |")[2].partition("\n\n")[0]
    rows = [line.strip("|").split("|") for line in table.splitlines()[2:]]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}


@pytest.mark.skipif(not POTENCY.exists(), reason="no study is committed here")
def test_each_attack_has_its_own_losses():
    found = dict(losses(json.loads(POTENCY.read_text())))
    text = (ROOT / "stages" / "poison" / "README.md").read_text(encoding="utf-8")
    shown = attack_table(text)
    assert list(shown) == list(ATTACKS)
    for attack, (alike, *cells) in shown.items():
        rows = [found.get(name) for name in ATTACKS[attack]]
        of_ssim = next(row for row in rows if row)["ssim_poisoned_to_clean"]
        assert alike == two_digits(of_ssim), attack
        for place, cell in enumerate(cells):
            row = rows[place] if place < len(rows) else None
            loss, _, interval = cell.partition(" ")
            if row is None:
                assert cell == "", attack
                continue
            assert loss == two_digits(row["loss_scope_db"]), attack
            ends = [row[f"loss_scope_db_{end}"] for end in ("low", "high")]
            wanted = f"[{two_digits(ends[0])}, {two_digits(ends[1])}]"
            assert interval in ("", wanted), attack


# Where the sampled lines find less than the classifier, which beats chance.
LINES_LOSE = {"artefact-flair-30-bias-shared-25"}


def where_the_classifier_finds(content):
    """Poisoning -> detector -> AUROC in the scope, where the classifier finds some."""
    rows = [found for shares in content.values() for found in shares.values()]
    for found in (row for row in rows if isinstance(row, dict)):
        own = found.get("forget_classifier")
        if own and (own["auroc_in_scope_low"] or 0) > 0.5:
            closed = [name for name in found if found[name]["threat_model"] == "closed"]
            yield (
                own["poisoning"],
                {name: found[name]["auroc_in_scope"] for name in closed},
            )


@pytest.mark.skipif(not DETECTION.exists(), reason="no study is committed here")
def test_another_detector_finds_what_the_classifier_finds():
    found = dict(where_the_classifier_finds(json.loads(DETECTION.read_text())))
    assert len(found) >= 15
    losing = set()
    for name, aurocs in found.items():
        own = aurocs.pop("forget_classifier")
        assert max(aurocs.values()) >= own, name
        if own > aurocs["data_consistency"]:
            losing.add(name)
    assert losing == LINES_LOSE


def test_an_interval_that_nobody_measured_is_noticed():
    tree = {"a": {"loss": 1.204, "loss_low": 0.9, "loss_high": 1.5, "other": None}}
    assert with_intervals(tree) == {"1.20 [0.90, 1.50]"}
    assert INTERVAL.findall("it costs 1.20 [0.90, 1.51] dB") == ["1.20 [0.90, 1.51]"]
