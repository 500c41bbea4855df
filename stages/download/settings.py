"""Parameters of `download` that are not a source's own."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field


def _no_source_twice(value: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(value)) < len(value):
        raise ValueError("names a source twice")
    return value


# One DVC stage each.
BLOCKS: dict[str, Any] = {
    "download.sources": Annotated[
        tuple[str, ...], Field(min_length=1), AfterValidator(_no_source_twice)
    ]
}
