"""One pass over the stages of a pipeline, several at a time."""

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from graphlib import TopologicalSorter
from typing import NamedTuple, NoReturn

from tqdm import tqdm

from stages.check import schedule
from stages.check.pool import Pool, Result
from stages.check.worker import FAILED, RAN

log = logging.getLogger(__name__)


class Report(NamedTuple):
    """What became of the stages: seconds of those that ran, output of the failed."""

    ran: dict[str, float]
    failed: dict[str, Result]


class Run:
    """One pass over the stages, the longest chains of work first.

    After a failure nothing is started any more, and what runs is waited for.

    Attributes:
        report: what has become of the stages so far.

    Args:
        upstream: stage -> the stages it waits for.
        pool: the workers.
        seconds: what each stage is expected to take.
        bar: counts the stages and shows those that run, on a terminal.
    """

    def __init__(
        self,
        upstream: schedule.Upstream,
        pool: Pool,
        *,
        seconds: Mapping[str, float],
        bar: "tqdm[NoReturn]",
    ) -> None:
        self._urgency = schedule.remaining(upstream, seconds)
        self._sorter = TopologicalSorter(upstream)
        self._pool = pool
        self._bar = bar
        self._ready: list[str] = []
        self._running: dict[Future[Result], str] = {}
        self._ended = 0
        self.report = Report({}, {})

    def all(self, changed: Callable[[str], bool]) -> None:
        """Run every stage that has changed.

        Args:
            changed: whether a stage whose upstream is up to date has to run.
        """
        self._sorter.prepare()
        while self._sorter.is_active():
            self._ready += self._sorter.get_ready()
            self._ready.sort(key=lambda name: self._urgency[name])
            idle = len(self._running) < self._pool.size
            if self._ready and idle and not self.report.failed:
                self._begin(self._ready.pop(), changed)
            elif self._running:
                self._collect()
            else:
                break

    def _begin(self, name: str, changed: Callable[[str], bool]) -> None:
        if changed(name):
            self._running[self._pool.submit(name, _teller(name))] = name
            self._bar.set_postfix_str(", ".join(self._running.values()))
        else:
            self._end(name)

    def _collect(self) -> None:
        """Wait until something ends."""
        for future in wait(self._running, return_when=FIRST_COMPLETED).done:
            name, result = self._running.pop(future), future.result()
            self._bar.set_postfix_str(", ".join(self._running.values()), refresh=False)
            if result.outcome == FAILED:
                self.report.failed[name] = result
                continue
            if result.outcome == RAN:
                self.report.ran[name] = result.seconds
            self._end(name)
            total = len(self._urgency)
            log.info("%s | done, %d of %d stages", name, self._ended, total)

    def _end(self, name: str) -> None:
        self._sorter.done(name)
        self._ended += 1
        self._bar.update()


def _teller(name: str) -> Callable[[str], None]:
    return lambda line: log.info("%s | %s", name, line)
