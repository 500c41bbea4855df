"""Where a scenario's known forget set comes from: one of the sources, one file each."""

from collections.abc import Iterator

from stages.common import paths
from stages.common.manifest import SliceRef
from stages.common.params import ParamsError
from stages.common.truth import TruthRecord
from stages.common.volume import open_volume
from stages.forget.detected import detected, read_scores
from stages.forget.revealed import reported_by_mistake, revealed
from stages.forget.settings import Scenario


def find_known(name: str, scenario: Scenario, record: TruthRecord) -> list[SliceRef]:
    """The known forget set of a scenario, sorted.

    Raises:
        ValueError: it would be empty or everything, or the scores are missing.
    """
    if scenario.known is not None and scenario.seed is not None:
        key = f"scenarios.{name}"
        known = revealed(
            f"{key}.known", record, known=scenario.known, seed=scenario.seed
        )
        mistaken = reported_by_mistake(
            f"{key}.false_positives",
            _clean_slices(record),
            share=scenario.false_positives,
            beside=len(known),
            seed=scenario.seed,
        )
        return sorted(known + mistaken)
    if scenario.detected is not None and scenario.budget is not None:
        scores = read_scores(paths.detection(scenario.poisoning, scenario.detected))
        budget, with_tips = scenario.budget, scenario.with_tips
        return detected(name, scores, budget=budget, with_tips=with_tips)
    raise ParamsError(f"scenarios.{name} has no source of its known forget set")


def _clean_slices(record: TruthRecord) -> Iterator[SliceRef]:
    """Training slices that were exported as they were."""
    poisoned = {entry.ref for entry in record.poisoned}
    for path in sorted(paths.export(record.poisoning).glob("*.h5")):
        with open_volume(path, made_by=f"poison@{record.poisoning}") as file:
            count = len(file["reconstruction_rss"])
        refs = (SliceRef(path.stem, number) for number in range(count))
        yield from (ref for ref in refs if ref not in poisoned)
