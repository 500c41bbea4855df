"""Known forget sets that leave fewer slices than they hold.

Every method learns from what is left: of less than half, it is no unlearning.
"""

from typing import Any

from stages.check.explain import at, mapping

MOST = 0.5


def problems(params: dict[str, Any]) -> list[str]:
    """One line for each scenario that forgets more than it retains.

    What is missing or of the wrong type is the schemas' business.
    """
    found = []
    for name, row in mapping(params.get("scenarios")).items():
        poisoned = at(params, "poisonings", str(at(row, "poisoning")), "share")
        share = _share(row, poisoned, at(params, "detect", "known"))
        if share is not None and share > MOST:
            key = "known" if at(row, "budget") is None else "budget"
            found.append(
                f"'scenarios.{name}.{key}' = {at(row, key)} makes a known forget set "
                f"of {share:.1%} of the training slices, larger than the retain set "
                f"that is left: take at most {MOST:.0%}, or retrain on slices you trust"
            )
    return found


def _share(row: Any, poisoned: Any, reported: Any) -> float | None:
    """Of the training slices, in the known forget set; None where it can't be told."""
    known, budget = at(row, "known"), at(row, "budget")
    mistakes = at(row, "false_positives") or 0.0
    try:
        if known is not None:
            return float(known * poisoned / (1 - mistakes))
        tips = poisoned * reported
        suspects = tips if budget == "as_known" else budget
        return float(suspects + (tips if at(row, "with_tips") else 0))
    except (TypeError, ValueError, ZeroDivisionError):
        return None
