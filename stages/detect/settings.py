"""Parameters of `detect` that are not a detector's own."""

from typing import Annotated, Any

from pydantic import Field

BLOCKS: dict[str, Any] = {
    "detect.seed": Annotated[int, Field(ge=0)],
    "detect.batch_size": Annotated[int, Field(ge=1)],
}
