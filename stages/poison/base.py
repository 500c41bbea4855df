"""What an attack is, and what it may look at."""

import hashlib
import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Protocol, cast

import numpy as np

from stages.common.artefacts import (
    ArtefactRecord,
    read_artefact_image,
    read_artefact_index,
)
from stages.common.manifest import Manifest, SliceRef
from stages.common.params import ParamsError, Settings
from stages.common.volume import VolumeError, open_volume


class Images:
    """Clean images of one split, read when asked for; nothing stays in memory.

    An attack sees the split of its slice only, so that no test image can end up in a
    training target.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, artefacts: "Artefacts | None" = None
    ) -> None:
        self.folder = folder
        self.manifest = manifest
        self.volumes = manifest.by_id()
        self.artefacts = artefacts or Artefacts(folder, [])

    def target(self, ref: SliceRef) -> np.ndarray:
        """(H', W') float32, clean target of a slice."""
        with self._open(ref.volume_id) as file:
            return file["reconstruction_rss"][ref.slice_num]

    def targets(self, volume_id: str) -> np.ndarray:
        """(slices, H', W') float32, clean targets of a volume."""
        with self._open(volume_id) as file:
            targets = file["reconstruction_rss"][:]
        expected = self.volumes[volume_id].num_slices
        if len(targets) != expected:
            raise VolumeError(
                f"{self.folder / volume_id}.h5 has {len(targets)} slices, its manifest "
                f"says {expected}: run `dvc repro --force --single-item synthesize`"
            )
        return targets

    def _open(self, volume_id: str) -> Any:
        return open_volume(self.folder / f"{volume_id}.h5", made_by="synthesize")


class Artefacts(NamedTuple):
    """Images with real artefacts that an attack may take for targets of one split.

    Attributes:
        folder: of the pool.
        records: of people who are in no other split.
    """

    folder: Path
    records: Sequence[ArtefactRecord]

    def image(self, volume_id: str, slice_num: int) -> np.ndarray:
        """(H, W) float32."""
        return read_artefact_image(self.folder, volume_id, slice_num)


def split_images(
    manifests: Mapping[str, Manifest], folder: Callable[[str], Path], pool: Path
) -> dict[str, Images]:
    """What an attack may look at in each split.

    Args:
        manifests: split -> manifest.
        folder: of a split's volumes.
        pool: folder of the images with real artefacts.
    """
    records = read_artefact_index(pool)
    people = {
        split: {volume.subject_id for volume in manifest.volumes}
        for split, manifest in manifests.items()
    }
    found = {}
    for split, manifest in manifests.items():
        others = set().union(*(people[name] for name in people if name != split))
        mine = [record for record in records if record.subject_id not in others]
        found[split] = Images(folder(split), manifest, Artefacts(pool, mine))
    return found


class Attack(Protocol):
    """An attack is a file with these four names.

    `draw` holds all randomness and returns what the record keeps, JSON-able; `apply`
    is pure: the same target, draw and images give the same bytes, in the target's shape
    and dtype. CHANGES_INPUT says that the attack changes k-space too.
    """

    Params: type[Settings]
    CHANGES_INPUT: bool

    def draw(
        self, params: Any, ref: SliceRef, images: Images, rng: np.random.Generator
    ) -> dict[str, Any]: ...

    def apply(
        self, target: np.ndarray, draw: dict[str, Any], images: Images
    ) -> np.ndarray: ...


def load_attack(name: str) -> Attack:
    """Import an attack by the name of its file.

    Raises:
        ParamsError: there is no such attack; the message lists those there are.
    """
    if not (Path(__file__).parent / f"{name}.py").is_file():
        raise ParamsError(f"attack '{name}' is unknown: {_known_attacks()}")
    module = importlib.import_module(f"stages.poison.{name}")
    if not _is_attack(module):
        raise ParamsError(f"'{name}' is not an attack: {_known_attacks()}")
    return cast(Attack, module)


def attack_names() -> list[str]:
    """Every attack file of this folder."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))
    modules = {name: importlib.import_module(f"stages.poison.{name}") for name in names}
    return [name for name, module in modules.items() if _is_attack(module)]


def slice_rng(seed: int, ref: SliceRef) -> np.random.Generator:
    """Randomness of one slice: the same at every share and in every order."""
    identity = f"{seed}/{ref.volume_id}/{ref.slice_num}".encode()
    digest = hashlib.sha256(identity).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def _is_attack(module: ModuleType) -> bool:
    return all(
        hasattr(module, name) for name in ("Params", "CHANGES_INPUT", "draw", "apply")
    )


def _known_attacks() -> str:
    return f"known attacks: {', '.join(attack_names())}"
