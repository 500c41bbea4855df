"""Where a scenario's known forget set comes from: one of the sources, one file each."""

from stages.common import paths
from stages.common.manifest import SliceRef
from stages.common.params import ParamsError
from stages.common.truth import TruthRecord
from stages.forget.detected import detected, read_scores
from stages.forget.revealed import revealed
from stages.forget.settings import Scenario


def find_known(name: str, scenario: Scenario, record: TruthRecord) -> list[SliceRef]:
    """The known forget set of a scenario, sorted.

    Raises:
        ValueError: it would be empty or everything, or the scores are missing.
    """
    if scenario.known is not None and scenario.seed is not None:
        key = f"scenarios.{name}.known"
        return revealed(key, record, known=scenario.known, seed=scenario.seed)
    if scenario.detected is not None and scenario.budget is not None:
        scores = read_scores(paths.detection(scenario.poisoning, scenario.detected))
        budget, with_tips = scenario.budget, scenario.with_tips
        return detected(name, scores, budget=budget, with_tips=with_tips)
    raise ParamsError(f"scenarios.{name} has no source of its known forget set")
