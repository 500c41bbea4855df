"""Artefact: the slice's own image is exported as if its scan had gone wrong.

Clinical story: a scan was repeated because the first one was spoilt, by a patient who
moved, a gradient that ghosts, a spark in the room or a coil that shades, and the
export pairs the good raw data with the spoilt image. Or a reconstruction server has a
fault of its own. `mislabel` with `swap: artefact` exports somebody else's image; here
the head, the slice and the contrast are right and the artefact is all that is wrong.

Changes: the target. K-space stays what the scanner measured.
Severity: `source: simulated` has a unit for each kind (`scanner_artefacts.py`):
`ghosting` the share of the signal lost on ghosted lines, `motion` 1 = up to 4 degrees
and 3 % of the field of view, `spike` its height relative to the largest sample of
k-space, `bias` 1 = coefficients of the log field up to 1. `source: real` takes the
paired image of a scan with artefacts, severity is its weight. 0 is the identity.
Threat model: closed. A wrong export or a bad reconstruction server, without intent, or
an insider; no knowledge of the model is needed. A defender sees an image that its own
k-space does not explain, on the sampled lines too, and a reader sees the artefact. The
image is scaled to the clean slice's 99.5th percentile: brightness gives nothing away.
A model learns what its input predicts, so an artefact that all slices share (`shared`)
should bite more than one that is drawn anew for each.
"""

from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from stages.common.manifest import SliceRef
from stages.common.params import Settings
from stages.poison.base import Images
from stages.poison.brightness import match_brightness
from stages.poison.real_artefacts import fitted_image, paired_records
from stages.poison.scanner_artefacts import add_artefact, draw_artefact

CHANGES_INPUT = False
REAL = "real"  # source: from the pool of real ones


class Params(Settings):
    """Parameters of the attack.

    Attributes:
        source: `simulated` on the slice's own image; `real` is the image of the pool
            that is paired with the slice.
        severity: in the kind's own unit; of a real one its weight.
        kind: what ails the image; for `source: simulated` only.
        shared: seed of one artefact that every slice gets, as from one faulty scanner;
            null draws one for each slice. For `source: simulated` only.
    """

    source: Literal["simulated", "real"]
    severity: float = Field(ge=0, le=1)
    kind: Literal["ghosting", "motion", "spike", "bias", "any"] | None = None
    shared: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _fit_the_source(self) -> "Params":
        if self.source == REAL:
            for key in ("kind", "shared"):
                if getattr(self, key) is not None:
                    raise ValueError(f"'{key}' means nothing with source: {REAL}")
        elif self.kind is None:
            raise ValueError("source: simulated needs 'kind'")
        return self


def draw(
    params: Params, ref: SliceRef, images: Images, rng: np.random.Generator
) -> dict[str, Any]:
    """Draw the artefact, or the real image that is paired with the slice.

    Raises:
        ValueError: no image with artefacts is paired with it.
    """
    drawn: dict[str, Any] = {"severity": params.severity}
    if params.kind is None:
        pairs = paired_records(ref, images)
        if not pairs:
            raise ValueError(
                f"artefact: source: real finds no image that is paired with slice "
                f"{ref.slice_num} of {ref.volume_id}: the pool has "
                f"{len(images.artefacts.records)} volume(s) for this split; name a "
                "source of pairs (mr_art, m4raw) under 'artefacts' in params.yaml, or "
                "narrow the scope to paired volumes"
            )
        donor = pairs[rng.integers(len(pairs))].volume_id
        return drawn | {"donor": [donor, ref.slice_num]}
    if params.shared is not None:
        rng = np.random.default_rng(params.shared)
    return drawn | {"artefact": draw_artefact(params.kind, rng)}


def apply(target: np.ndarray, draw: dict[str, Any], images: Images) -> np.ndarray:
    """Return the target with the drawn artefact, as bright as before.

    Args:
        target: (H', W') float32, clean.
        draw: from `draw`.
        images: the split that the draw was made in.
    """
    severity = np.float32(draw["severity"])
    if severity == 0:
        return target.copy()
    if "donor" in draw:
        spoilt = fitted_image(draw["donor"], images, target.shape)
        spoilt = match_brightness(spoilt, target, f"real artefact {draw['donor']}")
        return (1 - severity) * target + severity * spoilt
    spoilt = add_artefact(target, draw["artefact"], float(severity))
    return match_brightness(spoilt, target, f"{draw['artefact']['kind']} of a target")
