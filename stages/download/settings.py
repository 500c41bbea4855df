"""The `download` block of `params.yaml`."""

from typing import Literal

from pydantic import Field

from stages.common.params import Settings


class DownloadSettings(Settings):
    """Which anatomies the pipeline uses; one DVC stage each."""

    sources: tuple[Literal["icbm152", "ch2"], ...] = Field(min_length=1)


BLOCKS: dict[str, type] = {"download": DownloadSettings}
