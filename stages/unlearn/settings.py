"""Parameters of `unlearn` that are not a method's own."""

from typing import Annotated

from pydantic import Field

BLOCKS = {"unlearn.seed": Annotated[int, Field(ge=0)]}
