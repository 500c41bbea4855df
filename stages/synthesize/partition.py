"""Which subjects of a source of scans belong to a split."""

import hashlib
import logging
from collections.abc import Sequence

from stages.common.params import ParamsError
from stages.common.paths import SPLITS
from stages.synthesize.scans import Scan, ScanError
from stages.synthesize.settings import SynthesizeSettings

log = logging.getLogger("mendmri")


def scans_of(
    split: str, scans: Sequence[Scan], settings: SynthesizeSettings
) -> list[Scan]:
    """Choose a split's scans, by subject: all of a person's scans go together.

    Args:
        split: train, val or test.
        scans: all that the source holds, of any contrast.
        settings: the cohort.

    Raises:
        ScanError: two scans have one id, or a subject lies in two splits.
        ParamsError: the split would be empty or lack subjects.
    """
    _require_different(scans)
    wanted = [scan for scan in scans if scan.contrast in settings.contrasts]
    if not wanted:
        held = ", ".join(sorted({scan.contrast for scan in scans})) or "no scan"
        raise ParamsError(
            f"params.yaml: 'synthesize.contrasts' = {list(settings.contrasts)}, but "
            f"{_source(split, settings)} holds {held}"
        )
    if settings.scans.split == "published":
        subjects = _published(split, wanted, settings)
    else:
        subjects = _drawn(split, wanted, settings)
    chosen = set(subjects)
    return [scan for scan in wanted if scan.subject_id in chosen]


def _published(
    split: str, scans: Sequence[Scan], settings: SynthesizeSettings
) -> list[str]:
    """The first subjects, in sorted order, of the source's own split."""
    splits: dict[str, str] = {}
    without = sorted({scan.subject_id for scan in scans if scan.split is None})
    if without and all(scan.split is None for scan in scans):
        raise ParamsError(
            f"params.yaml: 'synthesize.scans.split' = published, but "
            f"{_source(split, settings)} does not say to which split "
            f"{without[0]} belongs: set it to drawn"
        )
    if without:
        log.warning(
            "%d subjects are in no published split and left out, such as %s",
            len(without),
            without[0],
        )
    for scan in scans:
        if scan.split is None:
            continue
        if splits.setdefault(scan.subject_id, scan.split) != scan.split:
            raise ScanError(
                f"{scan.files[0]}: subject {scan.subject_id} is in "
                f"{splits[scan.subject_id]} and in {scan.split}: no person may be in "
                "two splits; correct the source or set synthesize.scans.split to drawn"
            )
    mine = sorted(subject for subject, its in splits.items() if its == split)
    count = getattr(settings.subjects, split)
    _require_enough(split, count, len(mine), settings)
    return mine[:count]


def _drawn(
    split: str, scans: Sequence[Scan], settings: SynthesizeSettings
) -> list[str]:
    """Deal the subjects out, in an order that the seed draws.

    The order is that of a hash: people who come later change nobody else's place in
    it. Splits with a number take theirs in the order train, val, test; the one without
    takes the rest.
    """

    def place(subject: str) -> str:
        return hashlib.sha256(f"{settings.seed}/{subject}".encode()).hexdigest()

    left = sorted({scan.subject_id for scan in scans}, key=place)
    source = _source(split, settings)
    sharing = [name for name in SPLITS if getattr(settings.sources, name) == source]
    open_ended = [s for s in sharing if getattr(settings.subjects, s) is None]
    if len(open_ended) > 1:
        raise ParamsError(
            f"params.yaml: 'synthesize.subjects' is null for {' and '.join(open_ended)}"
            f": of the splits drawn from {source} only one may take the rest"
        )
    for name in sharing:
        count = getattr(settings.subjects, name)
        if count is None:
            continue
        _require_enough(name, count, len(left), settings)
        if name == split:
            return sorted(left[:count])
        left = left[count:]
    _require_enough(split, None, len(left), settings)
    return sorted(left)


def _require_enough(
    split: str, count: int | None, held: int, settings: SynthesizeSettings
) -> None:
    if held and held >= (count or 1):
        return
    asked = f"'synthesize.subjects.{split}' = {'null' if count is None else count}"
    raise ParamsError(
        f"params.yaml: {asked}, but {_source(split, settings)} has {held} subject(s) "
        f"left for {split} (synthesize.scans.split: {settings.scans.split}): ask for "
        "fewer, or download more"
    )


def _require_different(scans: Sequence[Scan]) -> None:
    found: dict[str, Scan] = {}
    for scan in scans:
        other = found.setdefault(scan.volume_id, scan)
        if other is not scan:
            raise ScanError(
                f"{scan.files[0]} and {other.files[0]} both are volume "
                f"{scan.volume_id}: give each subject an id of its own, or remove one"
            )


def _source(split: str, settings: SynthesizeSettings) -> str:
    source: str = getattr(settings.sources, split)
    return source
