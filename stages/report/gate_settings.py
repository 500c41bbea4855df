"""The `gate` block of `params.yaml`: what counts as a regression."""

from typing import Literal

from pydantic import Field

from stages.common.params import Settings


class GateRule(Settings):
    """A kind of metric; the first kind that matches a metric's name decides.

    Attributes:
        match: patterns (`*` matches anything) for the last part of a metric's name.
        better: which way is better; a kind with `neither` is only reported.
        tolerance: how much worse is no regression yet, in the metric's unit.
    """

    match: tuple[str, ...] = Field(min_length=1)
    better: Literal["higher", "lower", "neither"]
    tolerance: float = Field(ge=0)


BLOCKS: dict[str, type] = {"gate": dict[str, GateRule]}
