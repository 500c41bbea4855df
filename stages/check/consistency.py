"""What one block of `params.yaml` says about another, beyond names."""

from typing import Any

from stages.check import discover
from stages.check.explain import did_you_mean, listed, shown

Params = dict[str, Any]


def problems(params: Params) -> list[str]:
    """One line for each pair of values that cannot go together.

    Values that are missing or of the wrong type are the schemas' business.
    """
    return [*_scopes(params), *_sources(params), *_sampling(params)]


def _scopes(params: Params) -> list[str]:
    """A misspelt contrast would be found only after the cohort is made."""
    made = _at(params, "synthesize", "contrasts")
    scanner = _at(params, "synthesize", "coil", "scanner")
    found = []
    for name, row in _mapping(params.get("poisonings")).items():
        scope, settings = _mapping(_at(row, "scope")), _mapping(_at(row, "settings"))
        for key, value, allowed in (
            ("scope.contrast", scope.get("contrast"), made),
            ("settings.other", settings.get("other"), made),
            ("scope.scanner", scope.get("scanner"), [scanner] if scanner else None),
        ):
            if value is None or not isinstance(allowed, list) or value in allowed:
                continue
            found.append(
                f"'poisonings.{name}.{key}' = {shown(value)} is not in the cohort."
                f"{did_you_mean(str(value), allowed)} Allowed: {listed(allowed)}"
            )
    return found


def _sources(params: Params) -> list[str]:
    fetched = _at(params, "download", "sources")
    if not isinstance(fetched, list) or not set(fetched) <= set(discover.sources()):
        return []
    used = _mapping(_at(params, "synthesize", "sources"))
    return [
        f"'synthesize.sources.{split}' = {shown(source)} is not in download.sources. "
        f"Allowed: {listed(fetched)}"
        for split, source in used.items()
        if source not in fetched
    ]


def _sampling(params: Params) -> list[str]:
    width = _at(params, "synthesize", "matrix")
    share = _at(params, "sampling", "center_fraction")
    acceleration = _at(params, "sampling", "acceleration")
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


def _at(block: Any, *keys: str) -> Any:
    for key in keys:
        block = block.get(key) if isinstance(block, dict) else None
    return block


def _mapping(block: Any) -> Params:
    return block if isinstance(block, dict) else {}
