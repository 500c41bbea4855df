"""Parameters of `poison`: the rows of `poisonings` in `params.yaml`."""

from typing import Any, Literal

from pydantic import Field

from stages.common.params import Settings


class Scope(Settings):
    """The slices an attack may choose from; what is left out matches everything."""

    contrast: str | None = None
    scanner: str | None = None
    subjects: tuple[str, ...] | None = Field(default=None, min_length=1)


class Poisoning(Settings):
    """One named poisoning.

    Attributes:
        attack: name of an attack file in `stages/poison`.
        share: poisoned slices, as a share of all training slices.
        unit: what is poisoned as a whole.
        seed: of the choice and of every draw.
        settings: the attack's own parameters (`Params` in its file).
    """

    attack: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    share: float = Field(gt=0, le=1)
    scope: Scope
    unit: Literal["slice", "volume", "subject"]
    seed: int = Field(ge=0)
    settings: dict[str, Any]


BLOCKS = {"poisonings": dict[str, Poisoning]}
