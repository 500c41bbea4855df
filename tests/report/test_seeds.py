"""Several seeds of one study: their mean, its interval, and what is missing."""

import json
from pathlib import Path

import matplotlib.image
import pytest
import yaml

from stages.check.studies import SEEDS, STUDIES
from stages.report import maps_store, seeds
from stages.report.seeds import VIEWS

ROOT = Path(__file__).resolve().parents[2]


def figures(psnr: float, healing: float | None = 0.5) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for view in VIEWS:
        value = psnr if view.measure == "psnr_scope_test" else healing
        found[view.measure] = value
    # The report may leave healing out; the study makes its own from the levels.
    return found | {"psnr_scope_val": psnr + 1, "healing_scope_test": None}


def write(path: Path, oracle: float, none: float, mend: float | None) -> None:
    models = {"oracle": figures(oracle), "none": figures(none)}
    if mend is not None:
        models["mend"] = figures(24.0, mend)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"bad-30": models, "_run": {}}))


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch) -> None:
    """Three seeds, of which the first lacks a method."""
    monkeypatch.chdir(tmp_path)
    write(seeds.FOLDER / "0.json", 25.0, 24.0, None)
    write(seeds.FOLDER / "1.json", 26.0, 24.5, 1.0)
    write(seeds.FOLDER / "2.json", 27.0, 24.0, 0.4)


def test_means_and_intervals_over_seeds():
    seeds.main([])
    found = json.loads(seeds.SUMMARY.read_text())["bad-30"]
    oracle = found["psnr_scope_test"]["oracle"]
    assert oracle["values"] == {"0": 25.0, "1": 26.0, "2": 27.0}
    assert (oracle["mean"], oracle["sd"]) == (26.0, 1.0)
    # Student's t for two degrees of freedom: 4.3027; / sqrt(3)
    assert oracle["high"] == pytest.approx(26 + 2.48414, abs=1e-4)
    assert oracle["low"] == pytest.approx(26 - 2.48414, abs=1e-4)
    gain = found["gain_scope_test_db"]
    assert gain["oracle"]["values"] == {"0": 1.0, "1": 1.5, "2": 3.0}
    assert gain["mend"]["values"] == {"1": -0.5, "2": 0.0}
    assert found["ssim_scope_test"]["mend"]["values"] == {"1": 1.0, "2": 0.4}
    for split in ("test", "val"):
        healed = found[f"healing_scope_{split}"]
        assert healed["mend"]["values"] == {"1": pytest.approx(-1 / 3), "2": 0.0}
        assert healed["oracle"]["values"] == {"0": 1.0, "1": 1.0, "2": 1.0}
    assert matplotlib.image.imread(seeds.PLOT).std() > 0


def test_the_table_has_what_is_there_and_a_dash_for_the_rest():
    seeds.main([])
    lines = seeds.TABLE.read_text().splitlines()
    assert lines.count("| model | seed 0 | seed 1 | seed 2 | mean | sd |") == len(VIEWS)
    assert "| mend | – | 1.000 | 0.400 | 0.700 [-3.112, 4.512] | 0.424 |" in lines
    assert "| oracle | 1.00 | 1.50 | 3.00 | 1.83 [-0.75, 4.42] | 1.04 |" in lines


def test_one_seed_has_no_interval():
    for name in ("0.json", "2.json"):
        (seeds.FOLDER / name).unlink()
    seeds.main([])
    assert "| mend | 1.000 | 1.000 | – |" in seeds.TABLE.read_text()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"bad-30": {"mend": {"psnr_scope_test": 2}}}', "'psnr_scope_val' of"),
        ('{"bad-30": {"mend": [1, 2]}}', "bad-30 > mend holds"),
        ('{"bad-30": 3}', "bad-30 holds 3, no mapping"),
        ("{", "is damaged"),
    ],
)
def test_a_damaged_run_is_named(content, message, caplog):
    (seeds.FOLDER / "1.json").write_text(content)
    with pytest.raises(SystemExit):
        seeds.main([])
    assert "metrics/seeds/1.json is damaged" in caplog.text
    assert message in caplog.text
    assert not seeds.SUMMARY.exists()


def test_where_nothing_has_run_nothing_is_written(caplog):
    for path in seeds.FOLDER.iterdir():
        path.write_text('{"_run": {}}')
    with pytest.raises(SystemExit):
        seeds.main([])
    assert "metrics/seeds holds no run: `make seeds` makes them" in caplog.text
    assert not seeds.SUMMARY.exists()


def test_every_seed_is_a_study_whose_figures_are_found():
    assert (
        f"for seed in {' '.join(map(str, SEEDS))};" in (ROOT / "Makefile").read_text()
    )
    for seed in SEEDS:
        study = STUDIES[f"seeds-{seed}"]
        assert study.seed == seed
        assert [*study.results] == [maps_store.FIGURES]
        (target,) = study.results.values()
        assert target == seeds.FOLDER / f"{seed}.json"


def test_the_methods_are_of_the_default_grid_and_each_is_in_the_tables():
    grids = [
        yaml.safe_load((ROOT / f"stages/check/profiles/{name}.yaml").read_text())
        for name in ("default", "seeds")
    ]
    whole, studied = (grid["grid"]["methods"] for grid in grids)
    assert set(studied) <= set(whole)
    assert studied == grids[1]["maps"]["training"]["methods"]
