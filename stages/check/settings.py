"""Blocks of `params.yaml` that no single stage owns: `profile` and `grid`."""

from pydantic import Field

from stages.common.params import Settings


class Grid(Settings):
    """The axes of the experiment.

    Attributes:
        oracles: seeds; 0 is the oracle, how far they lie apart the noise floor.
        methods: names of method files in `stages/unlearn`.
        drop_all: poisonings that a drop-all model is trained for.
        detected: poisonings that detectors look at.
        detectors: names of detector files in `stages/detect`.
        open_detectors: those that need the open threat model, in a table of their own.
    """

    oracles: tuple[int, ...] = Field(min_length=1)
    methods: tuple[str, ...] = Field(min_length=1)
    drop_all: tuple[str, ...]
    detected: tuple[str, ...] = Field(min_length=1)
    detectors: tuple[str, ...] = Field(min_length=1)
    open_detectors: tuple[str, ...] = Field(min_length=1)


BLOCKS: dict[str, type] = {"profile": str, "grid": Grid}
