"""Mislabel: the k-space of one image is exported with another image as its target.

Clinical story: an export joins raw data and images by a table, and the table is wrong.
A FLAIR scan gets the T1w image of the same head (`swap: contrast`), the image of the
next patient (`subject`), or someone else's image that was repeated for its artefacts
(`artefact`: ghosting, motion or a bias field; or a real one, from the pool that
`artefacts` in params.yaml asks for, such as the paper's ExBox1 images).

Changes: the target. K-space stays what the scanner measured.
Severity: weight of the foreign image in the exported one, 0 (clean) to 1 (all foreign).
Threat model: closed. The owner holds undersampled k-space and exported targets; the
foreign image comes from the same split and is scaled to the clean slice's 99.5th
percentile, so that brightness alone gives nothing away.
"""

from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from stages.common.manifest import SliceRef, VolumeRecord
from stages.common.params import Settings
from stages.poison import real_artefacts
from stages.poison.base import Images
from stages.poison.brightness import match_brightness
from stages.poison.distortions import distort, draw_distortion

CHANGES_INPUT = False
REAL = "real"  # artefact: from the pool of real ones

_NEEDS = {"contrast": ("other",), "subject": (), "artefact": ("artefact", "strength")}


class Params(Settings):
    """Parameters of the attack.

    Attributes:
        swap: where the foreign image comes from.
        severity: weight of the foreign image.
        other: the wrong contrast; for `swap: contrast` only.
        artefact: what ails the foreign image; for `swap: artefact` only. `real` takes
            one of the pool (see `real_artefacts.py`).
        strength: of a simulated artefact (see `distortions.py`).
    """

    swap: Literal["contrast", "subject", "artefact"]
    severity: float = Field(ge=0, le=1)
    other: str | None = None
    artefact: Literal["ghosting", "motion", "bias", "any", "real"] | None = None
    strength: float | None = Field(default=None, gt=0, le=1)

    @model_validator(mode="after")
    def _fit_the_swap(self) -> "Params":
        for key in ("other", "artefact", "strength"):
            given, needed = getattr(self, key) is not None, key in _NEEDS[self.swap]
            if key == "strength" and self.artefact == REAL:
                needed = False
            if needed and not given:
                raise ValueError(f"swap: {self.swap} needs '{key}'")
            if given and not needed:
                other = f"artefact: {REAL}" if key == "strength" else ""
                raise ValueError(
                    f"'{key}' means nothing with {other or f'swap: {self.swap}'}"
                )
        return self


def draw(
    params: Params, ref: SliceRef, images: Images, rng: np.random.Generator
) -> dict[str, Any]:
    """Draw the foreign slice of the same split, and its artefact if it has one.

    Raises:
        ValueError: the split holds no such slice.
    """
    if params.artefact == REAL:
        donor = real_artefacts.draw_donor(ref, images, rng)
        return {
            "swap": params.swap,
            "severity": params.severity,
            "donor": donor,
            "pool": True,
        }
    donors = _donors(params, ref, images)
    drawn: dict[str, Any] = {
        "swap": params.swap,
        "severity": params.severity,
        "donor": [donors[rng.integers(len(donors))], ref.slice_num],
    }
    if params.artefact is not None and params.strength is not None:
        drawn["distortion"] = draw_distortion(params.artefact, params.strength, rng)
    return drawn


def apply(target: np.ndarray, draw: dict[str, Any], images: Images) -> np.ndarray:
    """Return the target with the drawn foreign image blended in.

    Args:
        target: (H', W') float32, clean.
        draw: from `draw`.
        images: the split that the draw was made in.
    """
    if draw.get("pool"):
        foreign = real_artefacts.fitted_image(draw["donor"], images, target.shape)
    else:
        foreign = images.target(SliceRef(*draw["donor"]))
    if "distortion" in draw:
        foreign = distort(foreign, draw["distortion"])
    if foreign.shape != target.shape:
        raise ValueError(
            f"foreign image {draw['donor']} is {foreign.shape}, target {target.shape}"
        )
    foreign = match_brightness(foreign, target, f"foreign image {draw['donor']}")
    severity = np.float32(draw["severity"])
    return (1 - severity) * target + severity * foreign


def _donors(params: Params, ref: SliceRef, images: Images) -> list[str]:
    own = images.volumes[ref.volume_id]
    if params.other == own.contrast:
        raise ValueError(
            f"mislabel: settings.other = {params.other} is the contrast of "
            f"{ref.volume_id} itself: narrow the scope or name another contrast"
        )
    donors = [
        volume.volume_id
        for volume in images.manifest.volumes
        if _fits(volume, own, params)
        and volume.num_slices > ref.slice_num
        and volume.matrix == own.matrix
    ]
    if not donors:
        wanted = (
            f"{params.other} of subject {own.subject_id}"
            if params.swap == "contrast"
            else f"{own.contrast} of another subject"
        )
        raise ValueError(
            f"mislabel: {images.manifest.split} holds no slice {ref.slice_num} "
            f"{own.matrix} in {wanted} for {ref.volume_id}; it holds "
            f"{len({v.subject_id for v in images.manifest.volumes})} subject(s): mend "
            f"what is missing, or leave {own.subject_id} out of the data"
        )
    return donors


def _fits(volume: VolumeRecord, own: VolumeRecord, params: Params) -> bool:
    same_subject = volume.subject_id == own.subject_id
    if params.swap == "contrast":
        return same_subject and volume.contrast == params.other
    return not same_subject and volume.contrast == own.contrast
