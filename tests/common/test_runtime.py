"""What a stage run shares: one-line errors, exit codes, timing, progress lines."""

import json
import logging
import sys
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch.distributed import DistError
from tqdm import tqdm

from stages.common import paths, runtime
from stages.common.runtime import device, progress, stage_run
from stages.common.volume import atomic_path

FULL = "No space left on device"


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    """The project's root; what `stage_run` does to the log is undone."""
    monkeypatch.chdir(tmp_path)
    logger = logging.getLogger()
    level, handlers = logger.level, logger.handlers[:]
    yield tmp_path
    logger.handlers[:] = handlers
    logger.setLevel(level)


def test_a_good_run_leaves_its_timing(capfd):
    with stage_run("train", "poisoned/p"):
        logging.getLogger("mendmri").info("working")
    record = json.loads(paths.timing("train", "poisoned/p").read_text())
    assert set(record) == {"seconds", "peak_memory_mb", "cores"}
    assert record["peak_memory_mb"] > 10
    error = capfd.readouterr().err
    assert "train poisoned/p working" in error
    assert "done in" in error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("train.lr = -1: too small"), "train.lr = -1: too small"),
        (OSError(28, "No space left on device", "x.h5"), "x.h5: No space left on dev"),
        (OSError("odd"), "file system: odd"),
        # What the libraries make of the same.
        (RuntimeError(f"Can't flush\n (errno = 28, '{FULL}')"), f"file system: {FULL}"),
        (SafetensorError(f"I/O error: {FULL} (os error 28)"), f"file system: {FULL}"),
    ],
)
def test_a_user_error_is_one_line_and_exit_code_2(capfd, root, error, line):
    with pytest.raises(SystemExit) as exit_, stage_run("train", "oracle-0"):
        raise error
    assert exit_.value.code == 2
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert line in lines[0]
    assert not list(root.iterdir())


@pytest.mark.parametrize("error", [ZeroDivisionError(), RuntimeError("gloo: gone")])
def test_a_defect_keeps_its_traceback(root, error):
    with pytest.raises(type(error)), stage_run("train"):
        raise error
    assert not list(root.iterdir())


def test_debug_shows_where_a_user_error_comes_from(capfd, monkeypatch):
    monkeypatch.setenv("MENDMRI_DEBUG", "1")
    with pytest.raises(SystemExit), stage_run("train", "oracle-0"):
        raise ValueError("too small")
    lines = capfd.readouterr().err.splitlines()
    assert lines[0].endswith("train oracle-0 too small")
    assert 'raise ValueError("too small")' in "".join(lines)


@pytest.fixture
def second_of_four(monkeypatch):
    for name, value in {
        "TORCHELASTIC_RUN_ID": "none", "RANK": "1", "WORLD_SIZE": "4",
        "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("second_of_four")
def test_a_stage_that_is_one_process_refuses_to_be_four(capfd):
    with pytest.raises(SystemExit) as exit_, stage_run("poison", "p"):
        raise AssertionError("it ran")
    assert exit_.value.code == 2
    assert (
        "stages.poison is one process and was launched as 4" in capfd.readouterr().err
    )


@pytest.mark.usefixtures("second_of_four")
def test_other_ranks_are_quiet_and_write_no_timing(capfd, root):
    with stage_run("train", "oracle-0", many_devices=True):
        logging.getLogger("mendmri").info("working")
        assert list(progress(range(3), total=3, desc="fit")) == [0, 1, 2]
        logging.getLogger("mendmri").warning("odd")
    error = capfd.readouterr().err.splitlines()
    assert [line[9:] for line in error] == ["train oracle-0 [rank 1] odd"]
    assert not list(root.iterdir())


@pytest.mark.usefixtures("second_of_four")
@pytest.mark.parametrize(
    "error", [RuntimeError("[gloo/pair.cc:5] Connection closed"), DistError("timeout")]
)
def test_a_rank_whose_peer_is_gone_says_so(capfd, error):
    with pytest.raises(SystemExit) as exit_:
        with stage_run("train", "oracle-0", many_devices=True):
            raise error
    assert exit_.value.code == 2
    assert "[rank 1] another rank has ended" in capfd.readouterr().err


def test_a_file_that_does_not_fit_on_the_disk_is_named(tmp_path):
    with pytest.raises(OSError, match="No space left") as error:
        with atomic_path(tmp_path / "data.h5"), Path("/dev/full").open("w") as full:
            full.write("x" * 100_000)
    assert error.value.filename == str(tmp_path / "data.h5")


def test_progress_is_plain_lines_in_a_log(caplog, monkeypatch):
    monkeypatch.setattr(runtime, "LINES_EVERY_SECONDS", -1.0)
    caplog.set_level(logging.INFO, logger="mendmri")
    items = progress(
        iter("abc"), total=3, desc="fit", unit="step", status=lambda: "loss 0.5"
    )
    assert list(items) == ["a", "b", "c"]
    assert len(caplog.messages) == 2  # the last is not worth a line
    assert caplog.messages[0].startswith("fit: 1 of 3, ")
    assert "step/s" in caplog.messages[0]
    assert caplog.messages[0].endswith("s left loss 0.5")
    assert "\r" not in "".join(caplog.messages)


def test_progress_is_quiet_between_lines(caplog):
    caplog.set_level(logging.INFO, logger="mendmri")
    assert list(progress(range(100), total=100, desc="fit")) == list(range(100))
    assert not caplog.messages


def test_progress_is_a_bar_on_a_terminal(capfd, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    items = progress(range(3), total=3, desc="fit", status=lambda: "loss 0.5")
    assert list(items) == [0, 1, 2]
    assert "fit" in capfd.readouterr().err
    assert not tqdm._instances


def test_the_device_is_named_by_the_environment(monkeypatch):
    monkeypatch.setenv("MENDMRI_DEVICE", "meta")
    assert device().type == "meta"
    monkeypatch.setenv("MENDMRI_DEVICE", "cpu")
    assert device().type == "cpu"
    monkeypatch.setenv("MENDMRI_DEVICE", "cuda:1")
    assert device() == torch.device("cuda", 1)


def test_float32_on_a_gpu_is_no_tf32(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setenv("MENDMRI_DEVICE", "cpu")
    device()
    assert torch.backends.cudnn.allow_tf32
    monkeypatch.setenv("MENDMRI_DEVICE", "cuda:0")
    device()
    assert not torch.backends.cudnn.allow_tf32


class OldLibrary:
    """A C library that maps blocks above a limit in any case."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.mmap_threshold = 2**17

    def mallopt(self, name: int, value: int) -> int:
        if name == -3 and value <= self.limit:
            self.mmap_threshold = value
        return int(name != -3 or value <= self.limit)


@pytest.mark.parametrize("limit", [2**25, 2**31])
def test_freed_memory_is_kept_by_old_c_libraries_too(monkeypatch, limit):
    library = OldLibrary(limit)
    monkeypatch.setattr(runtime.ctypes, "CDLL", lambda _: library)
    runtime.keep_freed_memory()
    assert library.mmap_threshold == min(limit, 2**30)


@pytest.mark.usefixtures("second_of_four")
def test_each_rank_has_the_device_of_its_number(monkeypatch):
    monkeypatch.setenv("MENDMRI_DEVICE", "cuda")
    assert device() == torch.device("cuda", 1)
    monkeypatch.setenv("MENDMRI_DEVICE", "cpu")
    assert device() == torch.device("cpu")
    monkeypatch.setenv("MENDMRI_DEVICE", "cuda:3")
    with pytest.raises(ValueError, match="cuda:3 is one device for 4 processes"):
        device()
