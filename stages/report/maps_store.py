"""Figures that earlier runs of the maps have left, in whatever clone.

Input: `metrics/maps/figures.json` (scenario -> model -> figures).
"""

from collections.abc import Mapping

from stages.common import paths
from stages.report.study_cells import Key
from stages.report.study_store import check_numbers, is_current, items_of, read_json
from stages.report.values import Measures

FOLDER = paths.METRICS / "maps"
FIGURES = FOLDER / "figures.json"
_ENDS = ("", "_low", "_high")

# What is kept of a model's measures in a scenario (stages/report/README.md).
WITH_INTERVAL = (
    "psnr_scope_val",
    "psnr_scope_test",
    "ssim_scope_test",
    "nmse_scope_test",
    "agreement_scope_test",
    "agreement_hidden",
    "behind_oracle_scope_test_db",
    "healing_scope_val",
    "healing_scope_test",
    "healing_hidden",
    "healing_drop_scope_test",
    "healing_drop_hidden",
    "healing_agreement_scope_test",
    "healing_agreement_hidden",
    "membership_auroc",
    "damage_outside_db",
    "damage_vs_continue_db",
    "damage_vs_continue_contrast_db",
    "score",
    "score_truth",
)
SINGLE = ("damage_outside_worst_db", "gradient_steps", "cost_share")
NUMBERS = (*(f"{name}{end}" for name in WITH_INTERVAL for end in _ENDS), *SINGLE)


def read_store(digests: Mapping[Key, str]) -> dict[Key, Measures]:
    """All figures there are; none where no map has been run.

    Args:
        digests: cell -> that of the present tree. Figures of another one are out of
            date, and not looked into.

    Raises:
        ValueError: the file is damaged; names the place and what to do.
    """
    stored: dict[Key, Measures] = {}
    for scenario, models in items_of(FIGURES, read_json(FIGURES), "the file"):
        if scenario.startswith("_"):
            continue
        for model, figures in items_of(FIGURES, models, scenario):
            place = f"{scenario} > {model}"
            items_of(FIGURES, figures, place)
            if is_current(figures, (scenario, model), digests):
                check_numbers(FIGURES, figures, NUMBERS, place)
            stored[scenario, model] = figures
    return stored
