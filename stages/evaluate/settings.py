"""The `evaluate` block of `params.yaml`."""

from pydantic import Field

from stages.common.params import Settings


class EvaluateSettings(Settings):
    """How a model is run.

    Attributes:
        batch_size: slices reconstructed at once; bounds memory.
    """

    batch_size: int = Field(ge=1, le=1024)


BLOCKS: dict[str, type] = {"evaluate": EvaluateSettings}
