"""Stages side by side in a real DVC project: as DVC alone would leave it."""

import json
import os
import re
import signal
import time
from contextlib import suppress

import psutil
import pytest
from dvc.lock import make_lock

from stages.check.dag import Pipeline
from tests.check.toy_pipeline import DIAMOND, Toy, stage
from tests.smoke_project import wait_until


@pytest.fixture
def diamond(tmp_path) -> Toy:
    toy = Toy(tmp_path / "toy", DIAMOND)
    (toy.root / "seed").write_text("1\n")
    return toy


def started(text: str) -> list[str]:
    return re.findall(r"^(\S+) \| Running stage", text, re.MULTILINE)


def test_stages_run_side_by_side_and_dvc_finds_nothing_to_do(diamond):
    text = diamond.run()
    assert started(text)[0] == "top"
    assert started(text)[-1] == "bottom"
    assert diamond.read("bottom") == "1\n1\n"
    assert diamond.recorded == set(DIAMOND)
    # The plain `dvc repro` at the end.
    assert text.count("didn't change, skipping") == 4
    assert "Data and pipelines are up to date." in text
    history = diamond.read("metrics/timing/stages.csv").splitlines()
    assert [line.split(",")[0] for line in history[1:]] == sorted(DIAMOND)

    text = diamond.run()
    assert "No stage has changed" in text
    assert " | " not in text  # no worker was asked

    (diamond.root / "left").unlink()
    (diamond.root / "right").unlink()
    # Both come from DVC's cache, and nothing follows from them.
    assert started(diamond.run()) == []
    assert diamond.read("left") == "1\n"


@pytest.mark.slow
def test_what_git_keeps_comes_from_the_cache_of_runs_too(tmp_path):
    """DVC alone enters no stage there that has such an output."""
    scores = {"scores": {"cache": False}}
    command = "cat seed > model; cat seed > scores"
    train = {"cmd": command, "deps": ["seed"], "outs": ["model", scores]}
    toy = Toy(tmp_path / "toy", {"train": train})
    for seed in ("1\n", "2\n"):
        (toy.root / "seed").write_text(seed)
        assert started(toy.run()) == ["train"]
    (toy.root / "seed").write_text("1\n")
    (toy.root / "dvc.lock").unlink()
    text = toy.run()
    assert started(text) == []
    assert "'train' is cached" in text
    assert toy.read("scores") == toy.read("model") == "1\n"


def test_one_job_is_dvc_alone(diamond):
    stages = {"top": DIAMOND["top"]}
    diamond.define(stages)
    text = diamond.run(jobs=1)
    assert "Running stage 'top':" in text
    assert " | " not in text


def test_a_part_of_the_pipeline_runs_with_what_it_needs(tmp_path):
    toy = Toy(
        tmp_path / "toy",
        {
            "top": stage("touch top", outs=("top",)),
            "a-1": stage("touch a1", deps=("top",), outs=("a1",)),
            "a-2": stage("touch a2", deps=("top",), outs=("a2",)),
            "b": stage("touch b", deps=("a1",), outs=("b",)),
        },
    )
    text = toy.run("--only", "a-*")
    assert toy.recorded == {"top", "a-1", "a-2"}
    assert "up to date" in text
    for jobs in (1, 2):
        assert "no stage of dvc.yaml is called so" in toy.run(
            "--only", "c*", jobs=jobs, code=1
        )
    toy.run("--only", "b", jobs=1)
    assert toy.recorded == {"top", "a-1", "a-2", "b"}


@pytest.fixture
def failing(tmp_path) -> Toy:
    """`bad` fails while `slow` runs; `after` waits for both, `later` for `slow`."""
    toy = Toy(
        tmp_path / "toy",
        {
            "bad": stage(
                "echo no such volume >&2; test -e mended > bad", outs=("bad",)
            ),
            "slow": stage("sleep 2; touch slow", outs=("slow",)),
            "after": stage("touch after", deps=("bad", "slow"), outs=("after",)),
            "later": stage("touch later", deps=("slow",), outs=("later",)),
        },
    )
    return toy


