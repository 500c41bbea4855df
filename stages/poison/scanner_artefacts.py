"""Artefacts of a slice's own acquisition, drawn here and computed by TorchIO.

Each kind has a unit of its own for `severity` in [0, 1]:

- `ghosting`: share of the signal that is lost on every n-th phase-encoding line, n from
  2 to 5: copies of the head at multiples of the field of view / n.
- `motion`: 1 is up to 4 degrees and 3 % of the field of view in each of four movements;
  the head rests while the centre of k-space is read.
- `spike`: height of one wrong sample relative to the largest of k-space: stripes of one
  spatial frequency, as high as that share of the mean signal.
- `bias`: 1 is up to 1.0 for each coefficient of the log bias field, a cubic polynomial
  on [-1, 1].

Phase encoding runs along the columns, as in the sampling masks. TorchIO (Perez-Garcia
et al., Computer Methods and Programs in Biomedicine 208, 2021) works on magnitudes and
returns a real part; its absolute value is the magnitude here.
"""

from typing import Any

import numpy as np

KINDS = ("ghosting", "motion", "spike", "bias")

GHOSTS = (2, 5)
MAX_DEGREES = 4.0
MAX_SHIFT = 0.03
MAX_COEFFICIENT = 1.0
# Where motion may happen, as shares of the scan; not while the centre is read.
QUIET = ((0.08, 0.42), (0.58, 0.92))
MOVEMENTS = 2  # in each of these
# Distance of a spike from the centre of k-space, share of its width.
SPIKE_DISTANCE = (0.06, 0.3)
ORDER = 3
# Terms of a cubic in rows and columns without its constant, and those with slices:
# TorchIO counts the powers of the slice axis first.
PLANE_TERMS, SLICE_TERMS = 9, 10


def draw_artefact(kind: str, rng: np.random.Generator) -> dict[str, Any]:
    """Draw all that `add_artefact` needs but the severity; `any` draws the kind too."""
    if kind == "any":
        kind = KINDS[rng.integers(len(KINDS))]
    if kind == "ghosting":
        return {"kind": kind, "ghosts": int(rng.integers(GHOSTS[0], GHOSTS[1] + 1))}
    if kind == "motion":
        times = [rng.uniform(*quiet, MOVEMENTS) for quiet in QUIET]
        poses = rng.uniform(0.5, 1, (len(QUIET) * MOVEMENTS, 3))
        poses *= rng.choice([-1, 1], poses.shape)
        return {
            "kind": kind,
            "times": np.sort(np.concatenate(times)).tolist(),
            "poses": poses.tolist(),
        }
    if kind == "spike":
        distance, angle = rng.uniform(*SPIKE_DISTANCE), rng.uniform(0, np.pi)
        position = 0.5 + distance * np.array([np.sin(angle), np.cos(angle)])
        return {"kind": kind, "position": position.tolist()}
    return {"kind": "bias", "coefficients": rng.uniform(-1, 1, PLANE_TERMS).tolist()}


def add_artefact(
    image: np.ndarray, draw: dict[str, Any], severity: float
) -> np.ndarray:
    """Return the image with the drawn artefact.

    Args:
        image: (H, W) float32 magnitude.
        draw: from `draw_artefact`.
        severity: in the unit of its kind.

    Returns:
        (H, W) float32, not negative; its brightness is not matched.
    """
    # Imports PyTorch, which takes seconds: only where an artefact is computed.
    import torch
    import torchio

    # The origin in the middle of the plane: that is what TorchIO turns about.
    affine = np.eye(4)
    affine[1:3, 3] = -(np.array(image.shape) - 1) / 2
    plane = torch.from_numpy(image.astype(np.float32))[None, None]
    subject = torchio.Subject(image=torchio.ScalarImage(tensor=plane, affine=affine))
    # Not called as a function: that would draw from PyTorch's global random state.
    changed = _transform(draw, severity, image.shape).apply_transform(subject)
    values: np.ndarray = changed["image"].data[0, 0].numpy()
    return np.abs(values).astype(np.float32)


def _transform(draw: dict[str, Any], severity: float, shape: tuple[int, ...]) -> Any:
    """TorchIO's transform for an image that lies as (1, 1, H, W)."""
    import torchio

    if draw["kind"] == "ghosting":
        return torchio.Ghosting(
            num_ghosts=draw["ghosts"], axis=2, intensity=severity, restore=None
        )
    if draw["kind"] == "motion":
        poses = severity * np.array(draw["poses"])
        still = np.zeros(len(poses))
        shifts = MAX_SHIFT * poses[:, 1:] * np.array(shape)
        return torchio.Motion(
            degrees=np.stack([MAX_DEGREES * poses[:, 0], still, still], axis=1),
            translation=np.column_stack([still, shifts]),
            times=np.array(draw["times"]),
            image_interpolation="linear",
        )
    if draw["kind"] == "spike":
        return torchio.Spike(
            spikes_positions=np.array([[0.0, *draw["position"]]]), intensity=severity
        )
    terms = [severity * MAX_COEFFICIENT * value for value in draw["coefficients"]]
    return torchio.BiasField(
        coefficients=[0.0, *terms, *([0.0] * SLICE_TERMS)], order=ORDER
    )
