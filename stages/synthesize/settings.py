"""The `synthesize` block of `params.yaml`: units as in README.md."""

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from stages.common.params import Settings

Contrast = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]*$")]
ScannerName = Annotated[str, Field(min_length=1, pattern=r"^[^<>&\s]+$")]
Count = Annotated[int, Field(ge=1, le=99999)]


class Subjects(Settings):
    """Subjects per split; of scans, null takes all there are."""

    train: Count | None
    val: Count | None
    test: Count | None


class Sources(Settings):
    """Source of each split: an anatomy to simulate subjects from, or scans."""

    train: str
    val: str
    test: str


class ScanSettings(Settings):
    """How real scans become volumes.

    Attributes:
        split: `published` takes the source's own partition of its subjects, `drawn`
            draws one.
        repetitions: of one raw scan: their mean, a volume each, or the first alone.
        max_slices: of a volume, evenly spread; null takes all.
        min_signal: 99th percentile of a slice / maximum of its volume, below which it
            is empty.
        on_error: `stop`, or leave a damaged file out and list it.
    """

    split: Literal["published", "drawn"]
    repetitions: Literal["average", "keep", "first"]
    max_slices: int | None = Field(ge=1)
    min_signal: float = Field(ge=0, lt=1)
    on_error: Literal["stop", "skip"]


class Sequence(Settings):
    """A spin echo, after an inversion when `ti` is set. Times in ms."""

    tr: float = Field(gt=0)
    te: float = Field(gt=0)
    ti: float | None = Field(gt=0)


class Tissue(Settings):
    """Relaxation times in ms, proton density and texture relative to 1."""

    t1: float = Field(gt=0)
    t2: float = Field(gt=0)
    pd: float = Field(ge=0, le=2)
    texture: float = Field(ge=0, le=0.5)


class Tissues(Settings):
    """One entry for each tissue of `anatomy.TISSUES`."""

    gm: Tissue
    wm: Tissue
    csf: Tissue
    fat: Tissue
    muscle: Tissue


class Variation(Settings):
    """How subjects of one anatomy differ: standard deviations."""

    rotation: float = Field(ge=0, le=30)
    scale: float = Field(ge=0, le=0.2)
    translation: float = Field(ge=0, le=30)
    warp: float = Field(ge=0, le=8)
    ventricles: float = Field(ge=0, le=0.4)
    scalp: float = Field(ge=0, le=0.4)
    tissue: float = Field(ge=0, le=0.2)
    bias: float = Field(ge=0, le=0.5)
    gain: float = Field(ge=0, le=0.5)


class Scanner(Settings):
    """A scanner's fingerprint: its coils, how it corrects their shading, its noise.

    Attributes:
        weight: subjects that lie in it, relative to the other scanners.
        noise: deviation of its noise relative to what `snr` asks for.
    """

    weight: int = Field(ge=1, le=100)
    noise: float = Field(gt=0, le=10)
    distance: float = Field(ge=80, le=400)
    radius: float = Field(gt=0, le=200)
    jitter: float = Field(ge=0, le=20)
    uniformity: float = Field(ge=0, le=1)
    phase: float = Field(ge=0, le=3.2)


class SynthesizeSettings(Settings):
    """A cohort: simulated subjects, real scans, or both."""

    seed: int = Field(ge=0)
    matrix: int = Field(ge=16, le=512, multiple_of=2)
    oversampling: int = Field(ge=1, le=8)
    fov: float = Field(ge=200, le=400)
    slices: int = Field(ge=1)
    extent: tuple[float, float]
    slice_thickness: float = Field(ge=1, le=20)
    min_tissue: float = Field(ge=0, lt=1)
    coils: int = Field(ge=1, le=32)
    subjects: Subjects
    sources: Sources
    scans: ScanSettings
    contrasts: tuple[Contrast, ...] = Field(min_length=1)
    sequences: dict[Contrast, Sequence]
    snr: dict[Contrast, float]
    tissues: Tissues
    texture_size: tuple[float, float]
    target_max: float = Field(gt=0)
    variation: Variation
    scanners: dict[ScannerName, Scanner] = Field(min_length=1)

    @field_validator("extent")
    @classmethod
    def _extent_in_head(
        cls, value: tuple[float, float], info: ValidationInfo
    ) -> tuple[float, float]:
        low, high = value
        if not -60 <= low < high <= 100:
            raise ValueError("must be [lowest, highest], within -60 and 100 mm")
        slices = info.data.get("slices", 1)
        if slices > high - low + 1:
            raise ValueError(
                f"{slices} slices (synthesize.slices) do not fit into "
                f"{high - low:g} mm of 1 mm anatomy"
            )
        return value

    @field_validator("contrasts")
    @classmethod
    def _contrasts_differ(cls, value: tuple[Contrast, ...]) -> tuple[Contrast, ...]:
        if len(set(value)) < len(value):
            raise ValueError("names a contrast twice")
        return value

    @field_validator("snr")
    @classmethod
    def _snr_positive(cls, value: dict[Contrast, float]) -> dict[Contrast, float]:
        if any(not snr > 0 for snr in value.values()):
            raise ValueError("every SNR must be > 0")
        return value

    @field_validator("texture_size")
    @classmethod
    def _texture_positive(cls, value: tuple[float, float]) -> tuple[float, float]:
        if min(value) <= 0:
            raise ValueError("both sizes must be > 0 mm")
        return value


BLOCKS: dict[str, Any] = {
    "synthesize": SynthesizeSettings,
    # Sources of the pool of images with real artefacts.
    "artefacts": tuple[Literal["exbox1", "m4raw", "mr_art"], ...],
}