def test_a_failure_lets_what_runs_end_and_starts_nothing(failing):
    text = failing.run(code=1)
    assert failing.recorded == {"slow"}
    assert set(started(text)) == {"bad", "slow"}
    end = text[text.index("'bad' failed. The last lines of it:") :]
    assert "no such volume" in end
    assert "failed to reproduce 'bad'" in end
    assert "exited with 1" in end
    (failing.root / "mended").touch()
    assert set(started(failing.run())) == {"bad", "after", "later"}


@pytest.mark.slow
def test_a_signal_ends_the_commands_and_keeps_what_has_ended(diamond):
    sleeper = stage("sleep 600; touch asleep", deps=("left",), outs=("asleep",))
    diamond.define(DIAMOND | {"sleeper": sleeper})
    process = diamond.start()
    me = psutil.Process(process.pid)

    def asleep() -> list[psutil.Process]:
        """What the runner has started, once nothing but the sleeper is left to do."""
        if "bottom | done" not in diamond.read("log.txt"):
            return []
        below = me.children(recursive=True)
        return below if any("sleep 600" in cmd_of(child) for child in below) else []

    below = wait_until(asleep, seconds=120)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 130, diamond.read("log.txt")
    psutil.wait_procs(below, timeout=5)
    assert not any(child.is_running() for child in below)
    assert diamond.recorded == set(DIAMOND)
    assert "bottom," in diamond.read("metrics/timing/stages.csv")
    diamond.define(DIAMOND)
    assert "No stage has changed" in diamond.run()


def cmd_of(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess):
        return " ".join(process.cmdline())
    return ""


@pytest.mark.slow
def test_files_that_another_process_uses_are_waited_for(diamond):
    """DVC's own lock of a path, held by a process that lives: this one."""
    holder = {"pid": os.getpid(), "cmd": "another dvc repro"}
    lock = diamond.root / ".dvc/tmp/rwlock"
    lock.parent.mkdir(exist_ok=True)
    held = {str(diamond.root / "top"): holder}
    lock.write_text(json.dumps({"write": held, "read": {}}))
    busy = "is busy, it is being blocked by"
    process = diamond.start()
    wait_until(lambda: busy in diamond.read("log.txt"), seconds=120)
    time.sleep(2)
    assert not (diamond.root / "top").exists()
    lock.write_text(json.dumps({"write": {}, "read": {}}))
    assert process.wait(timeout=120) == 0, diamond.read("log.txt")
    assert diamond.read("log.txt").count(busy) == 1
    assert diamond.recorded == set(DIAMOND)


def many(stages: int) -> dict[str, dict]:
    """Independent chains of two, each stage as short as can be."""
    found = {}
    for number in range(stages // 2):
        a, b = f"a{number:02d}", f"b{number:02d}"
        found[a] = stage(f"echo {number} > {a}", deps=("seed",), outs=(a,))
        found[b] = stage(f"cat {a} > {b}", deps=(a,), outs=(b,))
    return found


@pytest.mark.slow
def test_no_entry_is_lost_when_two_runs_of_many_workers_compete(diamond):
    stages = many(16)
    diamond.define(stages)
    for number in range(2):
        (diamond.root / "seed").write_text(f"{number}\n")
        logs = ["one.txt", "two.txt"]
        runs = [diamond.start(jobs=4, log=log) for log in logs]
        codes = [run.wait(timeout=300) for run in runs]
        assert codes == [0, 0], [diamond.read(log) for log in logs]
        assert diamond.recorded == set(stages)
        assert diamond.status() == {}


def test_half_a_lock_is_removed_and_a_whole_one_kept(diamond, monkeypatch):
    monkeypatch.chdir(diamond.root)
    pipeline = Pipeline()
    lock = diamond.root / ".dvc/tmp/rwlock"
    pipeline.drop_broken_lock()
    for text, kept in (('{"write": {', False), ("", False), ('{"write": {}}', True)):
        lock.write_text(text)
        pipeline.drop_broken_lock()
        assert lock.exists() == kept


def test_half_a_lock_that_is_being_written_is_kept(diamond, monkeypatch):
    """DVC empties the file and fills it again, behind its guard."""
    monkeypatch.chdir(diamond.root)
    lock = diamond.root / ".dvc/tmp/rwlock"
    lock.write_text("")
    pipeline = Pipeline()
    with make_lock(str(lock.with_name("rwlock.lock"))):
        pipeline.drop_broken_lock()
        assert lock.exists()
    pipeline.drop_broken_lock()
    assert not lock.exists()
