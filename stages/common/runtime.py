"""What every stage run shares: log, wall time, progress, device, one-line errors."""

import json
import logging
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from stages.common.paths import timing
from stages.common.volume import write_text

if TYPE_CHECKING:
    import torch

ItemT = TypeVar("ItemT")
LINES_EVERY_SECONDS = 15.0

log = logging.getLogger("mendmri")


@contextmanager
def stage_run(stage: str, cell: str = "") -> Iterator[None]:
    """Run the body of a stage: log to stderr, time it, turn user errors into one line.

    A `ValueError` (bad parameter, bad file) or a full disk ends the process with exit
    code 2 and its message; anything else is a defect and keeps its traceback.
    Wall time and peak memory go to metrics/timing/, which no stage reads.
    """
    logging.basicConfig(
        level=logging.INFO,
        format=f"%(asctime)s {stage} {cell} %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
        force=True,
    )
    started = time.perf_counter()
    try:
        yield
    except ValueError as error:
        log.error("%s", error)
        raise SystemExit(2) from error
    except OSError as error:
        log.error("%s: %s", error.filename or "file system", error.strerror or error)
        raise SystemExit(2) from error
    record = {
        "seconds": round(time.perf_counter() - started, 2),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "cores": os.cpu_count(),
    }
    write_text(timing(stage, cell), json.dumps(record) + "\n")
    log.info("done in %.1f s", record["seconds"])


def progress(
    items: Iterable[ItemT],
    *,
    total: int,
    desc: str,
    unit: str = "it",
    status: Callable[[], str] | None = None,
) -> Iterator[ItemT]:
    """Pass items on with rate, remaining time and status (such as the loss).

    A bar on a terminal; elsewhere (a log, CI) a plain line now and then.
    """
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
    """The device of this process: MENDMRI_DEVICE, or a GPU where there is one."""
    import torch

    name = os.environ.get("MENDMRI_DEVICE") or (
        "cuda" if torch.cuda.is_available() else "cpu"
    )
    return torch.device(name)
