"""`dvc plots show` finds what dvc.yaml asks for."""

import csv
import json
from pathlib import Path

import pytest
import yaml
from dvc_render.vega_templates import TEMPLATES

ROOT = Path(__file__).resolve().parents[2]
PLOTS = [
    (path, settings)
    for entry in yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"]
    if isinstance(entry, dict)
    for path, settings in entry.items()
]


@pytest.mark.parametrize(("path", "settings"), PLOTS)
def test_columns_and_template_exist(path, settings):
    file = ROOT / path
    if not file.exists():
        pytest.skip("no results are committed here")
    with file.open(encoding="utf-8") as text:
        header = next(csv.reader(text))
    assert {settings["x"], settings["y"]} <= set(header)
    template = ROOT / ".dvc" / "plots" / f"{settings['template']}.json"
    if settings["template"] in {built_in.DEFAULT_NAME for built_in in TEMPLATES}:
        assert not template.exists()
        return
    assert "series" in header
    encoding = json.loads(template.read_text())["encoding"]
    assert encoding["color"]["field"] == "series"
