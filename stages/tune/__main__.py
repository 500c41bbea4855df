"""Search the parameters of unlearning methods with what a user has; no truth is read.

Reads data/cases/<scenario>/, data/kspace/{train,val} and the `tune` block. Writes
metrics/tuning/<scenario>/<method>.csv, the search log, and .json, what each objective
chooses. Outside of `dvc repro`: choices are copied into `params.yaml` by hand.

    python -m stages.tune
    python -m stages.tune --methods ssd finetune
    python -m stages.tune.regret        # then: what the choices lose against the truth
"""

import argparse
import logging
import subprocess
import sys
from collections.abc import Sequence

from stages.common.masks import Sampling
from stages.common.params import load_block, read_params
from stages.common.runtime import stage_run
from stages.tune.data import load_data
from stages.tune.log import FAILED, choices_path
from stages.tune.objectives import HowToMeasure
from stages.tune.search import open_case, search
from stages.tune.settings import TuneSettings

log = logging.getLogger("mendmri")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="stages.tune", description=__doc__)
    parser.add_argument(
        "--methods", nargs="+", metavar="METHOD", help="rows of tune.methods; all"
    )
    return parser.parse_args(argv)


def selected(settings: TuneSettings, methods: Sequence[str] | None) -> list[str]:
    """The methods to tune.

    Raises:
        ValueError: one is not a row of `tune.methods`.
    """
    unknown = sorted(set(methods or ()) - set(settings.methods))
    if unknown:
        raise ValueError(
            f"--methods {unknown[0]} is not in 'tune.methods'; there are "
            f"{', '.join(settings.methods)}"
        )
    return [name for name in settings.methods if not methods or name in methods]


def checked() -> None:
    """Validate params.yaml as `make repro` does: methods' own schemas are not here."""
    done = subprocess.run([sys.executable, "-m", "stages.check"], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    checked()
    with stage_run("tune"):
        settings = load_block("tune", TuneSettings)
        sampling = load_block("sampling", Sampling)
        how = HowToMeasure(
            alpha=load_block("report.score_alpha", float),
            held_lines=settings.held_lines,
            seed=settings.seed,
            batch_size=load_block("evaluate.batch_size", int),
        )
        params, methods = read_params(), selected(settings, args.methods)
        # All that is missing is found before the first trial.
        cases = [
            open_case(scenario, load_data(scenario, settings, sampling), how)
            for scenario in settings.scenarios
        ]
        for case in cases:
            for method in methods:
                trials = search(case, method, params, settings)
                failed = sum(trial.status == FAILED for trial in trials)
                path = choices_path(case.scenario, method)
                log.info("%s: %d trials, %d failed", path, len(trials), failed)


if __name__ == "__main__":
    main()
