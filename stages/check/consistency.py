"""What one block of `params.yaml` says about another, beyond names."""

from typing import Any

from stages.check import discover
from stages.check.explain import did_you_mean, listed, shown

Params = dict[str, Any]
_SOURCES = "download.sources"


def problems(params: Params) -> list[str]:
    """One line for each pair of values that cannot go together.

    Values that are missing or of the wrong type are the schemas' business.
    """
    return [
        *_scopes(params),
        *_sources(params),
        *_anatomies(params),
        *_sampling(params),
    ]


def _scopes(params: Params) -> list[str]:
    """A misspelt contrast would be found only after the cohort is made."""
    made = _at(params, "synthesize", "contrasts")
    scanner = _at(params, "synthesize", "coil", "scanner")
    sources = _mapping(_at(params, "synthesize", "sources")).values()
    if not set(sources) <= set(discover.anatomies()):
        scanner = None  # scans have scanners of their own
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
    """Sources are files, and what is used is fetched."""
    fetched = _at(params, "download", "sources")
    if not isinstance(fetched, list):
        return []
    known = discover.plugins("download")
    found = [line for name in fetched for line in _unknown(name, known, _SOURCES)]
    if found:
        return found
    splits = _mapping(_at(params, "synthesize", "sources"))
    used = [(f"synthesize.sources.{split}", name) for split, name in splits.items()]
    used += [("artefacts", name) for name in _listed(params.get("artefacts"))]
    return [
        f"'{key}' = {shown(source)} is not in download.sources."
        f"{did_you_mean(str(source), known)} Allowed: {listed(fetched)}"
        for key, source in used
        if source not in fetched
    ]


def _anatomies(params: Params) -> list[str]:
    """What sources that are simulated from, or scans, need beside their name."""
    anatomies = discover.anatomies()
    sources = _mapping(_at(params, "synthesize", "sources"))
    contrasts = _at(params, "synthesize", "contrasts")
    simulated = {s: name for s, name in sources.items() if name in anatomies}
    found = [
        f"'synthesize.subjects.{split}' = None: say how many subjects are simulated "
        f"from {source}; only scans allow null"
        for split, source in simulated.items()
        if _at(params, "synthesize", "subjects", split) is None
    ]
    test = simulated.get("test")
    if test and test in (simulated.get("train"), simulated.get("val")):
        found.append(
            f"'synthesize.sources.test' = {shown(test)}: test must not share its "
            "anatomy with train or val"
        )
    for block in ("sequences", "snr"):
        given = _mapping(_at(params, "synthesize", block))
        missing = [c for c in _listed(contrasts) if c not in given]
        if simulated and missing:
            found.append(
                f"'synthesize.{block}' has no entry for {listed(missing)}, which "
                "synthesize.contrasts asks for"
            )
    return found


def _unknown(name: Any, known: list[str], key: str) -> list[str]:
    if name in known:
        return []
    hint = did_you_mean(str(name), known)
    return [f"'{key}' = {shown(name)} is unknown.{hint} Allowed: {listed(known)}"]


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


def _listed(block: Any) -> list[Any]:
    return block if isinstance(block, list) else []


def _mapping(block: Any) -> Params:
    return block if isinstance(block, dict) else {}
