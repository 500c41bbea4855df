"""Parameters of `forget`: the rows of `scenarios` in `params.yaml`."""

from pydantic import Field

from stages.common.params import Settings


class Scenario(Settings):
    """One named scenario: a poisoning, and how much of it has been found.

    Attributes:
        poisoning: a row of `poisonings`.
        known: share of the poisoned slices that has been found.
        seed: of which ones.
    """

    poisoning: str
    known: float = Field(gt=0, le=1)
    seed: int = Field(ge=0)


BLOCKS = {"scenarios": dict[str, Scenario]}
