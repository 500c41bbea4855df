"""Try a method's plan on a scenario, one trial after the other, and log each."""

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from filelock import FileLock, Timeout

from stages.common import paths, substage
from stages.common.closure import Imports, digest, load_sources
from stages.common.params import find_block
from stages.common.varnet import load_checkpoint
from stages.tune.data import TuneData, data_digest
from stages.tune.log import (
    Trial,
    checkpoint_path,
    choices_path,
    chosen,
    log_path,
    write_choices,
    write_log,
)
from stages.tune.objectives import (
    HEADLINE,
    OBJECTIVES,
    Before,
    BrokenModelError,
    HowToMeasure,
    look_before,
    measure,
)
from stages.tune.plan import Values, distributions, draw_plan, encoded
from stages.tune.settings import TuneSettings
from stages.tune.trial import prepare

# What shapes a trial's values, beside the method's own code.
CODE = tuple(f"stages/tune/{name}.py" for name in ("objectives", "plan", "trial"))
BLOCKS = ("loss", "sampling", "train", "unlearn.seed")

log = logging.getLogger("mendmri")


class Case(NamedTuple):
    """A scenario, ready to be tuned on."""

    scenario: str
    data: TuneData
    before: Before
    how: HowToMeasure


def open_case(scenario: str, data: TuneData, how: HowToMeasure) -> Case:
    """Run the poisoned model on all that trials are judged by.

    Raises:
        ValueError: a file is missing or damaged; none of a trial's time is lost.
    """
    poisoned = load_checkpoint(paths.case(scenario) / "model.safetensors")
    return Case(scenario, data, look_before(poisoned, data, how), how)


def study_digest(
    case: Case, method: str, params: Mapping[str, Any], settings: TuneSettings
) -> str:
    """Name what the trials of a method depend on: settings, code, data.

    The budget is not in it: a larger one goes on where a smaller one has ended.
    """
    whole = dict(params)
    sources = load_sources(Path())
    cell = ("stages/unlearn/__main__.py", f"stages/unlearn/{method}.py")
    files = Imports(sources).closure([*cell, *CODE])
    shaping = [
        {key: find_block(whole, key) for key in (*BLOCKS, f"unlearn.{method}")},
        {name: str(values) for name, values in settings.methods[method].items()},
        [settings.seed, settings.holdout, settings.trusted, *case.how],
        digest(files, sources),
        data_digest(case.scenario, case.data),
    ]
    text = json.dumps(shaping, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def search(
    case: Case, method: str, params: Mapping[str, Any], settings: TuneSettings
) -> list[Trial]:
    """Run what the plan of a method lacks; log after each trial.

    Args:
        case: the scenario.
        method: a row of `tune.methods`.
        params: the whole of `params.yaml`.
        settings: its `tune` block.

    Returns:
        The trials of the plan, those of earlier calls too.

    Raises:
        ValueError: another process tunes the same, a trial could not be run, or the
            method refuses its own block of `params.yaml`.
    """
    scenario, space = case.scenario, settings.methods[method]
    own = find_block(dict(params), f"unlearn.{method}")
    plan = draw_plan(space, own, budget=settings.budget, seed=settings.seed)
    name = study_digest(case, method, params, settings)
    folder = paths.scratch(f"tune/{scenario}/{method}")
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / "lock", f"{method} on {scenario}"):
        study = _open_study(folder, f"{scenario}/{method}/{name}")
        trials = _finished(study, name, len(plan), scenario, method)
        missing = [number for number in range(len(plan)) if number not in trials]
        log.info(
            "%s on %s: %d of %d trials are there, study %s",
            method, scenario, len(plan) - len(missing), len(plan), name,
        )  # fmt: skip
        started = time.perf_counter()
        _write(scenario, method, trials)
        for count, number in enumerate(missing, start=1):
            found = _try(case, method, params, name, number, plan[number])
            _keep(study, found, settings)
            trials[number] = found
            _write(scenario, method, trials)
            left = (time.perf_counter() - started) / count * (len(missing) - count)
            _report(found, trials, method, len(plan), left)
    return [trials[number] for number in sorted(trials)]


@contextmanager
def _locked(path: Path, what: str) -> Iterator[None]:
    try:
        with FileLock(path, timeout=0):
            yield
    except Timeout:
        raise ValueError(f"another process tunes {what}: wait for it to end") from None


def _open_study(folder: Path, name: str) -> optuna.Study:
    """Open a study of this case, code and settings, or begin it; others stay."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(
        study_name=name,
        storage=f"sqlite:///{folder / 'study.db'}",
        directions=["maximize"] * len(OBJECTIVES),
        load_if_exists=True,
    )


def _finished(
    study: optuna.Study, name: str, budget: int, scenario: str, method: str
) -> dict[int, Trial]:
    """Trials that have ended and, if well, whose model is still there."""
    found = (Trial(**entry.user_attrs) for entry in study.get_trials(deepcopy=False))
    return {
        trial.number: trial
        for trial in found
        if trial.number < budget
        and (
            trial.error
            or checkpoint_path(scenario, method, name, trial.number).exists()
        )
    }


def _keep(study: optuna.Study, found: Trial, settings: TuneSettings) -> None:
    """Add a trial to the study when it has ended, and not before: a kill loses it."""
    done = not found.error
    method = study.study_name.split("/")[1]
    space = settings.methods[method]
    study.add_trial(
        optuna.trial.create_trial(
            state=(
                optuna.trial.TrialState.COMPLETE
                if done
                else optuna.trial.TrialState.FAIL
            ),
            params=encoded(found.values, space),
            distributions=distributions(space),
            values=[found.objectives[key] for key in OBJECTIVES] if done else None,
            user_attrs=found._asdict(),
        )
    )


def _try(
    case: Case,
    method: str,
    params: Mapping[str, Any],
    name: str,
    number: int,
    values: Values,
) -> Trial:
    """Run and measure one trial."""
    kept = checkpoint_path(case.scenario, method, name, number)
    folder = kept.with_suffix("")
    block = {**params["unlearn"][method], **values}
    changed = {**params, "unlearn": {**params["unlearn"], method: block}}
    prepare(folder, changed, case.scenario, case.data)
    ended = substage.run_unlearn(folder, case.scenario, method)
    objectives, error = {}, ended.error
    if ended.checkpoint is not None:
        try:
            model = load_checkpoint(ended.checkpoint)
            objectives = measure(model, case.data, case.before, case.how)
            ended.checkpoint.replace(kept)
        except BrokenModelError as broken:
            error = str(broken)
    if error and number == 0:
        raise substage.SubstageError(
            f"{method} on {case.scenario} fails with its own block 'unlearn.{method}': "
            f"{error} (see {folder / substage.LOG})"
        )
    shutil.rmtree(folder)
    return Trial(name, number, values, objectives, ended.cost, error)


def _write(scenario: str, method: str, trials: Mapping[int, Trial]) -> None:
    write_log(log_path(scenario, method), list(trials.values()))
    write_choices(choices_path(scenario, method), list(trials.values()))


def _report(
    found: Trial, trials: Mapping[int, Trial], method: str, budget: int, left: float
) -> None:
    best = chosen(list(trials.values())).get(HEADLINE)
    log.info(
        "%s: trial %d of %d %s, best %s so far %s, %.0f s left%s",
        method, found.number + 1, budget, found.status, HEADLINE,
        f"{best.objectives[HEADLINE]:.3f} (trial {best.number + 1})" if best else "-",
        left, f": {found.error}" if found.error else "",
    )  # fmt: skip
