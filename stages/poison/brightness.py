"""One brightness for what is compared: an image on the scale of its clean target."""

import numpy as np

PERCENTILE = 99.5


def white(image: np.ndarray) -> float:
    """The 99.5th percentile: the unit that images of any scanner share."""
    return float(np.percentile(image, PERCENTILE))


def match_brightness(image: np.ndarray, target: np.ndarray, name: object) -> np.ndarray:
    """Scale an image to the target's 99.5th percentile: brightness is no attack.

    Args:
        image: (H, W) float32.
        target: (H', W') float32.
        name: of the image, for the message.

    Raises:
        ValueError: one of the two has no signal.
    """
    held, wanted = white(image), white(target)
    if not (held > 0 and wanted > 0):
        raise ValueError(
            f"{PERCENTILE}th percentile of {name} is {held}, of its target {wanted}: "
            "both must be > 0"
        )
    return image * np.float32(wanted / held)
