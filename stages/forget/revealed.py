"""A known forget set by revelation: a share of the poison is simply found.

One source of a known forget set, one file: from the truth and a scenario's settings to
a sorted list of slices.
"""

import hashlib
from collections.abc import Iterable

from stages.common.manifest import SliceRef
from stages.common.params import ParamsError
from stages.common.truth import TruthRecord


def revealed(
    key: str, record: TruthRecord, *, known: float, seed: int
) -> list[SliceRef]:
    """Reveal a share of the poisoned slices.

    A slice's place in the order depends on the seed and its identity alone: for one
    seed, a smaller share lies inside a larger one, and the same slices tend to be found
    first at every poisoned share.

    Args:
        key: of the share in `params.yaml`, for messages.
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
            f"{key} = {known} reveals no slice: it is "
            f"{known * len(poisoned):.3g} of the {len(poisoned)} poisoned slices of "
            f"{record.poisoning}; use at least {1 / len(poisoned):.3g}"
        )
    return sorted(sorted(poisoned, key=lambda ref: _place(ref, seed))[:count])


def reported_by_mistake(
    key: str, clean: Iterable[SliceRef], *, share: float, beside: int, seed: int
) -> list[SliceRef]:
    """Clean slices that a known forget set holds beside the revealed ones.

    Drawn in an order like that of `revealed`: for one seed and one known share, fewer
    false positives lie inside of more.

    Args:
        key: of the share in `params.yaml`, for messages.
        clean: training slices that are not poisoned.
        share: of them in the whole of the known forget set, rounded to whole slices.
        beside: number of the revealed ones.
        seed: of the order.

    Raises:
        ParamsError: the share is less than one slice, or there are not that many.
    """
    if not share:
        return []
    clean = sorted(clean)
    exact = beside * share / (1 - share)
    if round(exact) < 1:
        raise ParamsError(
            f"{key} = {share} adds no slice: it is {exact:.3g} beside the {beside} "
            f"revealed ones; use at least {1 / (1 + beside):.3g}, or 0 for none"
        )
    if round(exact) > len(clean):
        raise ParamsError(
            f"{key} = {share} asks for {round(exact)} clean slices, and the training "
            f"set has {len(clean)}: use at most "
            f"{len(clean) / (len(clean) + beside):.3f}"
        )
    return sorted(clean, key=lambda ref: _place(ref, seed))[: round(exact)]


def _place(ref: SliceRef, seed: int) -> bytes:
    identity = f"{seed}/{ref.volume_id}/{ref.slice_num}"
    return hashlib.sha256(identity.encode()).digest()
