"""What one block of `params.yaml` says about another, beyond names."""

from typing import Any

from stages.check import cohort, discover, forget_sets, maps, tuning
from stages.check.excerpt import excerpt
from stages.check.explain import at, did_you_mean, items, listed, mapping, shown

Params = dict[str, Any]


def problems(params: Params) -> list[str]:
    """One line for each pair of values that cannot go together.

    Values that are missing or of the wrong type are the schemas' business.
    """
    return [
        *_scopes(params),
        *cohort.problems(params),
        *_sampling(params),
        *_reports(params),
        *forget_sets.problems(params),
        *tuning.problems(params),
        *maps.problems(params),
    ]


def _reports(params: Params) -> list[str]:
    """Where no slice is reported, nothing learns from reports or counts them."""
    if at(params, "detect", "known") != 0:
        return []
    found = [
        f"'scenarios.{name}.budget' = 'as_known' is none, since 'detect.known' = 0 "
        "reports no slice: give a share of the training slices"
        for name, row in mapping(params.get("scenarios")).items()
        if at(row, "budget") == "as_known"
    ]
    for axis, is_open in (("detectors", False), ("open_detectors", True)):
        chosen = items(at(params, "grid", axis))
        learns = [
            name
            for name in discover.detectors(is_open=is_open)
            if name in chosen and excerpt(f"stages.detect.{name}", "NEEDS_KNOWN")
        ]
        if learns:
            found.append(
                f"'detect.known' = 0 reports no slice, and {' and '.join(learns)} of "
                f"'grid.{axis}' can learn from nothing else: raise it above 0, or take "
                "them out"
            )
    return found


def _scopes(params: Params) -> list[str]:
    """A misspelt contrast would be found only after the cohort is made."""
    made = at(params, "synthesize", "contrasts")
    scanners = list(mapping(at(params, "synthesize", "scanners"))) or None
    sources = mapping(at(params, "synthesize", "sources")).values()
    if not set(sources) <= set(discover.sources("anatomy")):
        scanners = None  # scans have scanners of their own
    found = []
    for name, row in mapping(params.get("poisonings")).items():
        scope, settings = mapping(at(row, "scope")), mapping(at(row, "settings"))
        for key, value, allowed in (
            ("scope.contrast", scope.get("contrast"), made),
            ("settings.other", settings.get("other"), made),
            ("scope.scanner", scope.get("scanner"), scanners),
        ):
            if value is None or not isinstance(allowed, list) or value in allowed:
                continue
            found.append(
                f"'poisonings.{name}.{key}' = {shown(value)} is not in the cohort."
                f"{did_you_mean(str(value), allowed)} Allowed: {listed(allowed)}"
            )
    return found


def _sampling(params: Params) -> list[str]:
    width = at(params, "synthesize", "matrix")
    share = at(params, "sampling", "center_fraction")
    acceleration = at(params, "sampling", "acceleration")
    numbers = (width, share, acceleration)
    if not all(isinstance(number, int | float) and number > 0 for number in numbers):
        return []
    centre = round(width * share)
    if centre < 1:
        return [
            f"'sampling.center_fraction' = {share} keeps no centre column of the "
            f"{width} of 'synthesize.matrix': use at least {1 / width:.3f}"
        ]
    if centre > width / acceleration:
        return [
            f"'sampling.acceleration' = {acceleration} leaves fewer of {width} columns "
            f"than the {centre} centre columns that 'sampling.center_fraction' = "
            f"{share} keeps"
        ]
    return []
