"""What each worker gets of the machine."""

import signal
import time

import psutil
import pytest

from stages.check import pool

CORES = pool.cores


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """Eight cores, and whatever GPUs a test names."""
    for name in (
        "CUDA_VISIBLE_DEVICES", "MENDMRI_CACHE_GB", "MENDMRI_DEVICE", "MENDMRI_LAUNCH",
        "OMP_NUM_THREADS",
    ):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pool, "cores", lambda: 8)
    monkeypatch.setattr(pool.shutil, "which", lambda _: None)
    return monkeypatch


def test_without_gpus_the_cores_are_shared():
    assert pool.default_jobs() == 8
    assert pool.environments(3) == [{"OMP_NUM_THREADS": "2"}] * 3
    assert pool.environments(20)[0] == {"OMP_NUM_THREADS": "1"}


def test_what_a_container_may_not_use_is_no_core(machine):
    machine.setenv("LOKY_MAX_CPU_COUNT", "1")  # stands for the quota of a cgroup
    assert CORES() == 1


def test_threads_that_the_user_has_set_stay(machine):
    machine.setenv("OMP_NUM_THREADS", "5")
    assert pool.environments(2) == [{}, {}]


def test_the_machines_memory_is_shared(machine):
    machine.setenv("MENDMRI_CACHE_GB", "3")
    assert pool.environments(4)[0]["MENDMRI_CACHE_GB"] == "0.75"
    machine.setenv("MENDMRI_CACHE_GB", "much")
    assert "MENDMRI_CACHE_GB" not in pool.environments(4)[0]


def test_a_device_that_is_set_to_nothing_is_not_set(machine):
    machine.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    machine.setenv("MENDMRI_DEVICE", "")
    assert pool.default_jobs() == 2
    assert pool.environments(2)[1]["CUDA_VISIBLE_DEVICES"] == "1"


def test_gpus_are_dealt_out_in_turn(machine):
    machine.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert pool.default_jobs() == 2
    dealt = [share["CUDA_VISIBLE_DEVICES"] for share in pool.environments(3)]
    assert dealt == ["2", "5", "2"]


@pytest.mark.parametrize("visible", ["", "-1"])
def test_hidden_gpus_are_not_used(machine, visible):
    machine.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert pool.gpus() == []


def test_nvidia_smi_is_asked(machine, tmp_path):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 0; echo 1\n")
    program.chmod(0o755)
    machine.setenv("PATH", str(tmp_path), prepend=":")
    machine.setattr(pool.shutil, "which", lambda _: str(program))
    assert pool.gpus() == ["0", "1"]
    program.write_text("#!/bin/sh\necho no driver; exit 9\n")
    assert pool.gpus() == []


@pytest.mark.parametrize(
    ("device", "jobs"), [("cpu", 8), ("cuda:1", 1), ("mps", 1), ("cuda", 2)]
)
def test_a_device_that_the_user_has_named_is_used_by_all(machine, device, jobs):
    machine.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    machine.setenv("MENDMRI_DEVICE", device)
    assert pool.default_jobs() == jobs
    assert ("CUDA_VISIBLE_DEVICES" in pool.environments(1)[0]) == (device == "cuda")


def test_a_cell_that_takes_every_device_runs_alone(machine):
    machine.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    machine.setenv("MENDMRI_LAUNCH", "torchrun --nproc-per-node 2")
    assert pool.default_jobs() == 1


def test_a_worker_that_dies_fails_its_stage(machine):
    machine.setattr(pool.sys, "executable", "/bin/false")
    dead = pool.Pool([{}])
    for _ in range(2):
        assert dead.submit("stage", print).result().outcome == pool.FAILED
        time.sleep(0.1)  # the second name meets a closed pipe
    dead.close()


class Child:
    """A process that a worker has started, and that may have ended since."""

    def __init__(self, pid: int, *, ended: bool) -> None:
        self.pid = pid
        self.ended = ended
        self.got: list[int] = []

    def send_signal(self, how: int) -> None:
        if self.ended:
            raise psutil.NoSuchProcess(self.pid)
        self.got.append(how)


class Running:
    """A worker's process, as seen before it ends."""

    pid = 2**22 + 1  # larger than any that Linux gives

    def poll(self) -> None:
        return None


def test_what_ends_while_it_is_interrupted_is_no_error(machine):
    worker = pool.Worker({})
    worker._process = Running()
    worker.interrupt(signal.SIGINT)  # there is no such process any more
    ended, alive = Child(1, ended=True), Child(2, ended=False)

    class Parent:
        def __init__(self, pid: int) -> None:
            assert pid == Running.pid

        def children(self, *, recursive: bool) -> list[Child]:
            assert recursive
            return [ended, alive]

    machine.setattr(pool.psutil, "Process", Parent)
    worker.interrupt(signal.SIGINT)
    assert alive.got == [signal.SIGINT]
