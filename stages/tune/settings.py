"""The `tune` block of `params.yaml`: budget, hold-out and what is searched."""

from typing import Annotated, Any

from pydantic import Field, model_validator

from stages.common.params import Settings


class Range(Settings):
    """Values of one parameter: an interval, or a list to choose from.

    Attributes:
        low: lowest value; whole numbers if `low` and `high` are.
        high: highest value.
        log: whether the interval is drawn from by the logarithm.
        choices: the values, in place of an interval.
    """

    low: int | float | None = None
    high: int | float | None = None
    log: bool | None = None
    choices: tuple[Any, ...] | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> "Range":
        interval = (self.low, self.high, self.log)
        if self.choices is not None:
            if interval != (None, None, None) or len(self.choices) < 2:
                raise ValueError("give choices, two at least, or low, high and log")
            return self
        if self.low is None or self.high is None or self.log is None:
            raise ValueError("give low, high and log, or choices")
        if not self.low < self.high:
            raise ValueError(f"low = {self.low} must be below high = {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"low = {self.low} must be above 0 where log is true")
        return self

    @property
    def whole(self) -> bool:
        """Whether the interval is one of whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def ends(self) -> tuple[Any, ...]:
        """The values that stand for all: a method has to accept each."""
        return self.choices if self.choices is not None else (self.low, self.high)

    def holds(self, value: Any) -> bool:
        """Whether a value is one that the search may draw."""
        if self.choices is not None:
            return value in self.choices
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        low, high = self.ends()
        return bool(low <= value <= high)


Space = Annotated[dict[str, Range], Field(min_length=1)]


class TuneSettings(Settings):
    """What `make tune` searches, and what it lets the objectives see.

    Attributes:
        seed: draws the trials, the hold-out, the trusted subjects and the held lines.
        budget: trials of each method; the first has the values of its own block.
        scenarios: rows of `scenarios`.
        holdout: share of the training subjects that no trial is given.
        trusted: validation subjects whose clean targets a user may trust; the others
            are the truth that choices are compared with.
        held_lines: share of a slice's sampled lines outside of the centre that a model
            has to predict from the others.
        methods: method -> parameter -> values. A parameter that is not named keeps its
            value of `unlearn.<method>`.
    """

    seed: int = Field(ge=0)
    budget: int = Field(ge=1, le=1000)
    scenarios: tuple[str, ...] = Field(min_length=1)
    holdout: float = Field(gt=0, lt=1)
    trusted: int = Field(ge=1)
    held_lines: float = Field(gt=0, lt=1)
    methods: dict[str, Space] = Field(min_length=1)


BLOCKS: dict[str, type] = {"tune": TuneSettings}
