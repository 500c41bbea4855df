"""A known forget set by revelation: a share of the poison is simply found.

One source of a known forget set, one file: from the truth and a scenario's settings to
a sorted list of slices.
"""

import numpy as np

from stages.common.manifest import SliceRef
from stages.common.params import ParamsError
from stages.common.truth import TruthRecord


def revealed(
    name: str, record: TruthRecord, *, known: float, seed: int
) -> list[SliceRef]:
    """Reveal a share of the poisoned slices.

    They are put in one order per seed and taken from its start, so that for one seed a
    smaller known set lies inside a larger one.

    Args:
        name: of the scenario, for messages.
        record: what was poisoned.
        known: share of the poisoned slices, rounded to whole slices.
        seed: of the order.

    Raises:
        ParamsError: the share is less than one slice.
    """
    poisoned = sorted(entry.ref for entry in record.poisoned)
    count = round(known * len(poisoned))
    if count < 1:
        raise ParamsError(
            f"scenarios.{name}.known = {known} reveals no slice: it is "
            f"{known * len(poisoned):.3g} of the {len(poisoned)} poisoned slices of "
            f"{record.poisoning}; use at least {1 / len(poisoned):.3g}"
        )
    order = np.random.default_rng(seed).permutation(len(poisoned))
    return sorted(poisoned[index] for index in order[:count])
