"""Parameters of `unlearn` that are not a method's own."""

from typing import Annotated, Any

from pydantic import Field

BLOCKS: dict[str, Any] = {"unlearn.seed": Annotated[int, Field(ge=0)]}
