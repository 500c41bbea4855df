"""The order of stages: long chains first, by what former runs took."""

import pytest

from stages.check import schedule
from stages.check.pool import Result
from stages.check.run import Run
from stages.check.worker import FAILED, RAN, SAME

# check -> (oracle, poison -> poisoned) -> report
UPSTREAM = {
    "check": set(),
    "oracle": {"check"},
    "poison": {"check"},
    "poisoned": {"poison"},
    "report": {"oracle", "poisoned"},
}
SECONDS = {"check": 1.0, "oracle": 2.0, "poison": 3.0, "poisoned": 4.0, "report": 5.0}


def test_remaining_is_the_longest_chain_behind_a_stage():
    assert schedule.remaining(UPSTREAM, SECONDS) == {
        "check": 13.0, "oracle": 7.0, "poison": 12.0, "poisoned": 9.0, "report": 5.0,
    }  # fmt: skip


def test_what_has_not_run_is_taken_for_its_family():
    history = {"train@a": 10.0, "train@b": 20.0, "check": 0.0}
    names = ["train@a", "train@new", "check", "other@x"]
    found = schedule.estimate(names, history)
    assert found == {"train@a": 10.0, "train@new": 15.0, "check": 0.0, "other@x": 10.0}
    assert schedule.estimate(names, {}) == dict.fromkeys(names, 1.0)


def test_history_is_read_back_without_stages_that_are_gone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert schedule.read_history() == {}
    schedule.write_history({"b": 2.04, "gone": 9.0, "a": 1.0}, ["a", "b", "c"])
    assert schedule.HISTORY.read_text() == "stage,seconds\na,1.0\nb,2.0\n"
    assert schedule.read_history() == {"a": 1.0, "b": 2.0}


class Stub:
    """A future and a bar that have nothing to wait for or to draw."""

    def __init__(self, result: Result | None = None) -> None:
        self.result = lambda: result
        self.update = self.set_postfix_str = lambda *_, **__: None


class StubPool:
    """Takes stages, and ends those that run when it is asked to wait."""

    def __init__(self, size: int, outcomes: dict[str, str]) -> None:
        self.size = size
        self.outcomes = outcomes
        self.log: list[str] = []

    def submit(self, name: str, _say) -> Stub:
        self.log.append(f"+{name}")
        stub = Stub(Result(self.outcomes.get(name, RAN), SECONDS[name], ["its end"]))
        stub.name = name
        return stub

    def wait(self, running, **_):
        """The shortest of those that run ends first."""
        first = min(running, key=lambda stub: SECONDS[stub.name])
        self.log.append(f"-{first.name}")
        return type("Waited", (), {"done": [first]})


@pytest.fixture
def run(monkeypatch):
    def run(size, outcomes=None, changed=lambda _: True):
        pool = StubPool(size, outcomes or {})
        monkeypatch.setattr("stages.check.run.wait", pool.wait)
        run = Run(UPSTREAM, pool, seconds=SECONDS, bar=Stub())
        run.all(changed)
        return pool.log, run.report

    return run


def test_ready_stages_start_with_the_longest_chain(run):
    log, report = run(1)
    assert log[2:8] == [
        "+poison",
        "-poison",
        "+poisoned",
        "-poisoned",
        "+oracle",
        "-oracle",
    ]
    assert report.ran == SECONDS
    log, report = run(2)
    assert log == [
        "+check", "-check", "+poison", "+oracle", "-oracle", "-poison", "+poisoned",
        "-poisoned", "+report", "-report",
    ]  # fmt: skip
    assert report.failed == {}


def test_what_has_not_changed_needs_no_worker(run):
    log, report = run(2, changed=lambda name: name == "oracle")
    assert log == ["+oracle", "-oracle"]
    assert set(report.ran) == {"oracle"}
    assert run(2, changed=lambda _: False)[0] == []


def test_another_process_may_have_done_it(run):
    log, report = run(1, {"poison": SAME})
    assert set(report.ran) == set(UPSTREAM) - {"poison"}
    assert log[-1] == "-report"


def test_after_a_failure_nothing_is_started(run):
    log, report = run(2, {"oracle": FAILED})
    assert log == ["+check", "-check", "+poison", "+oracle", "-oracle", "-poison"]
    assert set(report.ran) == {"check", "poison"}
    assert report.failed["oracle"].last_lines == ["its end"]
