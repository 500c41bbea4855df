"""Scan one simulated subject: every contrast of the same head in the same coils."""

from typing import NamedTuple

import numpy as np

from stages.common.volume import Volume
from stages.synthesize import coils, contrast, geometry, noise
from stages.synthesize.anatomy import Anatomy
from stages.synthesize.fields import smooth_field
from stages.synthesize.header import ismrmrd_header
from stages.synthesize.settings import Contrast, SynthesizeSettings

ACQUISITION = {"T1w": "AXT1", "T2w": "AXT2", "FLAIR": "AXFLAIR"}
# Number of a contrast's own random stream, whatever other contrasts are simulated.
_STREAM = {"T1w": 1, "T2w": 2, "FLAIR": 3}
_SUBJECT_STREAM = 0


class Scan(NamedTuple):
    """Result of one subject.

    Attributes:
        volumes: by contrast.
        dropped: numbers of the planned slices that hold too little tissue.
    """

    volumes: dict[Contrast, Volume]
    dropped: tuple[int, ...]


class _Head(NamedTuple):
    """What the contrasts share: shares (S, 5, G, G), maps (S, coils, G, G), scanner."""

    shares: np.ndarray
    sens_maps: np.ndarray
    tissues: contrast.Tissues
    scanner: str


def scan_subject(
    anatomy: Anatomy,
    settings: SynthesizeSettings,
    *,
    key: tuple[int, int],
    subject_id: str,
    scanner: str,
) -> Scan:
    """Simulate a subject in a scanner; `key` is (split, subject), its seed's rest."""
    machine = settings.scanners[scanner]
    rng = np.random.default_rng([settings.seed, *key, _SUBJECT_STREAM])
    pose = geometry.draw_pose(rng, settings.variation)
    tissues = contrast.draw_tissues(rng, settings.tissues, settings.variation.tissue)
    positions = coils.draw_coils(rng, settings.coils, machine)
    grid = settings.matrix * settings.oversampling
    bias = np.exp(settings.variation.bias * smooth_field(rng, (grid, grid), grid / 4))
    heights = geometry.slice_heights(settings)
    shares = np.stack(
        [geometry.cut_slice(anatomy, pose, settings, height) for height in heights]
    )
    kept = shares.sum(axis=1).mean(axis=(1, 2)) >= settings.min_tissue
    dropped = tuple(np.flatnonzero(~kept).tolist())
    if not kept.any():
        return Scan({}, dropped)
    sens_maps = np.stack(
        [
            coils.sensitivity_maps(
                positions,
                geometry.plane_points(grid, settings.fov, height),
                machine,
            ).reshape(-1, grid, grid)
            for height in heights[kept]
        ]
    )
    head = _Head(shares[kept], sens_maps * bias, tissues, scanner)
    volumes = {
        name: _acquire(head, settings, name, key, subject_id)
        for name in settings.contrasts
    }
    return Scan(volumes, dropped)


def _acquire(
    head: _Head,
    settings: SynthesizeSettings,
    name: Contrast,
    key: tuple[int, int],
    subject_id: str,
) -> Volume:
    """Simulate one contrast: image, coils, phase, k-space, gain, noise."""
    rng = np.random.default_rng([settings.seed, *key, _STREAM[name]])
    pixel = settings.fov / head.shares.shape[-1]
    sizes = (settings.texture_size[0] / pixel, settings.texture_size[1] / pixel)
    kspace = np.stack(
        [
            _slice_kspace(rng, head, settings, name, sizes, shares, sens_maps)
            for shares, sens_maps in zip(head.shares, head.sens_maps, strict=True)
        ]
    )
    clean = noise.rss_target(kspace)
    gain = settings.target_max / clean.max()
    gain *= np.exp(rng.normal(0, settings.variation.gain))
    sigma = gain * _brain_signal(head.shares, clean) / settings.snr[name]
    sigma *= settings.scanners[head.scanner].noise
    kspace = gain * kspace + noise.complex_noise(rng, kspace.shape, sigma)
    kspace = kspace.astype(np.complex64)
    return Volume(
        kspace=kspace,
        target=noise.rss_target(kspace),
        header=ismrmrd_header(
            matrix=settings.matrix,
            fov=settings.fov,
            thickness=settings.slice_thickness,
            coils=settings.coils,
            scanner=head.scanner,
        ),
        acquisition=ACQUISITION[name],
        patient_id=subject_id,
    )


def _slice_kspace(
    rng: np.random.Generator,
    head: _Head,
    settings: SynthesizeSettings,
    name: Contrast,
    sizes: tuple[float, float],
    shares: np.ndarray,
    sens_maps: np.ndarray,
) -> np.ndarray:
    """k-space of one slice of the head without noise: (coils, H, W) complex."""
    image = contrast.contrast_image(
        rng, shares, head.tissues, settings.sequences[name], sizes
    )
    strength = settings.scanners[head.scanner].phase
    phase = coils.object_phase(rng, image.shape, strength)
    return noise.crop_kspace(noise.fft2c(sens_maps * (image * phase)), settings.matrix)


def _brain_signal(shares: np.ndarray, clean: np.ndarray) -> float:
    """Mean of the noise-free target where grey or white matter dominates."""
    matrix = clean.shape[-1]
    step = shares.shape[-1] // matrix
    matter = shares[:, :2].sum(axis=1)[:, ::step, ::step] > 0.5
    return float(clean[matter].mean() if matter.any() else clean.mean())
