"""The README shows what the pipeline wrote."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "metrics" / "tables" / "results.md"


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


def test_pictures_of_the_readme_are_there():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = [part.split(")")[0] for part in text.split("](metrics/figures/")[1:]]
    assert shown
    missing = [
        name for name in shown if not (RESULTS.parents[1] / "figures" / name).exists()
    ]
    assert not RESULTS.exists() or not missing
