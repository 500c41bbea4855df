"""The studies: what each runs, and where its results are."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from stages.common import paths

# Rows of `maps` in the profile of that name.
MAPS = (
    *("known", "from_scratch", "seeds", "false_positives"),
    *("attacks", "found", "held_out"),
)
# What is added to the seeds of the default grid.
SEEDS = (0, 1, 2, 3)


class Study(NamedTuple):
    """What a study runs.

    Attributes:
        profile: of its copy of the project.
        summary: module that says with `--needs` which stages each part of the study
            needs, none where its results are there, and with `--commit` sums up what
            has been run, finished or not.
        results: files that it reads and writes -> where the project keeps them.
        seed: added to the seeds of training and unlearning.
    """

    profile: str
    summary: str
    results: Mapping[Path, Path]
    seed: int = 0


def _in_place(files: Iterable[Path]) -> dict[Path, Path]:
    return {path: path for path in files}


def _results_of_maps() -> tuple[Path, ...]:
    folder = paths.METRICS / "maps"
    views = (f"{name}{kind}" for name in MAPS for kind in (".md", ".png", "_cost.png"))
    return folder / "figures.json", *(folder / view for view in views)


def _results_of_potency() -> tuple[Path, ...]:
    folder = paths.METRICS / "studies"
    views = (
        *("potency.md", "potency.png"),
        *("detection.json", "detection.md", "detection.png"),
    )
    return paths.METRICS / "potency.json", *(folder / view for view in views)


STUDIES = {
    "maps": Study("maps", "stages.report.maps", _in_place(_results_of_maps())),
    "potency": Study(
        "potency", "stages.report.potency", _in_place(_results_of_potency())
    ),
    # A copy each, whose figures are summed up together (stages/report/seeds.py).
    **{
        f"seeds-{seed}": Study(
            "seeds",
            "stages.report.maps",
            {
                paths.METRICS / "maps" / "figures.json": (
                    paths.METRICS / "seeds" / f"{seed}.json"
                )
            },
            seed,
        )
        for seed in SEEDS
    },
}
