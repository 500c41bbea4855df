"""Blocks of `params.yaml` that no single stage owns: `profile` and `grid`."""

from pydantic import Field

from stages.common.params import Settings


class Grid(Settings):
    """The axes of the experiment.

    Attributes:
        oracles: seeds; 0 is the oracle, its gap to 1 the noise floor.
        methods: names of method files in `stages/unlearn`.
        drop_all: poisonings that a drop-all model is trained for.
    """

    oracles: tuple[int, ...] = Field(min_length=1)
    methods: tuple[str, ...] = Field(min_length=1)
    drop_all: tuple[str, ...]


BLOCKS: dict[str, type] = {"profile": str, "grid": Grid}
