"""Ask healed models what comes after: more requests, the poison once more, the price.

Reads the data of finished scenarios (`make repro`): case, truth, models; k-space.
Writes metrics/maps/aftermath.json, .md and .png. Outside of `dvc repro`.

    python -m stages.aftermath
"""

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.aftermath.break_even import RETRAIN, retrain_for, share_of_retraining
from stages.aftermath.measure import Truth, measure, read_truth
from stages.aftermath.relearn import relearn
from stages.aftermath.sequence import parts, run_sequence
from stages.aftermath.settings import AftermathSettings
from stages.aftermath.store import RESULTS, UNLEARN, Entry, Store
from stages.aftermath.views import NONE, ORACLE, draw, table
from stages.common import paths
from stages.common.manifest import read_slices
from stages.common.params import load_block, read_params
from stages.common.runtime import stage_run
from stages.common.varnet import load_checkpoint
from stages.common.volume import write_text

BREAK_EVEN = "stages/aftermath/break_even.py"

log = logging.getLogger("mendmri")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="stages.aftermath", description=__doc__)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    parse_args(argv)
    with stage_run("aftermath"):
        settings = load_block("aftermath", AftermathSettings)
        params = read_params()
        # All that is missing is found before the first step.
        models = {name: find_models(name, settings) for name in settings.scenarios}
        truths = {name: read_truth(name) for name in settings.scenarios}
        store = Store(params)
        for scenario in settings.scenarios:
            ask(scenario, models[scenario], truths[scenario], settings, params, store)
        store.finish()
        write_text(RESULTS.with_suffix(".md"), table(store.found))
        draw(store.found, RESULTS.with_suffix(".png"))
        log.info("%s, .md and .png", RESULTS)


def find_models(scenario: str, settings: AftermathSettings) -> dict[str, Path]:
    """Checkpoints of a scenario: the oracle, the poisoned model, the healed ones.

    Raises:
        ValueError: one is missing, or what it has cost; or too few slices are known.
    """
    made_by = {ORACLE: "train_oracle@0", NONE: f"forget@{scenario}"}
    found = {
        ORACLE: paths.checkpoint("oracle-0"),
        NONE: paths.case(scenario) / "model.safetensors",
    }
    for method in settings.methods:
        found[method] = paths.checkpoint(f"unlearned/{scenario}/{method}")
        made_by[method] = f"unlearn@{scenario}-{method}"
    needed = [*found.items()]
    needed += [(m, paths.cost(f"unlearned/{scenario}/{m}")) for m in settings.methods]
    for name, path in needed:
        if not path.is_file():
            raise ValueError(f"{path} is missing: run `dvc repro {made_by[name]}`")
    forget = paths.case(scenario) / "forget.json"
    known = read_slices(forget, made_by=f"forget@{scenario}")
    parts(known, settings.requests, scenario)
    return found


def ask(
    scenario: str,
    models: dict[str, Path],
    truth: Truth,
    settings: AftermathSettings,
    params: dict[str, Any],
    store: Store,
) -> None:
    """Everything about the models of one scenario."""
    case = paths.case(scenario)
    base = [case / "forget.json", paths.answers(scenario) / "record.json"]
    for name, path in models.items():

        def level(name: str = name, path: Path = path) -> Entry:
            cost = _cost(scenario, name, params)
            return {**measure(load_checkpoint(path), truth)._asdict(), "cost": cost}

        def again(path: Path = path) -> Entry:
            return {"agreement": relearn(scenario, path, truth, settings)}

        files = [*base, path]
        store.get(scenario, "levels", name, level, files=files, code=[BREAK_EVEN])
        blocks = ["aftermath.relearn"]
        store.get(
            scenario,
            "relearn",
            name,
            again,
            files=files,
            blocks=blocks,
            code=["stages/aftermath/relearn.py"],
        )
        log.info("%s: %s relearned", scenario, name)
    for method in settings.sequence:

        def requests(method: str = method) -> Entry:
            levels = run_sequence(
                scenario, method, params, truth, requests=settings.requests
            )
            return {"requests": [level._asdict() for level in levels]}

        store.get(
            scenario,
            "sequence",
            method,
            requests,
            files=[*base, case / "model.safetensors"],
            blocks=["aftermath.requests", "unlearn.seed", f"unlearn.{method}"],
            code=[
                "stages/aftermath/sequence.py",
                UNLEARN,
                f"stages/unlearn/{method}.py",
            ],
        )
        log.info("%s: %s on %d requests", scenario, method, settings.requests)
    for epochs in settings.retrain_epochs:

        def shorter(epochs: float = epochs) -> Entry:
            level, cost = retrain_for(epochs, scenario, params, truth)
            return {**level._asdict(), "cost": cost}

        store.get(
            scenario,
            "retrain",
            f"{epochs:g}",
            shorter,
            files=[*base, case / "model.safetensors"],
            blocks=["unlearn.seed", f"unlearn.{RETRAIN}"],
            code=[BREAK_EVEN, UNLEARN, f"stages/unlearn/{RETRAIN}.py"],
        )
        log.info("%s: retrained for %g epochs", scenario, epochs)


def _cost(scenario: str, name: str, params: dict[str, Any]) -> float | None:
    """Of a method, over that of retraining; None of oracle and poisoned model."""
    if name in (ORACLE, NONE):
        return None
    path = paths.cost(f"unlearned/{scenario}/{name}")
    cost = json.loads(path.read_text(encoding="utf-8"))
    return share_of_retraining(cost, scenario, params)


if __name__ == "__main__":
    main()
