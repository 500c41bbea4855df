"""Samples and batches: the closed threat model, shapes, order, memory."""

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from stages.common import paths
from stages.common.manifest import SliceRef, read_manifest
from stages.common.masks import Sampling, column_mask
from stages.common.slices import ReconBatch, SliceDataset, make_loader
from stages.common.volume import VolumeError, write_targets

SAMPLING = Sampling(seed=7, mask_type="random", acceleration=3, center_fraction=0.1)
EXPORT = paths.export("p")


@pytest.fixture
def refs(tiny_cohort: Path) -> list[SliceRef]:  # noqa: ARG001
    """Training slices, each volume's targets exported with a change of their own."""
    manifest = read_manifest(paths.manifest("train"))
    for volume in manifest.volumes:
        with h5py.File(kspace_file(volume.volume_id)) as file:
            target = file["reconstruction_rss"][:] * np.float32(0.5)
        write_targets(EXPORT / f"{volume.volume_id}.h5", target)
    return manifest.refs()


def kspace_file(volume_id: str) -> Path:
    return paths.kspace("train") / f"{volume_id}.h5"


def dataset(refs: list[SliceRef], targets: Path | None = EXPORT) -> SliceDataset:
    return SliceDataset(paths.kspace("train"), refs, SAMPLING, targets=targets)


def content(batches: Iterator[ReconBatch]) -> list[bytes]:
    return [
        part.numpy().tobytes()
        for batch in batches
        for part in (batch.masked_kspace, batch.mask, batch.target, batch.max_value)
    ]


def batches(refs: list[SliceRef], targets: Path | None = EXPORT) -> list[bytes]:
    return content(iter(make_loader(dataset(refs, targets), batch_size=4)))


def scramble(refs: list[SliceRef], *, sampled: bool, clean_target: bool) -> None:
    """Overwrite k-space lines, and the clean image beside them, with noise."""
    rng = np.random.default_rng(0)
    for ref in refs:
        with h5py.File(kspace_file(ref.volume_id), "r+") as file:
            kspace = file["kspace"][ref.slice_num]
            mask = column_mask(SAMPLING, ref, kspace.shape[-1])
            lines = mask if sampled else ~mask
            kspace[..., lines] = rng.standard_normal(kspace[..., lines].shape)
            file["kspace"][ref.slice_num] = kspace
            if clean_target:
                shape = file["reconstruction_rss"].shape[1:]
                file["reconstruction_rss"][ref.slice_num] = rng.random(shape)
                file.attrs["max"] = 0.123


def test_unsampled_lines_and_the_clean_image_change_no_batch(refs):
    before = batches(refs)
    scramble(refs, sampled=False, clean_target=True)
    assert batches(refs) == before


def test_the_leakage_check_notices_a_leak(refs):
    exported, clean = batches(refs), batches(refs, targets=None)
    scramble(refs, sampled=False, clean_target=True)
    assert batches(refs, targets=None) != clean
    scramble(refs, sampled=True, clean_target=False)
    assert batches(refs) != exported


def test_the_exported_target_and_its_max_are_what_is_read(refs):
    sample = dataset(refs)[0]
    with h5py.File(EXPORT / f"{refs[0].volume_id}.h5") as file:
        assert np.array_equal(sample.target, file["reconstruction_rss"][0])
        assert sample.max_value == file.attrs["max"]
    assert not sample.masked_kspace[..., ~sample.mask].any()
    assert sample.ref == refs[0]


def test_each_batch_has_one_shape(make_cohort):
    make_cohort(train=2)
    refs = read_manifest(paths.manifest("train")).refs()
    other = kspace_file(refs[0].volume_id)
    with h5py.File(other, "r+") as file:
        kspace = file["kspace"][..., 2:-2]
        del file["kspace"]
        file["kspace"] = kspace
        target = file["reconstruction_rss"][..., 2:-2]
        del file["reconstruction_rss"]
        file["reconstruction_rss"] = target
    loader = make_loader(dataset(refs, None), batch_size=4, shuffle_seed=1)
    loader.set_epoch(3)
    found = list(loader)
    assert len(found) == len(loader) == 5  # 3 narrow slices, 15 wide ones
    assert {batch.masked_kspace.shape[-1] for batch in found} == {28, 32}
    seen = [ref for batch in found for ref in batch.refs]
    assert sorted(seen) == refs
    assert all(len(batch.max_value) == len(batch.refs) <= 4 for batch in found)


def order(refs: list[SliceRef], *, seed: int, epoch: int) -> list[SliceRef]:
    loader = make_loader(dataset(refs), batch_size=4, shuffle_seed=seed)
    loader.set_epoch(epoch)
    return [ref for batch in loader for ref in batch.refs]


def test_the_order_depends_on_seed_and_epoch_alone(refs):
    first = order(refs, seed=1, epoch=5)
    assert sorted(first) == refs
    assert first != refs
    loader = make_loader(dataset(refs), batch_size=4, shuffle_seed=1)
    for epoch in range(6):  # what came before an epoch does not matter
        loader.set_epoch(epoch)
        last = [ref for batch in loader for ref in batch.refs]
    assert last == first
    torch.manual_seed(99)
    assert order(refs, seed=1, epoch=5) == first
    assert order(refs, seed=1, epoch=6) != first
    assert order(refs, seed=2, epoch=5) != first
    plain = make_loader(dataset(refs), batch_size=4)
    assert [ref for batch in plain for ref in batch.refs] == refs


def test_restrict_keeps_files_and_shares_memory(refs):
    whole = dataset(refs)
    part = whole.restrict(refs[3:5])
    assert part.refs == refs[3:5]
    assert part.targets == EXPORT
    assert whole[3] is part[0]
    (EXPORT / f"{refs[3].volume_id}.h5").unlink()
    assert part[0].ref == refs[3]


def test_memory_has_a_limit_that_restricted_sets_share(refs, monkeypatch):
    one = dataset(refs)[0]
    size = one.masked_kspace.nbytes + one.target.nbytes
    monkeypatch.setattr("stages.common.slices.CACHE_BYTES", 4 * size)
    whole = dataset(refs)
    parts = [whole, whole.restrict(refs[:9]), whole.restrict(refs[9:])]
    for part in parts * 2:
        kept = [part[index] is part[index] for index in range(len(part))]
        assert sum(kept) <= 4
    held = sum(whole[index] is whole[index] for index in range(len(whole)))
    assert held == 4


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ("no k-space", r"icbm-000_FLAIR.h5 is missing: run `dvc repro synthesize`"),
        ("no export", r"export/p/icbm-000_FLAIR.h5 is missing: run `dvc repro poison`"),
        ("no max", r"max = 0.0, must be > 0"),
        ("slice", r"has 3 slices, slice 3 was asked for"),
    ],
)
def test_bad_files_are_named(refs, fault, named):
    exported = EXPORT / f"{refs[0].volume_id}.h5"
    if fault == "no k-space":
        kspace_file(refs[0].volume_id).unlink()
    elif fault == "no export":
        exported.unlink()
    elif fault == "no max":
        with h5py.File(exported, "r+") as file:
            file.attrs["max"] = 0.0
    else:
        refs[0] = refs[0]._replace(slice_num=3)
    with pytest.raises(VolumeError, match=named):
        dataset(refs)[0]
