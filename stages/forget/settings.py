"""Parameters of `forget`: the rows of `scenarios`, and how much is reported."""

from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from stages.common.params import Settings

AS_KNOWN = "as_known"


class Scenario(Settings):
    """One named scenario: a poisoning, and how its known forget set comes about.

    A share of the poison is revealed (`known` and `seed`), or the most suspicious
    slices of a detector are taken for poison (`detected` and `budget`).

    Attributes:
        poisoning: a row of `poisonings`.
        known: share of the poisoned slices that is revealed.
        seed: of which ones.
        false_positives: share of the known forget set that is clean: slices that were
            reported by mistake, beside the revealed ones.
        detected: a detector of `grid.detectors`.
        budget: how many suspects, as a share of the training slices; `as_known`: as
            many as have been reported to the detectors.
        with_tips: the reported slices are taken beside the suspects.
    """

    poisoning: str
    known: float | None = Field(default=None, gt=0, le=1)
    seed: int | None = Field(default=None, ge=0)
    false_positives: float = Field(default=0.0, ge=0, lt=1)
    detected: str | None = Field(default=None, pattern=r"^[a-z][a-z0-9_]*$")
    budget: float | str | None = None
    with_tips: bool = False

    @field_validator("budget")
    @classmethod
    def _share_or_as_known(cls, budget: float | str | None) -> float | str | None:
        if isinstance(budget, float) and 0 < budget < 1:
            return budget
        if budget in (None, AS_KNOWN):
            return budget
        raise ValueError(
            f"give a share of the training slices between 0 and 1, or {AS_KNOWN}"
        )

    @model_validator(mode="after")
    def _one_source(self) -> "Scenario":
        revealed = self.known is not None
        if revealed == (self.detected is not None):
            found = "both" if revealed else "neither"
            raise ValueError(
                "known (a share is revealed) or detected (a detector finds it): there "
                f"is {found}, give exactly one"
            )
        needed, foreign = ("seed", "budget") if revealed else ("budget", "seed")
        source = "known" if revealed else "detected"
        if getattr(self, needed) is None:
            raise ValueError(f"{source} needs {needed} beside it")
        strangers = [foreign] if getattr(self, foreign) is not None else []
        other = "with_tips" if revealed else "false_positives"
        strangers += [other] if getattr(self, other) else []
        if strangers:
            raise ValueError(f"{strangers[0]} does not go with {source}: take it out")
        return self


BLOCKS: dict[str, Any] = {
    "scenarios": dict[str, Scenario],
    "detect.known": Annotated[float, Field(ge=0, lt=1)],
    "detect.seed": Annotated[int, Field(ge=0)],
}
