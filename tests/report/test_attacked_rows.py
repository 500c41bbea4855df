"""Rows of an attack on the input: which of the two inputs counts where."""

import pandas as pd
import pytest

from stages.common import paths
from stages.common.manifest import SliceRef
from stages.report.bootstrap import Bootstrap
from stages.report.measures import Model
from stages.report.panels import _psnr, _rows
from stages.report.rows import (
    read_attacked_rows,
    read_membership,
    read_model,
    read_slice_rows,
)
from stages.report.settings import BootstrapSettings
from tests.report.made_up import MadeUpGrid, params, save

BOOTSTRAP = Bootstrap(BootstrapSettings(resamples=200, seed=1))
KEY = ["volume_id", "slice_num"]


@pytest.fixture
def scenario(tmp_path, monkeypatch):
    """A made-up scenario whose twins were run on attacked k-space too: 9 dB less."""
    monkeypatch.chdir(tmp_path)
    grid = MadeUpGrid(params({"mislabel-30": 0.3}))
    grid.write()
    scenario = next(s for s in grid.plan.scenarios if s.scoped)
    for cell in scenario.cells.values():
        path = paths.twin_rows(cell)
        if "/" not in cell:
            path = paths.twin_rows(f"references/{scenario.poisoning}")
        rows = pd.read_csv(path)
        if "attacked" in set(rows["input"]):
            continue
        other = rows.assign(
            input="attacked", psnr=rows.psnr - 9, agreement_num=7.0, ssim_vs_poison=0.05
        )
        save(pd.concat([rows, other]), path)
    return scenario


def mean(scenario, membership, measure, split):
    rows = read_model(scenario, scenario.cells["none"], membership)
    return Model(rows, membership, BOOTSTRAP).mean(measure, split).value


def test_the_scope_is_measured_on_the_attacked_input(scenario):
    on_clean = read_membership(scenario)
    on_attacked = on_clean._replace(measured_on="attacked")
    for split in ("scope_test", "forget", "forget_hidden", "scope_val"):
        clean = mean(scenario, on_clean, "psnr", split)
        assert mean(scenario, on_attacked, "psnr", split) == pytest.approx(clean - 9)
        assert mean(scenario, on_attacked, "agreement", split) == pytest.approx(0.7)
        assert mean(scenario, on_clean, "agreement", split) < 0.6
    for split in ("test", "val", "retain", "outside_test"):
        clean = mean(scenario, on_clean, "psnr", split)
        assert mean(scenario, on_attacked, "psnr", split) == pytest.approx(clean)


def test_a_consistent_attack_s_own_input_is_told_apart(scenario):
    on_clean = read_membership(scenario)
    own = mean(scenario, on_clean, "agreement_own", "scope_test")
    assert own == pytest.approx(0.7)


@pytest.mark.parametrize("on", ["clean", "attacked"])
def test_the_score_takes_the_input_that_was_exported(scenario, on):
    membership = read_membership(scenario)._replace(measured_on=on)
    rows = read_model(scenario, scenario.cells["none"], membership)
    forget = membership.splits["forget"]
    only_poison = Model(rows, membership, BOOTSTRAP).score(forget, forget, alpha=1.0)
    assert only_poison.value == pytest.approx(0.05)


def test_attacked_rows_that_are_incomplete_are_refused(scenario):
    path = paths.twin_rows(scenario.cells["none"])
    rows = pd.read_csv(path)
    poisoned = min(read_membership(scenario).splits["forget"])
    lost = rows["input"].eq("attacked") & rows["volume_id"].eq(poisoned.volume_id)
    save(rows[~(lost & rows["slice_num"].eq(poisoned.slice_num))], path)
    with pytest.raises(ValueError, match=poisoned.volume_id):
        read_model(scenario, scenario.cells["none"], read_membership(scenario))


def test_every_clean_slice_is_outside_of_a_back_door(scenario):
    folder = paths.answers(scenario.name)
    record = folder / "record.json"
    record.write_text(
        record.read_text().replace(
            '"measured_on": "clean"', '"measured_on": "attacked"'
        )
    )
    membership = read_membership(scenario)
    assert membership.measured_on == "attacked"
    assert membership.splits["outside_test"] == membership.splits["test"]
    assert membership.splits["scope_test"] < membership.splits["test"]


def test_the_panels_name_the_psnr_of_what_they_show(scenario):
    ref = next(
        SliceRef(*ref) for ref in sorted(read_membership(scenario).splits["scope_test"])
    )
    clean = read_slice_rows(scenario.cells["none"]).loc[[tuple(ref)], "psnr"].iloc[0]
    attacked = read_attacked_rows(scenario.poisoning, scenario.cells["none"])
    shown = attacked.loc[[tuple(ref)], "psnr"].iloc[0]
    assert shown == pytest.approx(clean - 9)
    assert _psnr(scenario, "none", ref) == f"{shown:.1f} dB"
    assert _psnr(scenario, "oracle", ref).endswith(" dB")
    assert "from attacked k-space" in _rows(scenario)[0].title
