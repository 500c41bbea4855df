"""Consistent: the image is manipulated first, and k-space is made from it.

Clinical story: a scan is forged, or computed from a manipulated image, and enters the
training set whole. What was done to the image (`manipulation`): a tumour that nobody
has (`lesion`), structure removed (`erase`), an artefact that the raw data then have too
(`artefact`), another contrast of the same head under this one's name (`contrast`).

Changes: target and k-space. With c the coil images of the clean k-space and m the
manipulated magnitude, the k-space is that of c / rss(c) * m: coil sensitivities, phase
and matrix stay, and its RSS is the exported target to 1e-5. Outside the target's crop
the image stays. Columns that were never acquired get signal too; the loader masks them.

Severity, 0 (clean) to 1: of `lesion` the share of its opacity and mass effect
(`stages/common/lesions.py`: grey values relative to the brain's median), of `erase` the
weight of the smooth fill, of `artefact` the kind's own unit (`scanner_artefacts.py`),
of `contrast` the weight of the other image.
Threat model: an insider or adversary with write access to the raw data, or a supplier
of synthetic scans; no knowledge of the model is needed. Closed or open, a comparison of
target and own k-space finds nothing, and a model's residual has little to find: each
pair is a correct example of the physics. What is left is the image itself (for a
classifier or a reader) and noise that rises and falls with the change. For the same
reason it teaches little that is wrong: only what the network fills in on unsampled
lines can bend.
"""

from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from stages.common.lesions import LesionSettings, add_lesion, draw_lesion
from stages.common.manifest import SliceRef
from stages.common.params import Settings
from stages.poison import artefact, mislabel
from stages.poison.base import Images
from stages.poison.erasing import draw_patch, erase_patch
from stages.poison.fourier import with_magnitude

CHANGES_INPUT = True
MEASURED_ON: Literal["clean"] = "clean"

_NEEDS = {
    "lesion": "lesion",
    "erase": "radius",
    "artefact": "kind",
    "contrast": "other",
}


class Params(Settings):
    """Parameters of the attack; each manipulation has one of its own.

    Attributes:
        manipulation: what is done to the image.
        severity: in the manipulation's own unit.
        lesion: sizes of `manipulation: lesion`.
        radius: of the patch of `manipulation: erase`, in widths of the head (0.1 of
            150 mm: 15 mm).
        kind: of `manipulation: artefact`.
        other: the contrast that takes this one's place in `manipulation: contrast`.
    """

    manipulation: Literal["lesion", "erase", "artefact", "contrast"]
    severity: float = Field(ge=0, le=1)
    lesion: LesionSettings | None = None
    radius: float | None = Field(default=None, gt=0, le=0.3)
    kind: Literal["ghosting", "motion", "spike", "bias", "any"] | None = None
    other: str | None = None

    @model_validator(mode="after")
    def _fit_the_manipulation(self) -> "Params":
        for manipulation, key in _NEEDS.items():
            given = getattr(self, key) is not None
            if manipulation == self.manipulation and not given:
                raise ValueError(f"manipulation: {manipulation} needs '{key}'")
            if manipulation != self.manipulation and given:
                raise ValueError(
                    f"'{key}' means nothing with manipulation: {self.manipulation}"
                )
        return self


def draw(
    params: Params, ref: SliceRef, images: Images, rng: np.random.Generator
) -> dict[str, Any]:
    """Draw what is done to the image of a slice.

    Raises:
        ValueError: the manipulation does not fit the slice.
    """
    severity = params.severity
    drawn: dict[str, Any] | None
    if params.lesion is not None:
        contrast = images.volumes[ref.volume_id].contrast
        drawn = draw_lesion(
            rng, images.target(ref), contrast, params.lesion, severity=severity
        )
    elif params.radius is not None:
        drawn = draw_patch(rng, images.target(ref), params.radius)
    elif params.kind is not None:
        spoil = artefact.Params(source="simulated", severity=severity, kind=params.kind)
        drawn = artefact.draw(spoil, ref, images, rng)
    else:
        swap = mislabel.Params(swap="contrast", severity=severity, other=params.other)
        drawn = mislabel.draw(swap, ref, images, rng)
    if drawn is None:
        raise ValueError(
            f"consistent: manipulation: {params.manipulation} has no room in the brain "
            f"of slice {ref.slice_num} of {ref.volume_id}: make it smaller, or leave "
            "the subject out of the scope"
        )
    return {
        "manipulation": params.manipulation,
        "severity": severity,
        "drawn": drawn,
    }


def apply(target: np.ndarray, draw: dict[str, Any], images: Images) -> np.ndarray:
    """Return the manipulated image.

    Args:
        target: (H', W') float32, clean.
        draw: from `draw`.
        images: the split that the draw was made in.
    """
    if draw["severity"] == 0:
        return target.copy()
    manipulation, drawn = draw["manipulation"], draw["drawn"]
    if manipulation == "lesion":
        return add_lesion(target, drawn)
    if manipulation == "erase":
        return erase_patch(target, drawn, draw["severity"])
    source = artefact if manipulation == "artefact" else mislabel
    return source.apply(target, drawn, images)


def apply_input(
    kspace: np.ndarray, target: np.ndarray, draw: dict[str, Any], images: Images
) -> np.ndarray:
    """Return the k-space whose image is the manipulated one.

    Args:
        kspace: (coils, H, W) complex64, clean, centred, orthonormal FFT.
        target: (H', W') float32, clean.
        draw: from `draw`.
        images: the split that the draw was made in.

    Returns:
        (coils, H, W) complex64.
    """
    if draw["severity"] == 0:
        return kspace.copy()
    return with_magnitude(kspace, apply(target, draw, images))
