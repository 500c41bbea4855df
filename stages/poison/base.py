"""What an attack is, and what it may look at."""

import hashlib
import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple, Protocol, cast

import numpy as np

from stages.common.artefacts import (
    ArtefactRecord,
    read_artefact_image,
    read_artefact_index,
)
from stages.common.manifest import Manifest, SliceRef
from stages.common.masks import Sampling
from stages.common.params import ParamsError, Settings
from stages.common.volume import VolumeError, open_volume


class Images:
    """Clean images of one split, read when asked for; nothing stays in memory.

    An attack sees the split of its slice only, so that no test image can end up in a
    training target.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        artefacts: "Artefacts | None" = None,
        classifier: Path | None = None,
        sampling: Sampling | None = None,
    ) -> None:
        self.folder = folder
        self.manifest = manifest
        self.volumes = manifest.by_id()
        self.artefacts = artefacts or Artefacts(folder, [])
        self.classifier = classifier
        self._sampling = sampling
        # What an attack reads once and needs for every slice, such as a network.
        self.kept: dict[str, Any] = {}

    def target(self, ref: SliceRef) -> np.ndarray:
        """(H', W') float32, clean target of a slice."""
        with self._open(ref.volume_id) as file:
            return file["reconstruction_rss"][ref.slice_num]

    def targets(self, volume_id: str) -> np.ndarray:
        """(slices, H', W') float32, clean targets of a volume."""
        return self._all(volume_id, "reconstruction_rss")

    def kspace(self, volume_id: str) -> np.ndarray:
        """(slices, coils, H, W) complex64, clean k-space of a volume."""
        return self._all(volume_id, "kspace")

    def kspace_shape(self, volume_id: str) -> tuple[int, int]:
        """(H, W) of a volume's k-space."""
        with self._open(volume_id) as file:
            height, width = file["kspace"].shape[-2:]
        return height, width

    def always_sampled(self, volume_id: str) -> range:
        """Columns of a volume's k-space that no mask leaves out.

        Raises:
            ValueError: nobody said how k-space will be undersampled.
        """
        if self._sampling is None:
            raise ValueError("an attack on k-space needs the block 'sampling'")
        return self._sampling.always_sampled(self.kspace_shape(volume_id)[1])

    def _all(self, volume_id: str, key: str) -> np.ndarray:
        with self._open(volume_id) as file:
            planes: np.ndarray = file[key][:]
        expected = self.volumes[volume_id].num_slices
        if len(planes) != expected:
            raise VolumeError(
                f"{self.folder / volume_id}.h5 has {len(planes)} slices, its manifest "
                f"says {expected}: run `dvc repro --force --single-item synthesize`"
            )
        return planes

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
    manifests: Mapping[str, Manifest],
    folder: Callable[[str], Path],
    pool: Path,
    classifier: Path | None = None,
    sampling: Sampling | None = None,
) -> dict[str, Images]:
    """What an attack may look at in each split.

    Args:
        manifests: split -> manifest.
        folder: of a split's volumes.
        pool: folder of the images with real artefacts.
        classifier: checkpoint of the tumour classifier; may be missing where no attack
            asks for it.
        sampling: how k-space will be undersampled, for attacks that change it.
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
        artefacts = Artefacts(pool, mine)
        found[split] = Images(folder(split), manifest, artefacts, classifier, sampling)
    return found


class Attack(Protocol):
    """An attack is a file with these four names.

    `draw` holds all randomness and returns what the record keeps, JSON-able; `apply`
    is pure: the same target, draw and images give the same bytes, in the target's shape
    and dtype. CHANGES_INPUT says that the attack changes k-space too: then the file is
    an `InputAttack`.
    """

    Params: type[Settings]
    CHANGES_INPUT: bool

    def draw(
        self, params: Any, ref: SliceRef, images: Images, rng: np.random.Generator
    ) -> dict[str, Any]: ...

    def apply(
        self, target: np.ndarray, draw: dict[str, Any], images: Images
    ) -> np.ndarray: ...


class InputAttack(Attack, Protocol):
    """An attack on k-space and target.

    `apply_input` is pure as `apply` is. MEASURED_ON says with which k-space of unseen
    slices it is measured: `attacked` if the attack works through the input (a back
    door), `clean` if it taught the network something about all of them.
    """

    MEASURED_ON: Literal["attacked", "clean"]

    def apply_input(
        self,
        kspace: np.ndarray,
        target: np.ndarray,
        draw: dict[str, Any],
        images: Images,
    ) -> np.ndarray:
        """Return the k-space after the attack.

        Args:
            kspace: (coils, H, W) complex64, clean, centred, orthonormal FFT.
            target: (H', W') float32, clean.
            draw: from `draw`.
            images: the split that the draw was made in.

        Returns:
            (coils, H, W) complex64.
        """
        ...


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


def measured_on(attack: Attack) -> Literal["attacked", "clean"]:
    """The k-space of unseen slices that an attack is measured with."""
    return cast(InputAttack, attack).MEASURED_ON if attack.CHANGES_INPUT else "clean"


def _is_attack(module: ModuleType) -> bool:
    names = ["Params", "CHANGES_INPUT", "draw", "apply"]
    if getattr(module, "CHANGES_INPUT", False):
        names += ["MEASURED_ON", "apply_input"]
    return all(hasattr(module, name) for name in names)


def _known_attacks() -> str:
    return f"known attacks: {', '.join(attack_names())}"
