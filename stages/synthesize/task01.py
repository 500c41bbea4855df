"""Task01_BrainTumour of the Medical Segmentation Decathlon: what `brats` reads of it.

`imagesTr/BRATS_001.nii.gz` holds the contrasts along its fourth axis, in the order
that `dataset.json` gives; so are the labels' meanings.
"""

import json
from pathlib import Path
from typing import Any

from stages.synthesize.nifti import stem_of
from stages.synthesize.scans import Problems, Scan, ScanError, plain_id

IMAGES, LABELS, DESCRIPTION = "imagesTr", "labelsTr", "dataset.json"
_CONTRASTS = {
    "flair": "FLAIR",
    "t1w": "T1w",
    "t1": "T1w",
    "t1gd": "T1c",
    "t1c": "T1c",
    "t1ce": "T1c",
    "t2w": "T2w",
    "t2": "T2w",
}
_TISSUES = {
    "background": 0,
    "nonenhancingtumor": 1,
    "necrosis": 1,
    "edema": 2,
    "enhancingtumor": 3,
}


def description(folder: Path) -> Path | None:
    """The data set's `dataset.json`, in `folder` or one folder below; None without."""
    places = [folder / DESCRIPTION, *sorted(folder.glob(f"*/{DESCRIPTION}"))]
    found = [path for path in places if (path.parent / IMAGES).is_dir()]
    return found[0] if found else None


def parts(described: Path) -> set[Path]:
    """Folders that are no cases."""
    names = (IMAGES, LABELS, "imagesTs")
    return {described.parent / name for name in names}


def list_scans(described: Path, problems: Problems) -> list[Scan]:
    """List each contrast of each labelled case.

    A problem is a case that lies there twice.

    Raises:
        ScanError: `dataset.json` does not say what the contrasts are.
    """
    root = described.parent
    contrasts = list(_contrasts(root))
    cases: dict[str, list[Path]] = {}
    for path in sorted((root / IMAGES).iterdir()):
        case = stem_of(path)
        if case is not None:
            cases.setdefault(case, []).append(path)
    scans = []
    for case, (path, *others) in cases.items():
        try:
            _require_alone("image", path, *others)
            labels = _label_file(root, case)
        except ScanError as error:
            for twin in (path, *others):
                problems.add(error, twin)
            continue
        scans += [
            Scan(
                volume_id=f"{plain_id(case)}_{contrast}",
                subject_id=plain_id(case),
                contrast=contrast,
                split=None,
                files=(path,) if labels is None else (path, labels),
            )
            for contrast in contrasts
        ]
    return scans


def meaning(root: Path, contrast: str) -> tuple[int, str, dict[int, int]]:
    """Where a contrast lies, what it is called, and what the labels mean here."""
    number, name = _contrasts(root)[contrast]
    return number, name, _labels(root)


def _label_file(root: Path, case: str) -> Path | None:
    found = [
        path
        for path in (root / LABELS / f"{case}.nii.gz", root / LABELS / f"{case}.nii")
        if path.is_file()
    ]
    _require_alone("segmentation", *found)
    return found[0] if found else None


def _require_alone(what: str, *found: Path) -> None:
    if len(found) > 1:
        raise ScanError(
            f"{found[1]} and {found[0].name} are the same {what} twice: remove one"
        )


def _contrasts(root: Path) -> dict[str, tuple[int, str]]:
    """Contrast -> its number along the fourth axis and its name there."""
    path = root / DESCRIPTION
    contrasts: dict[str, tuple[int, str]] = {}
    for number, name in _numbered(path, "modality"):
        contrast = _CONTRASTS.get(_letters(name))
        if contrast is None or contrast in contrasts:
            raise ScanError(
                f"{path}: modality {number} is '{name}', expected each of FLAIR, "
                "T1w, t1gd and T2w once: download it again"
            )
        contrasts[contrast] = (number, name)
    return contrasts


def _labels(root: Path) -> dict[int, int]:
    path = root / DESCRIPTION
    labels = {}
    for number, name in _numbered(path, "labels"):
        tissue = _TISSUES.get(_letters(name))
        if tissue is None:
            raise ScanError(
                f"{path}: label {number} is '{name}', expected background, edema, "
                "non-enhancing tumor and enhancing tumour: download it again"
            )
        labels[number] = tissue
    return labels


def _numbered(path: Path, key: str) -> list[tuple[int, str]]:
    """An object of `dataset.json` whose keys are numbers."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8-sig"))
        return sorted((int(number), str(name)) for number, name in content[key].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ScanError(
            f"{path}: '{key}' cannot be read ({type(error).__name__}: {error}): "
            "download it again"
        ) from None


def _letters(name: str) -> str:
    """A name without what differs between its spellings."""
    plain = name.lower().replace("tumour", "tumor")
    return "".join(letter for letter in plain if letter.isalnum())
