"""Samples and batches: the closed threat model, shapes, order, memory."""

import weakref
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from stages.common import paths, slices
from stages.common.launch import Launch
from stages.common.manifest import SliceRef, read_manifest
from stages.common.masks import Sampling, column_mask
from stages.common.samples import ReconSample, SliceFiles
from stages.common.slices import ReconBatch, SliceDataset, cache_bytes, make_loader
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
    assert part.files == whole.files
    assert whole[3] is part[0]
    (EXPORT / f"{refs[3].volume_id}.h5").unlink()
    assert part[0].ref == refs[3]


def sizes(refs: list[SliceRef]) -> int:
    """Bytes that a sample takes in memory."""
    one = dataset(refs)[0]
    return one.masked_kspace.nbytes + one.target.nbytes


def test_memory_has_a_limit_that_restricted_sets_share(refs, monkeypatch):
    monkeypatch.setattr(slices, "CACHE_BYTES", 4 * sizes(refs))
    whole = dataset(refs)
    parts = [whole, whole.restrict(refs[:9]), whole.restrict(refs[9:])]
    for part in parts * 2:
        kept = [part[index] is part[index] for index in range(len(part))]
        assert sum(kept) <= 4
    held = sum(whole[index] is whole[index] for index in range(len(whole)))
    assert held == 4
    assert not whole.fits()
    assert whole.restrict(refs[:4]).fits()


@pytest.mark.parametrize("keep", [True, False])
def test_memory_does_not_grow_with_the_data_set(refs, monkeypatch, keep):
    limit = 4 if keep else 0
    monkeypatch.setattr(slices, "CACHE_BYTES", 4 * sizes(refs))
    monkeypatch.setattr(h5py, "File", counting := OpenFiles())
    read, kspaces = SliceFiles.read, []

    def watched(files: SliceFiles, ref: SliceRef, sampling: Sampling) -> ReconSample:
        sample = read(files, ref, sampling)
        kspaces.append(weakref.ref(sample.masked_kspace))
        return sample

    monkeypatch.setattr(SliceFiles, "read", watched)
    data = SliceDataset(
        paths.kspace("train"), refs, SAMPLING, targets=EXPORT, keep=keep
    )
    loader = make_loader(data, batch_size=2, shuffle_seed=1)
    for _ in range(2):
        for _ in loader:
            assert sum(kspace() is not None for kspace in kspaces) <= limit
            assert not any(counting.files)
    assert len(kspaces) == 2 * len(refs) - limit
    assert sum(kspace() is not None for kspace in kspaces) == limit


class OpenFiles:
    """h5py.File that remembers what it opened; an open file is true."""

    def __init__(self) -> None:
        self.files: list[h5py.File] = []
        self.open = h5py.File

    def __call__(self, *arguments: object) -> h5py.File:
        self.files.append(self.open(*arguments))
        return self.files[-1]


def test_a_data_set_in_memory_is_read_once(refs, monkeypatch):
    monkeypatch.setattr(h5py, "File", counting := OpenFiles())
    loader = make_loader(dataset(refs), batch_size=4, shuffle_seed=1)
    first = len(list(loader))
    opened = len(counting.files)
    assert opened >= 2 * len(refs)
    assert len(list(loader)) == first == 5
    assert len(counting.files) == opened


def test_the_memory_of_a_machine_is_the_user_s_and_its_ranks(refs, monkeypatch):
    monkeypatch.setenv("MENDMRI_CACHE_GB", "0")
    assert not dataset(refs).fits()
    monkeypatch.setenv("MENDMRI_CACHE_GB", "1.5")
    assert cache_bytes() == 1.5 * 2**30
    monkeypatch.setattr(slices, "launch", lambda: Launch(0, 4, 0, 2))
    assert cache_bytes() == 0.75 * 2**30
    monkeypatch.setenv("MENDMRI_CACHE_GB", "much")
    with pytest.raises(ValueError, match="MENDMRI_CACHE_GB = much"):
        dataset(refs)


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
def test_workers_read_what_does_not_fit_and_change_nothing(refs, monkeypatch):
    monkeypatch.setenv("MENDMRI_WORKERS", "2")
    held = make_loader(dataset(refs), batch_size=4, shuffle_seed=1)
    assert held.num_workers == 0
    monkeypatch.setenv("MENDMRI_CACHE_GB", "0")
    streamed = make_loader(dataset(refs), batch_size=4, shuffle_seed=1)
    assert streamed.num_workers == 2
    for epoch in range(2):
        held.set_epoch(epoch)
        streamed.set_epoch(epoch)
        assert content(iter(streamed)) == content(iter(held))
    monkeypatch.setenv("MENDMRI_WORKERS", "all")
    with pytest.raises(ValueError, match="MENDMRI_WORKERS = all"):
        make_loader(dataset(refs), batch_size=4)


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ("no k-space", r"icbm-000_FLAIR.h5 is missing: run `dvc repro synthesize`"),
        ("no export", r"export/p/icbm-000_FLAIR.h5 is missing: run `dvc repro poison`"),
        ("no max", r"export/p/icbm-000_FLAIR.h5: attribute max = 0.0, must be > 0"),
        ("slice", r"icbm-000_FLAIR.h5: reconstruction_rss has 3 slices, slice 3 was"),
        ("short export", r"p/icbm-000_FLAIR.h5: reconstruction_rss has 2 slices"),
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
    elif fault == "short export":
        write_targets(exported, np.ones((2, 40, 32), np.float32))
        refs[0] = refs[0]._replace(slice_num=2)
    else:
        refs[0] = refs[0]._replace(slice_num=3)
    with pytest.raises(VolumeError, match=named):
        dataset(refs)[0]


def test_who_made_the_targets_is_named(refs):
    data = SliceDataset(
        paths.kspace("train"), refs, SAMPLING, targets=EXPORT, targets_by="forget@s"
    )
    exported = EXPORT / f"{refs[0].volume_id}.h5"
    exported.write_bytes(exported.read_bytes()[:500])
    with pytest.raises(VolumeError, match=r"--single-item forget@s"):
        data[0]


def test_slices_whose_targets_differ_in_shape_share_no_batch(refs):
    narrow = refs[0].volume_id
    write_targets(EXPORT / f"{narrow}.h5", np.ones((3, 40, 30), np.float32))
    found = list(make_loader(dataset(refs), batch_size=4))
    assert {batch.target.shape[-1] for batch in found} == {30, 32}
    assert sorted(ref for batch in found for ref in batch.refs) == refs


@pytest.mark.parametrize(("rank", "world_size"), [(0, 2), (0, 3), (1, 3)])
def test_ranks_that_a_step_has_no_slice_for_are_told(
    refs, monkeypatch, caplog, rank, world_size
):
    here = Launch(rank, world_size, rank, world_size)
    monkeypatch.setattr(slices, "launch", lambda: here)
    make_loader(dataset(refs), batch_size=2)
    told = "3 processes share the 2 slices of a step: 1 of them do nothing"
    assert (told in caplog.text) == (rank == 0 and world_size == 3)
