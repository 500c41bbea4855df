"""Rigid registration of two scans of one head."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stages.synthesize.nifti import as_magnitude, read_nifti
from stages.synthesize.scans import ScanError

if TYPE_CHECKING:
    import SimpleITK

_VOXEL = 2.0  # mm, of the images that are compared
_SHRINK = (4, 2, 1)
_SMOOTH = (4.0, 2.0, 1.0)  # deviation, mm
_BINS = 32
_SHARES = (1.0, 0.5, 0.2)  # of the voxels of a level that the measure looks at
_SEED = 1
_STEP, _LEAST_STEP, _STEPS = 2.0, 1e-3, 100  # mm, mm, -
_FARTHEST = 60.0  # mm, shift of the head's centre
_WIDEST = 45.0  # degrees


def register_rigidly(moving: Path, fixed: Path) -> np.ndarray:
    """Move one scan of a head onto another.

    Mutual information at three resolutions finds rotation and shift. The seed is fixed
    and one thread does the work: the same files give the same bytes.

    Args:
        moving: NIfTI of the scan that is moved.
        fixed: NIfTI of the scan that stays.

    Returns:
        (X, Y, Z) float32, RAS, the moved scan on the grid that `read_nifti` gives
        `fixed`; zero where it was not measured.

    Raises:
        ScanError: a file is damaged, or they cannot be brought together.
    """
    import SimpleITK

    still, moved = (_as_itk(path) for path in (fixed, moving))
    with _one_thread():
        transform = _find(still, moved, moving, fixed)
        resampler = SimpleITK.ResampleImageFilter()
        resampler.SetReferenceImage(still)
        resampler.SetTransform(transform)
        # Linear interpolation would blur: not what motion does.
        resampler.SetInterpolator(SimpleITK.sitkBSpline)
        result = SimpleITK.GetArrayFromImage(resampler.Execute(moved))
    return np.maximum(np.ascontiguousarray(result.transpose(2, 1, 0)), 0)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Several add in another order each time, also in filters that have no setting."""
    from SimpleITK import ProcessObject

    before = ProcessObject.GetGlobalDefaultNumberOfThreads()
    ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def _find(
    still: "SimpleITK.Image", moved: "SimpleITK.Image", moving: Path, fixed: Path
) -> "SimpleITK.Euler3DTransform":
    transform = _centred(still, moved)
    start = np.array(transform.GetTranslation())
    try:
        _method(transform).Execute(_coarse(still), _coarse(moved))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise ScanError(
            f"{moving}: cannot be registered to {fixed.name} ({reason}): are they of "
            "one person? remove it"
        ) from None
    _require_plausible(transform, start, f"{moving}: registration to {fixed.name}")
    return transform


def _as_itk(path: Path) -> "SimpleITK.Image":
    import SimpleITK

    volume, spacing = read_nifti(path)
    image = SimpleITK.GetImageFromArray(as_magnitude(volume, path).transpose(2, 1, 0))
    image.SetSpacing(spacing)
    return image


def _coarse(image: "SimpleITK.Image") -> "SimpleITK.Image":
    """Mean of neighbours: twice as fine a grid takes ten times as long."""
    import SimpleITK

    factors = [max(1, round(_VOXEL / size)) for size in image.GetSpacing()]
    return SimpleITK.BinShrink(image, factors)


def _centred(
    still: "SimpleITK.Image", moved: "SimpleITK.Image"
) -> "SimpleITK.Euler3DTransform":
    """The transform that puts the middle of one grid onto the other's."""
    import SimpleITK

    transform = SimpleITK.Euler3DTransform()
    middles = [
        np.array(
            image.TransformContinuousIndexToPhysicalPoint(
                [(length - 1) / 2 for length in image.GetSize()]
            )
        )
        for image in (still, moved)
    ]
    transform.SetCenter(middles[0].tolist())
    transform.SetTranslation((middles[1] - middles[0]).tolist())
    return transform


def _method(
    transform: "SimpleITK.Euler3DTransform",
) -> "SimpleITK.ImageRegistrationMethod":
    import SimpleITK

    method = SimpleITK.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(_BINS)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentagePerLevel(_SHARES, _SEED)
    method.SetInterpolator(SimpleITK.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=_STEP, minStep=_LEAST_STEP, numberOfIterations=_STEPS
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(_SHRINK)
    method.SetSmoothingSigmasPerLevel(_SMOOTH)
    method.SetInitialTransform(transform, inPlace=True)
    return method


def _require_plausible(
    transform: "SimpleITK.Euler3DTransform", start: np.ndarray, what: str
) -> None:
    shift = float(np.linalg.norm(transform.GetTranslation() - start))
    matrix = np.reshape(transform.GetMatrix(), (3, 3))
    cosine = np.clip((np.trace(matrix) - 1) / 2, -1, 1)
    angle = float(np.degrees(np.arccos(cosine)))
    if shift > _FARTHEST or angle > _WIDEST:
        raise ScanError(
            f"{what} ended at {shift:.0f} mm and {angle:.0f} degrees, which is no head "
            "in a coil: are they of one person? remove it"
        )
