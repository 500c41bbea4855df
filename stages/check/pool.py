"""Worker processes: what each may use of the machine, and how they are ended."""

import os
import queue
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import NamedTuple

import psutil

from stages.check.worker import END, FAILED

LAST_LINES = 30
MEMORY = "MENDMRI_CACHE_GB"
STOP_SECONDS = 20.0

Say = Callable[[str], None]


def gpus() -> list[str]:
    """GPUs that cells may use, as CUDA_VISIBLE_DEVICES names them."""
    if (os.environ.get("MENDMRI_DEVICE") or "cuda") != "cuda":
        return []  # the CPU, or one GPU for everything
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name.strip() not in ("", "-1")]
    if not shutil.which("nvidia-smi"):
        return []
    query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    listing = subprocess.run(query, capture_output=True, text=True, check=False)
    return listing.stdout.split() if listing.returncode == 0 else []


def cores() -> int:
    """CPU cores that this process may use: its affinity, its container's quota."""
    import joblib  # half a second, which `check` has no use for

    return int(joblib.cpu_count())


def default_jobs() -> int:
    """One per GPU, or per core without one; one where all cells share a device."""
    device = os.environ.get("MENDMRI_DEVICE") or "cpu"
    if os.environ.get("MENDMRI_LAUNCH") or device not in ("cpu", "cuda"):
        return 1
    return len(gpus()) or cores()


def environments(jobs: int) -> list[dict[str, str]]:
    """What each worker's commands get: its GPU, its share of cores and of memory.

    A number of threads that the user has set stays; memory that the user has set for
    samples is the machine's.
    """
    threads = {"OMP_NUM_THREADS": str(max(1, cores() // jobs))}
    shared = {key: value for key, value in threads.items() if key not in os.environ}
    given = os.environ.get(MEMORY)
    with suppress(ValueError):  # who reads it says what is wrong with it
        shared |= {MEMORY: f"{float(given) / jobs:g}"} if given else {}
    found = gpus()
    return [
        shared | ({"CUDA_VISIBLE_DEVICES": found[job % len(found)]} if found else {})
        for job in range(jobs)
    ]


class Result(NamedTuple):
    """How a stage ended, how long it took, and the last that it said."""

    outcome: str
    seconds: float
    last_lines: list[str]


class Worker:
    """A process that runs stages, started when the first one comes."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._process: subprocess.Popen[str] | None = None
        self._interrupted: set[int] = set()

    def run(self, name: str, say: Say) -> str:
        """Run a stage to its end, passing on each line of its output."""
        process = self._process or self._start()
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("a worker without pipes")
        try:
            process.stdin.write(f"{name}\n")
            process.stdin.flush()
        except BrokenPipeError:
            return FAILED
        for line in process.stdout:
            if line.startswith(END):
                return line.strip().removeprefix(END)
            if line.strip():
                say(line.rstrip())
        return FAILED  # the worker has died; it has said why

    def _start(self) -> "subprocess.Popen[str]":
        # In a session of its own: Ctrl-C must not hit DVC while it writes dvc.lock.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "stages.check.worker"],
            env=os.environ | self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        return self._process

    def interrupt(self, how: signal.Signals) -> None:
        """Send a signal to what the worker runs, not to DVC itself."""
        if self._process is None or self._process.poll() is not None:
            return
        children: list[psutil.Process] = []
        with suppress(psutil.NoSuchProcess):  # it has ended since
            children = psutil.Process(self._process.pid).children(recursive=True)
        for child in children:
            if child.pid not in self._interrupted or how == signal.SIGKILL:
                self._interrupted.add(child.pid)
                with suppress(psutil.NoSuchProcess):
                    child.send_signal(how)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """Let the process end, and wait for it."""
        if self._process is not None and self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
            self._process.wait()


class Pool:
    """A number of workers, each with a thread that listens to it."""

    def __init__(self, environments: Iterable[dict[str, str]]) -> None:
        self._workers = [Worker(environment) for environment in environments]
        self._idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._listeners = ThreadPoolExecutor(len(self._workers))
        self._futures: list[Future[Result]] = []

    @property
    def size(self) -> int:
        return len(self._workers)

    def submit(self, name: str, say: Say) -> "Future[Result]":
        """Give a stage to an idle worker; `say` gets every line of its output."""
        future = self._listeners.submit(self._run, name, say)
        self._futures.append(future)
        return future

    def _run(self, name: str, say: Say) -> Result:
        last_lines: deque[str] = deque(maxlen=LAST_LINES)

        def listen(line: str) -> None:
            last_lines.append(line)
            say(line)

        worker = self._idle.get()
        started = time.monotonic()
        outcome = worker.run(name, listen)
        self._idle.put(worker)
        return Result(outcome, time.monotonic() - started, list(last_lines))

    def interrupt(self) -> None:
        """End what runs, as Ctrl-C would; DVC itself is given time to record it."""
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            for worker in self._workers:
                worker.interrupt(signal.SIGINT)
            if not wait(self._futures, timeout=0.2).not_done:
                return
        for worker in self._workers:
            worker.interrupt(signal.SIGKILL)
            worker.kill()

    def close(self) -> None:
        """Wait for what runs, and let the workers end."""
        self._listeners.shutdown()
        for worker in self._workers:
            worker.close()
