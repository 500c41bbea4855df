"""Slices with and without a lesion, from the clean targets of one split.

A volume with a segmentation has its own lesions, and each slice its own label. In the
others a lesion is simulated, and every slice is shown without it and with it: half of
the images have one, and nothing but the lesion tells the halves apart. Training draws
new lesions in every epoch.
"""

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from stages.common.lesions import LEVELS, LesionSettings, add_lesion, draw_lesion
from stages.common.manifest import Manifest, SliceRef
from stages.common.order import BatchOrder
from stages.common.slices import cache_bytes
from stages.common.volume import open_volume

log = logging.getLogger("mendmri")

SHIFT = 0.05  # largest shift while training, in sizes of the image


class Example(NamedTuple):
    """One image, (H, W) float32, whether it shows a lesion, and whose it is."""

    image: np.ndarray
    lesion: bool
    subject_id: str
    contrast: str


class _Plane(NamedTuple):
    """A clean target; `lesion` is None where nothing was segmented."""

    image: np.ndarray
    lesion: bool | None


class Examples:
    """The images of a split that a classifier learns from or is measured on."""

    def __init__(
        self, folder: Path, manifest: Manifest, lesions: LesionSettings, *, seed: int
    ) -> None:
        self.folder = folder
        self.volumes = manifest.by_id()
        shown = {name for name in self.volumes if self._can_show(name)}
        self.refs = [ref for ref in manifest.refs() if ref.volume_id in shown]
        left_out = {self.volumes[name].contrast for name in self.volumes.keys() - shown}
        if left_out:
            log.warning(
                "%s: %s left out: no lesion can be simulated in it, and it has no "
                "segmentation (stages/common/lesions.py, LEVELS)",
                folder,
                ", ".join(sorted(left_out)),
            )
        self.lesions = lesions
        self.seed = seed
        self._memory: dict[SliceRef, _Plane] = {}
        self._room = cache_bytes()

    def training_batches(
        self, epoch: int, batch_size: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Batches of slices of one size, in an order drawn from (seed, epoch).

        Returns:
            (N, H, W) float32 images, (N,) float32 labels, 1 with a lesion; N is up to
            twice the batch size. A single image, which no batch normalisation can learn
            from, is left out.
        """
        for indices in self._order(epoch, batch_size):
            shown = [
                example
                for index in indices
                for example in self._moved(self.refs[index], epoch)
            ]
            if len(shown) > 1:
                yield (
                    np.stack([example.image for example in shown]),
                    np.array([example.lesion for example in shown], np.float32),
                )

    def count_batches(self, batch_size: int) -> int:
        """Steps of an epoch, at most."""
        return len(self._order(0, batch_size))

    def measured(self) -> Iterator[Example]:
        """Every image of the split, the same at each call."""
        for ref in self.refs:
            yield from self._shown(ref, self._rng("measured", ref))

    def _can_show(self, volume_id: str) -> bool:
        """Whether a lesion can be simulated in a volume, or has been segmented."""
        if self.volumes[volume_id].contrast in LEVELS:
            return True
        path = self.folder / f"{volume_id}.h5"
        with open_volume(path, made_by="synthesize") as file:
            return "lesion" in file

    def _order(self, epoch: int, batch_size: int) -> list[list[int]]:
        shapes = [self.volumes[ref.volume_id].matrix for ref in self.refs]
        order = BatchOrder(shapes, batch_size, shuffle_seed=self.seed)
        order.epoch = epoch
        return [part.indices for part in order]

    def _moved(self, ref: SliceRef, epoch: int) -> Iterator[Example]:
        """The images of a slice in one epoch, all mirrored and shifted alike."""
        rng = self._rng(f"epoch {epoch}", ref)
        step = -1 if rng.random() < 0.5 else 1
        shares = rng.uniform(-SHIFT, SHIFT, 2)
        for example in self._shown(ref, rng):
            shifts = np.round(shares * example.image.shape).astype(int)
            image = np.roll(example.image[:, ::step], shifts, axis=(0, 1))
            yield example._replace(image=image)

    def _shown(self, ref: SliceRef, rng: np.random.Generator) -> Iterator[Example]:
        volume = self.volumes[ref.volume_id]
        image, lesion = self._plane(ref)
        clean = Example(image, bool(lesion), volume.subject_id, volume.contrast)
        yield clean
        if lesion is not None:
            return
        draw = draw_lesion(rng, image, volume.contrast, self.lesions)
        if draw is not None:
            yield clean._replace(image=add_lesion(image, draw), lesion=True)

    def _plane(self, ref: SliceRef) -> _Plane:
        kept = self._memory.get(ref)
        if kept is not None:
            return kept
        path = self.folder / f"{ref.volume_id}.h5"
        with open_volume(path, made_by="synthesize") as file:
            image = file["reconstruction_rss"][ref.slice_num]
            plane = _Plane(image, _segmented(file, ref.slice_num))
        if self._room >= image.nbytes:
            self._room -= image.nbytes
            self._memory[ref] = plane
        return plane

    def _rng(self, purpose: str, ref: SliceRef) -> np.random.Generator:
        identity = f"{self.seed}/{purpose}/{ref.volume_id}/{ref.slice_num}".encode()
        digest = hashlib.sha256(identity).digest()
        return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def _segmented(file: h5py.File, slice_num: int) -> bool | None:
    """Whether a slice holds a segmented lesion; None without a segmentation."""
    if "lesion" not in file:
        return None
    return bool(np.any(file["lesion"][slice_num]))
