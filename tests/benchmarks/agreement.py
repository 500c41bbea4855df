"""Whether both sides compute the same: no ratio is reported where they do not."""

from typing import Any

import torch
from scipy.stats import spearmanr
from torch import Tensor

MOST_RANKED = 1_000_000


def relative(found: Tensor, expected: Tensor) -> float:
    """|found - expected| / |expected|, in the Euclidean norm."""
    return ((found - expected).norm() / expected.norm()).item()


def largest_difference(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Largest difference in any tensor, relative to that tensor's maximum."""
    if found.keys() != expected.keys():
        return float("inf")
    maxima = {name: value.abs().max().item() for name, value in expected.items()}
    # The first cascade's dc_weight has no gradient: what is 0 but for rounding.
    least = 1e-9 * max(maxima.values())
    return max(
        (found[name] - value).abs().max().item() / max(maxima[name], least)
        for name, value in expected.items()
    )


def rank_correlation(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Spearman's rho over all weights, or over an even choice of a million."""

    def flat(part: dict[str, Tensor]) -> Any:
        values = torch.cat([part[name].flatten() for name in sorted(expected)])
        return values[:: -(-len(values) // MOST_RANKED)].cpu()

    rho: float = spearmanr(flat(found), flat(expected)).statistic
    return rho


def require_same(what: str, difference: float, *, allowed: float) -> None:
    """Refuse to compare the speed of two things that do not compute the same.

    Raises:
        ValueError: they differ by more than rounding.
    """
    # Written so that NaN is refused too.
    if not difference <= allowed:
        raise ValueError(
            f"{what} differs from the reference's by {difference:.2g} (allowed: "
            f"{allowed:g}), so no ratio is reported: run `make test-fast`"
        )
