"""The `synthesize` block of `params.yaml`: units as in README.md."""

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from stages.common.params import Settings

SourceName = Literal["icbm152", "ch2"]
Contrast = Literal["T1w", "T2w", "FLAIR"]


class Subjects(Settings):
    """Subjects per split."""

    train: int = Field(ge=1, le=999)
    val: int = Field(ge=1, le=999)
    test: int = Field(ge=1, le=999)


class Sources(Settings):
    """Anatomy of each split."""

    train: SourceName
    val: SourceName
    test: SourceName


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


class CoilSettings(Settings):
    """Where the receive coils lie and how much shading is corrected."""

    scanner: str = Field(min_length=1)
    distance: float = Field(ge=80, le=400)
    radius: float = Field(gt=0, le=200)
    jitter: float = Field(ge=0, le=20)
    uniformity: float = Field(ge=0, le=1)
    phase: float = Field(ge=0, le=3.2)


class SynthesizeSettings(Settings):
    """A simulated cohort."""

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
    contrasts: tuple[Contrast, ...] = Field(min_length=1)
    sequences: dict[Contrast, Sequence]
    snr: dict[Contrast, float]
    tissues: Tissues
    texture_size: tuple[float, float]
    target_max: float = Field(gt=0)
    variation: Variation
    coil: CoilSettings

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

    @field_validator("sources")
    @classmethod
    def _test_is_another_head(cls, value: Sources) -> Sources:
        if value.test in (value.train, value.val):
            raise ValueError("test must not share its anatomy with train or val")
        return value

    @field_validator("contrasts")
    @classmethod
    def _contrasts_differ(cls, value: tuple[Contrast, ...]) -> tuple[Contrast, ...]:
        if len(set(value)) < len(value):
            raise ValueError("names a contrast twice")
        return value

    @field_validator("sequences", "snr")
    @classmethod
    def _has_every_contrast(
        cls, value: dict[Contrast, object], info: ValidationInfo
    ) -> dict[Contrast, object]:
        missing = [c for c in info.data.get("contrasts", ()) if c not in value]
        if missing:
            raise ValueError(f"has no entry for {', '.join(missing)}")
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


BLOCKS: dict[str, type] = {"synthesize": SynthesizeSettings}
