"""What survives a kill, belongs to exactly its inputs, and is used by one at a time."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from stages.common import paths, scratch
from stages.common.params import Settings
from stages.common.scratch import cell_scratch
from tests.common.scratch_orphan import wait_for

ROOT = Path(__file__).resolve().parents[2]


class Block(Settings):
    lr: float


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("input").mkdir()
    Path("input/a").write_text("a")
    return tmp_path


def break_off(lr: float = 0.1, seed: int = 0) -> bool:
    """Start a run and fail; return whether an earlier run's state was there."""
    try:
        with cell_scratch(
            "oracle-0", inputs=[Path("input")], settings=[Block(lr=lr), seed]
        ) as folder:
            found = (folder / "state").exists()
            (folder / "state").touch()
            raise RuntimeError
    except RuntimeError:
        return found


def folders() -> list[Path]:
    return [path for path in paths.scratch("oracle-0").iterdir() if path.is_dir()]


def test_a_broken_run_finds_its_state_again():
    assert not break_off()
    assert break_off()


def test_nothing_is_left_when_it_ends_well():
    break_off()
    with cell_scratch(
        "oracle-0", inputs=[Path("input")], settings=[Block(lr=0.1), 0]
    ) as folder:
        assert (folder / "state").exists()
    assert not folders()
    assert not break_off()


@pytest.mark.parametrize("change", ["setting", "seed", "file", "new file", "time"])
def test_other_inputs_start_anew_and_remove_the_stale(change):
    break_off()
    if change == "file":
        Path("input/a").write_text("other")
    elif change == "new file":
        Path("input/b").write_text("b")
    elif change == "time":
        os.utime("input/a", ns=(0, 0))
    assert not break_off(
        lr=0.2 if change == "setting" else 0.1, seed=int(change == "seed")
    )
    assert len(folders()) == 1


def test_changed_code_starts_anew(monkeypatch, tmp_path):
    code = tmp_path / "module.py"
    code.write_text("x = 1\n")
    module = type(sys)("stages.made_up")
    module.__file__ = str(code)
    monkeypatch.setitem(sys.modules, "stages.made_up", module)
    break_off()
    assert break_off()
    code.write_text("x = 2\n")
    assert not break_off()


def test_the_program_and_the_libraries_count_as_code(monkeypatch, tmp_path):
    program = tmp_path / "__main__.py"
    program.write_text("x = 1\n")
    # A test worker has no such file of its own.
    monkeypatch.setattr(
        sys.modules["__main__"], "__file__", str(program), raising=False
    )
    break_off()
    assert break_off()
    program.write_text("x = 2\n")
    assert not break_off()
    monkeypatch.setattr(scratch, "version", lambda library: f"{library} of tomorrow")
    assert not break_off()


PROGRAM = (sys.executable, "-m", "tests.common.scratch_orphan")
WORK = (*PROGRAM, "work", "first")


def start(*arguments: str) -> subprocess.Popen[str]:
    """Start one of the programs."""
    return subprocess.Popen(
        [*PROGRAM, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )


def kill_once_at_work(process: subprocess.Popen[str]) -> None:
    """As `kill -9` of this one alone: what it started lives on."""
    wait_for(Path("first.inside"))
    process.kill()
    process.wait()


def done_after_a_second_run() -> str:
    """Let the first one end, run the cell once more, return whose work was done."""
    Path("go on").touch()
    wait_for(Path("first.ended"))
    start("work", "second").communicate(timeout=60)
    return Path("done.txt").read_text()


def test_a_second_run_waits_and_takes_over_what_an_orphan_finished():
    kill_once_at_work(start("dvc", *WORK))
    second = start("work", "second")
    time.sleep(1.5)
    assert not Path("second.inside").exists()
    Path("go on").touch()
    _, error = second.communicate(timeout=60)
    assert second.returncode == 0
    assert "another process works on oracle-0" in error
    assert Path("first.ended").exists()
    assert Path("done.txt").read_text() == "first\n"
    assert not folders()


def test_a_launcher_that_is_killed_leaves_an_orphan_too():
    """DVC lives, but saw its command fail and will not take the outputs."""
    dvc = start("dvc", *PROGRAM, "terminal", *WORK)
    wait_for(Path("first.inside"))
    (launcher,) = psutil.Process(dvc.pid).children()
    launcher.kill()
    # The signal takes a moment; the work must not end before it has arrived.
    with suppress(psutil.NoSuchProcess):
        while launcher.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
    assert done_after_a_second_run() == "first\n"


def test_a_run_whose_dvc_lives_keeps_nothing():
    dvc = start("dvc", *WORK)
    wait_for(Path("first.inside"))
    assert done_after_a_second_run() == "first\nsecond\n"
    assert dvc.wait(timeout=60) == 0
    assert not folders()


def test_a_closed_terminal_is_not_a_dead_dvc():
    kill_once_at_work(start("terminal", *PROGRAM, "dvc", *WORK))
    assert done_after_a_second_run() == "first\nsecond\n"


def test_a_run_by_hand_keeps_nothing_for_nobody():
    kill_once_at_work(start("terminal", *WORK))
    assert done_after_a_second_run() == "first\nsecond\n"
