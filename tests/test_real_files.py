"""The real files at hand go through their source, synthesis and evaluation."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from stages.common import paths
from stages.common.manifest import read_manifest
from stages.common.varnet import ModelSettings, build_varnet, save_checkpoint
from tests.real_files import averages, images_of, prepare, run

REAL = Path(__file__).resolve().parents[2] / "shared" / "data"

pytestmark = pytest.mark.skipif(
    not REAL.is_dir(), reason="the folder with real files is not beside the project"
)
SMALL = ModelSettings(
    num_cascades=1, chans=4, pools=2, sens_chans=2, sens_pools=1, precision="fp32"
)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    root = tmp_path_factory.mktemp("real")
    checkpoint = root / "untrained.safetensors"
    save_checkpoint(checkpoint, build_varnet(SMALL, seed=0))
    prepare(REAL, root)
    return root, run(root, checkpoint)


@pytest.fixture
def volumes(outcome, monkeypatch):
    """volume_id -> (split, record) of everything that was made."""
    monkeypatch.chdir(outcome[0])
    return {
        record.volume_id: (split, record)
        for split in paths.SPLITS
        for record in read_manifest(paths.manifest(split)).volumes
    }


def kspace_of(volumes, name):
    with h5py.File(paths.kspace(volumes[name][0]) / f"{name}.h5") as file:
        return file["kspace"][:], file["reconstruction_rss"][:], dict(file.attrs)


def test_every_file_became_a_volume(outcome, volumes):
    shapes = {name: (r.coils, *r.matrix) for name, (_, r) in volumes.items()}
    assert shapes["espirit_T1w"] == (8, 230, 180)
    assert shapes["larson_T1w"] == (1, 256, 256)
    assert shapes["alignedsense_T2w"] == (32, 128, 128)
    simulated = {n: s for n, s in shapes.items() if n.startswith(("tcga", "BraTS"))}
    assert len(simulated) == 7
    assert set(simulated.values()) == {(4, 80, 80)}
    assert set(averages(outcome[1])) == set(volumes)


def test_magnitudes_are_never_presented_as_raw(volumes):
    for name, (_, record) in volumes.items():
        made = name.startswith(("tcga", "BraTS"))
        assert record.scanner.startswith("simulated-") == made, name
    _, _, attributes = kspace_of(volumes, "alignedsense_T2w")
    told = attributes["acquisition"] + volumes["alignedsense_T2w"][1].scanner
    assert "image" in told


@pytest.mark.parametrize("name", ["espirit_T1w", "larson_T1w"])
def test_measured_kspace_stays_as_it_was_measured(volumes, name):
    """A real image with its own phase: no symmetry about the centre of k-space."""
    kspace, target, _ = kspace_of(volumes, name)
    plane = kspace[0, 0]
    mirrored = np.roll(plane[::-1, ::-1], 1, axis=(0, 1)).conj()
    assert np.linalg.norm(plane - mirrored) > 0.5 * np.linalg.norm(plane)
    row, column = np.unravel_index(np.abs(plane).argmax(), plane.shape)
    assert abs(row - plane.shape[0] // 2) <= 8
    assert abs(column - plane.shape[1] // 2) <= 8
    # A head in air: bright in the middle, dark in the corners.
    corner = np.mean([target[0][:12, :12], target[0][-12:, -12:]])
    assert corner < 0.1 * np.percentile(target[0], 95)


def test_undersampled_images_differ_from_their_reference(outcome):
    for name in ("larson_T1w", "alignedsense_T2w"):
        images = images_of(outcome[0], name)
        error = np.linalg.norm(images["zero_filled"] - images["clean"])
        assert 0.02 < error / np.linalg.norm(images["clean"]) < 0.7
        assert np.isfinite(images["output"]).all()
