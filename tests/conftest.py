"""A tiny cohort in the pipeline's own layout, for every stage's tests."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.common import paths
from stages.common.artefacts import write_artefact_index
from stages.common.manifest import Manifest, VolumeRecord, write_manifest
from stages.common.volume import Volume, write_volume
from tests.smoke_project import Project, make_project

MATRIX = (40, 32)
COILS = 4
SLICES = 3
CONTRASTS = {"FLAIR": (0.9, 0.2, 0.6), "T1w": (0.5, 0.9, 0.3), "T2w": (0.7, 0.4, 1.0)}
PREFIX = {"train": "icbm", "val": "icbm-v", "test": "ch2"}
HEADER = """<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding>
<encodedSpace><matrixSize><x>{0}</x><y>{1}</y><z>1</z></matrixSize></encodedSpace>
<reconSpace><matrixSize><x>{0}</x><y>{1}</y><z>1</z></matrixSize></reconSpace>
<encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>{2}</maximum>
<center>{3}</center></kspace_encoding_step_1></encodingLimits>
</encoding></ismrmrdHeader>""".format(*MATRIX, MATRIX[1] - 1, MATRIX[1] // 2)


def make_volume(
    subject: int,
    contrast: str,
    patient_id: str,
    *,
    matrix: tuple[int, int] = MATRIX,
    coils: int = COILS,
) -> Volume:
    """Three ellipses whose shape is the subject's and whose grey is the contrast's."""
    anatomy = np.random.default_rng([7, subject])
    noise = np.random.default_rng([8, subject, sorted(CONTRASTS).index(contrast)])
    rows, columns = np.meshgrid(*(np.linspace(-1, 1, n) for n in matrix), indexing="ij")
    image = np.zeros((SLICES, *matrix))
    for size, grey in zip((0.8, 0.5, 0.25), CONTRASTS[contrast], strict=True):
        for index in range(SLICES):
            radii = size * anatomy.uniform(0.8, 1.0, 2)
            offset = anatomy.uniform(-0.08, 0.08, 2)
            inside = ((rows - offset[0]) / radii[0]) ** 2
            inside += ((columns - offset[1]) / radii[1]) ** 2
            image[index][inside < 1] = grey
    angles = 2 * np.pi * np.arange(coils)[:, None, None] / coils
    distance = (rows - np.sin(angles)) ** 2 + (columns - np.cos(angles)) ** 2
    maps = np.exp(-distance / 2 + 1j * angles)
    coil_images = image[:, None] * maps
    coil_images += 0.01 * (
        noise.standard_normal(coil_images.shape)
        + 1j * noise.standard_normal(coil_images.shape)
    )
    axes = (-2, -1)
    shifted = np.fft.ifftshift(coil_images, axes=axes)
    kspace = np.fft.fftshift(np.fft.fft2(shifted, norm="ortho"), axes=axes)
    target = np.sqrt((np.abs(coil_images) ** 2).sum(1))
    return Volume(
        kspace=kspace.astype(np.complex64),
        target=target.astype(np.float32),
        header=HEADER,
        acquisition=f"AX{contrast.upper()}",
        patient_id=patient_id,
    )


def write_split(split: str, subjects: int, *, mixed: bool = False) -> Manifest:
    """Write a split's volumes and manifest below the current folder.

    Args:
        split: train, val or test.
        subjects: number of them.
        mixed: every other subject was scanned with another matrix and coil.
    """
    records = []
    for number in range(subjects):
        subject_id = f"{PREFIX[split]}-{number:03d}"
        seed = number + 100 * paths.SPLITS.index(split)
        other = mixed and number % 2
        matrix, coils = ((36, 44), 3) if other else (MATRIX, COILS)
        for contrast in sorted(CONTRASTS):
            volume_id = f"{subject_id}_{contrast}"
            volume = make_volume(seed, contrast, subject_id, matrix=matrix, coils=coils)
            write_volume(paths.kspace(split) / f"{volume_id}.h5", volume)
            records.append(
                VolumeRecord(
                    volume_id=volume_id,
                    subject_id=subject_id,
                    contrast=contrast,
                    scanner=f"scanner-{number % 2}",
                    num_slices=SLICES,
                    coils=coils,
                    matrix=matrix,
                    max_value=float(volume.target.max()),
                )
            )
    manifest = Manifest(split=split, volumes=tuple(records))
    write_manifest(paths.manifest(split), manifest)
    return manifest


@pytest.fixture(autouse=True)
def own_luck() -> Iterator[None]:
    """A layer's first weights depend on no test that ran before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        yield


@pytest.fixture
def one_thread() -> Iterator[None]:
    """The kernels of small layers want it; elsewhere sums depend on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def make_cohort(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Manifest]]:
    """Make `tmp_path` the project's root and write a cohort of so many subjects.

    Returns:
        `make_cohort(train=2, val=1, test=1)` -> split -> manifest.
    """
    monkeypatch.chdir(tmp_path)

    def make(*, mixed: bool = False, **subjects: int) -> dict[str, Manifest]:
        write_artefact_index(paths.artefacts(), [])
        return {
            split: write_split(split, count, mixed=mixed)
            for split, count in subjects.items()
        }

    return make


@pytest.fixture
def tiny_cohort(
    make_cohort: Callable[..., dict[str, Manifest]], tmp_path: Path
) -> Path:
    """The project's root: 2 train, 1 val, 1 test subjects x 3 contrasts x 3 slices."""
    make_cohort(train=2, val=1, test=1)
    return tmp_path


@pytest.hookimpl(tryfirst=True)  # before xdist looks at the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep a file's tests on one worker, and on one of them all that need `finished`.

    Fixtures are made once per worker, and that one takes minutes: it is begun first,
    and what else is slow next, so that no worker is left alone with the last of it.
    """

    def turn(item: pytest.Item) -> tuple[bool, bool]:
        fixtures = getattr(item, "fixturenames", ())
        return "finished" not in fixtures, item.get_closest_marker("slow") is None

    items.sort(key=turn)
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        group = "finished" if "finished" in fixtures else item.nodeid.split("::")[0]
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The smoke project after one `make repro`, committed. Nobody changes it."""
    project = make_project(tmp_path_factory.mktemp("smoke") / "project")
    project.side_by_side()
    project.commit()
    return project


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Iterator[Project]:
    """A finished project to change, in the place of the one that nobody changes.

    Numba finds compiled kernels by the path of their source: elsewhere they would be
    compiled anew in every test.
    """
    kept = finished.root.with_name("kept")
    finished.root.rename(kept)
    try:
        yield Project(kept).copy(finished.root)
    finally:
        finished.root.rename(tmp_path / "used")
        kept.rename(finished.root)
