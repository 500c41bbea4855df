"""Whether a cohort can be made: what is fetched against what is made of it.

Found here, a mistake costs nothing; found after a download, it costs hours.
"""

from collections.abc import Iterator
from typing import Any

from stages.check import discover
from stages.check.explain import at, did_you_mean, items, listed, mapping, shown

Params = dict[str, Any]


def problems(params: Params) -> list[str]:
    """One line for each pair of values that cannot go together."""
    fetched = at(params, "download", "sources")
    if not isinstance(fetched, list):
        return []
    known = discover.plugins("download")
    found = [
        f"'download.sources' = {shown(name)} is unknown."
        f"{did_you_mean(str(name), known)} Allowed: {listed(known)}"
        for name in fetched
        if name not in known
    ] or list(_not_fetched(params, fetched))
    if found:
        return found
    sources = mapping(at(params, "synthesize", "sources"))
    kinds = discover.sources("anatomy", "kspace", "images", "either")
    found = [
        f"'synthesize.sources.{split}' = {shown(source)} has no volumes for a split. "
        f"Allowed: {listed(name for name in fetched if name in kinds)}"
        for split, source in sources.items()
        if source not in kinds
    ]
    if found:
        return found
    return [*_simulated(params), *_scans(params), *_pool(params)]


def _not_fetched(params: Params, fetched: list[str]) -> Iterator[str]:
    splits = mapping(at(params, "synthesize", "sources"))
    used = [(f"synthesize.sources.{split}", name) for split, name in splits.items()]
    used += [("artefacts", name) for name in items(params.get("artefacts"))]
    for key, source in used:
        if source not in fetched:
            yield (
                f"'{key}' = {shown(source)} is not in download.sources."
                f"{did_you_mean(str(source), fetched)} Allowed: {listed(fetched)}"
            )


def _simulated(params: Params) -> Iterator[str]:
    """What subjects that are simulated need beside the name of their anatomy."""
    sources = mapping(at(params, "synthesize", "sources"))
    anatomies = discover.sources("anatomy")
    simulated = {split: name for split, name in sources.items() if name in anatomies}
    for split, source in simulated.items():
        if at(params, "synthesize", "subjects", split) is None:
            yield (
                f"'synthesize.subjects.{split}' = None: say how many subjects are "
                f"simulated from {source}; only scans allow null"
            )
    test = simulated.get("test")
    if test and test in (simulated.get("train"), simulated.get("val")):
        yield (
            f"'synthesize.sources.test' = {shown(test)}: test must not share its "
            "anatomy with train or val"
        )
    if simulated:
        yield from _for_each_contrast(params, "sequences")
    if simulated or set(sources.values()) & set(discover.sources("images")):
        yield from _for_each_contrast(params, "snr")


def _for_each_contrast(params: Params, block: str) -> Iterator[str]:
    given = mapping(at(params, "synthesize", block))
    contrasts = items(at(params, "synthesize", "contrasts"))
    missing = [contrast for contrast in contrasts if contrast not in given]
    if missing:
        yield (
            f"'synthesize.{block}' has no entry for {listed(missing)}, which "
            "synthesize.contrasts asks for"
        )


def _scans(params: Params) -> Iterator[str]:
    """Which subjects of a source of scans go to a split."""
    scans = discover.sources("kspace", "images", "either")
    sources = {
        split: name
        for split, name in mapping(at(params, "synthesize", "sources")).items()
        if name in scans
    }
    if at(params, "synthesize", "scans", "split") == "published":
        yield from _published(params, sources)
        return
    for source in sorted(set(sources.values())):
        open_ended = [
            split
            for split, name in sources.items()
            if name == source and at(params, "synthesize", "subjects", split) is None
        ]
        if len(open_ended) > 1:
            yield (
                f"'synthesize.subjects' is null for {listed(open_ended)}: of the "
                f"splits drawn from {source} only one may take the rest"
            )


def _published(params: Params, sources: dict[str, str]) -> Iterator[str]:
    for split, source in sources.items():
        if split not in discover.published_splits(source):
            yield (
                f"'synthesize.scans.split' = 'published', but {source} publishes no "
                f"split '{split}': set it to drawn"
            )
    for split, source in sources.items():
        sets = items(at(params, "download", source, "sets"))
        if sets and split not in sets:
            yield (
                f"'download.{source}.sets' = {shown(sets)} lacks {split}, which "
                f"synthesize.sources.{split} is made of"
            )


def _pool(params: Params) -> Iterator[str]:
    """What images with real artefacts are taken from, and who asks for them."""
    pool = items(params.get("artefacts"))
    sets = items(at(params, "download", "m4raw", "sets"))
    if "m4raw" in pool and "motion" not in sets:
        yield f"'download.m4raw.sets' = {shown(sets)} lacks motion: artefacts has m4raw"
    scans = items(at(params, "download", "mr_art", "acquisitions"))
    if "mr_art" in pool and not {"headmotion1", "headmotion2"} & set(scans):
        yield (
            f"'download.mr_art.acquisitions' = {shown(scans)} lacks headmotion1 and "
            "headmotion2: artefacts has mr_art"
        )
    for name, row in mapping(params.get("poisonings")).items():
        for key in ("artefact", "source"):
            if at(row, "settings", key) == "real" and not pool:
                yield (
                    f"'poisonings.{name}.settings.{key}' = 'real', but 'artefacts' "
                    "names no source: exbox1, m4raw or mr_art"
                )
