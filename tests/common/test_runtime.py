"""What a stage run shares: one-line errors, exit codes, timing, progress lines."""

import json
import logging
import sys

import pytest
from tqdm import tqdm

from stages.common import paths, runtime
from stages.common.runtime import device, progress, stage_run


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


def test_a_defect_keeps_its_traceback(root):
    with pytest.raises(ZeroDivisionError), stage_run("train"):
        1 / 0  # noqa: B018
    assert not list(root.iterdir())


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
