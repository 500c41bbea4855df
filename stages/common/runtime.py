"""What every stage run shares: log, wall time, progress, device, one-line errors.

Every stage imports this file: nothing slow is imported here, torch least of all.
"""

import ctypes
import json
import logging
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from stages.common.launch import launch
from stages.common.paths import timing
from stages.common.volume import write_text

if TYPE_CHECKING:
    import torch

ItemT = TypeVar("ItemT")
LINES_EVERY_SECONDS = 15.0
FULL_DISK = "No space left on device"

log = logging.getLogger("mendmri")


@contextmanager
def stage_run(
    stage: str, cell: str = "", *, many_devices: bool = False
) -> Iterator[None]:
    """Run the body of a stage: log to stderr, time it, turn user errors into one line.

    A `ValueError` (bad parameter, bad file) or a full disk ends the process with exit
    code 2 and its message; MENDMRI_DEBUG=1 adds the traceback. Anything else is a
    defect and keeps its traceback. Wall time and peak memory (of rank 0 or the largest
    of its workers) go to metrics/timing/, which no stage reads.

    Args:
        stage: name of the stage.
        cell: key of the cell.
        many_devices: whether the stage shares its work among the ranks of a launch.
    """
    _start_log(f"{stage} {cell}", rank=0)
    keep_freed_memory()
    started = time.perf_counter()
    try:
        here = launch()
        _start_log(f"{stage} {cell}", rank=here.rank)
        if here.world_size > 1 and not many_devices:
            raise ValueError(
                f"stages.{stage} is one process and was launched as "
                f"{here.world_size}: start it without torchrun or srun"
            )
        yield
    except Exception as error:
        line = _user_error(error)
        if line is None:
            raise
        log.error("%s", line)
        log.debug("where it comes from:", exc_info=error)
        raise SystemExit(2) from error
    if here.rank != 0:
        return
    record = {
        "seconds": round(time.perf_counter() - started, 2),
        "peak_memory_mb": _peak_memory_mb(),
        "cores": os.cpu_count(),
    }
    write_text(timing(stage, cell), json.dumps(record) + "\n")
    log.info("done in %.1f s", record["seconds"])


def _peak_memory_mb() -> int:
    """Of the largest process: this one, or one that it started and waited for."""
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(who).ru_maxrss for who in whose) // 1024


def keep_freed_memory() -> None:
    """Tell the C library to keep what is freed for the next allocation.

    By default glibc gives every block of a megabyte back to the system, which clears
    each of its pages again when the next step asks for the same: 5 to 10 % of a
    training step on a CPU. Other C libraries are left as they are.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        return
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # names in malloc.h
    # Before 2.35 or so it takes no more than 32 MiB. What it refuses must not stay at
    # 128 KiB, where the next two calls would freeze it.
    if not library.mallopt(mmap_threshold, 2**30):
        library.mallopt(mmap_threshold, 2**25)
    library.mallopt(trim_threshold, 2**31 - 1)
    library.mallopt(top_pad, 2**26)


def _start_log(name: str, *, rank: int) -> None:
    """Log to stderr; of several ranks the first one tells how far it has come."""
    where = f"[rank {rank}] " if rank else ""
    logging.basicConfig(
        level=logging.WARNING if rank else logging.INFO,
        format=f"%(asctime)s {name} {where}%(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
        force=True,
    )
    debug = os.environ.get("MENDMRI_DEBUG", "") not in ("", "0")
    log.setLevel(logging.DEBUG if debug else logging.NOTSET)


def _user_error(error: Exception) -> str | None:
    """The line for what a user can mend; None for a defect."""
    text = str(error)
    # HDF5, safetensors and Python each have an error of their own for it.
    if FULL_DISK in text:
        return f"{getattr(error, 'filename', None) or 'file system'}: {FULL_DISK}"
    if isinstance(error, ValueError):
        return text
    if isinstance(error, OSError):
        return f"{error.filename or 'file system'}: {error.strerror or error}"
    if launch().world_size > 1 and _peer_is_gone(error):
        return "another rank has ended: its own message says why"
    return None


def _peer_is_gone(error: Exception) -> bool:
    """Whether gloo or nccl says that another process no longer answers."""
    from torch.distributed import DistError

    gloo = isinstance(error, RuntimeError) and "gloo" in str(error)
    return gloo or isinstance(error, DistError)


def progress(
    items: Iterable[ItemT],
    *,
    total: int,
    desc: str,
    unit: str = "it",
    status: Callable[[], str] | None = None,
) -> Iterator[ItemT]:
    """Pass items on with rate, remaining time and status (such as the loss).

    A bar on a terminal; elsewhere (a log, CI) a plain line now and then. Of several
    ranks the first one reports.
    """
    if launch().rank != 0:
        yield from items
        return
    from tqdm import tqdm

    if sys.stderr.isatty():
        bar = tqdm(items, total=total, desc=desc, unit=unit, dynamic_ncols=True)
        for item in bar:
            yield item
            if status is not None:
                bar.set_postfix_str(status(), refresh=False)
        return
    started = last = time.perf_counter()
    for count, item in enumerate(items, start=1):
        yield item
        now = time.perf_counter()
        if now - last > LINES_EVERY_SECONDS and count < total:
            rate = count / (now - started)
            log.info(
                "%s: %d of %d, %.1f %s/s, %.0f s left %s",
                desc,
                count,
                total,
                rate,
                unit,
                (total - count) / rate,
                status() if status is not None else "",
            )
            last = now


def device() -> "torch.device":
    """The device of this process: MENDMRI_DEVICE, or a GPU where there is one.

    Of several ranks on a machine each has the GPU of its own number. On a GPU, float32
    is then float32: by default cuDNN rounds what convolutions read to 10 bits (TF32).

    Raises:
        ValueError: MENDMRI_DEVICE names one GPU for several ranks.
    """
    import torch

    name = os.environ.get("MENDMRI_DEVICE") or (
        "cuda" if torch.cuda.is_available() else "cpu"
    )
    here, found = launch(), torch.device(name)
    if found.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False
    if here.world_size == 1 or found.type == "cpu":
        return found
    if found.index is not None:
        raise ValueError(
            f"MENDMRI_DEVICE = {name} is one device for {here.world_size} processes: "
            f"use MENDMRI_DEVICE={found.type} and choose with CUDA_VISIBLE_DEVICES"
        )
    return torch.device(found.type, here.local_rank)
