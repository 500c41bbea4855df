"""Say which poison has been found, and place the case before the unlearners.

With `--scenario`: reads its row, the truth, export and model of its poisoning, and the
scores of the detector that the row names; writes `data/cases/<name>/` and
`data/truth/scenario/<name>/`. With `--tips` or `--drop-all`: reads the truth, writes a
few poisoned slices to `data/tips/<poisoning>.json`, for the detectors to learn from, or
all of them to `data/drop/<poisoning>.json`.

    python -m stages.forget --scenario mislabel-30
    python -m stages.forget --tips mislabel-30
    python -m stages.forget --drop-all mislabel-30
"""

import argparse
import logging
from collections.abc import Sequence

from stages.common import paths
from stages.common.manifest import write_slices
from stages.common.params import check_row, load_block, load_row
from stages.common.runtime import stage_run
from stages.common.truth import read_record
from stages.forget.case import write_case
from stages.forget.revealed import revealed
from stages.forget.settings import BLOCKS, Scenario
from stages.forget.source import find_known

log = logging.getLogger(__name__)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stages.forget")
    cell = parser.add_mutually_exclusive_group(required=True)
    cell.add_argument("--scenario", help="a row of `scenarios` in params.yaml")
    cell.add_argument("--tips", help="a row of `poisonings` in params.yaml")
    cell.add_argument("--drop-all", help="a row of `poisonings` in params.yaml")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    if args.scenario is not None:
        with stage_run("forget", args.scenario):
            lay_out(args.scenario)
    elif args.tips is not None:
        with stage_run("forget_tips", args.tips):
            report_some(args.tips)
    else:
        with stage_run("drop_list", args.drop_all):
            list_all(args.drop_all)


def lay_out(name: str) -> None:
    scenario = load_row("scenarios", name, Scenario, "--scenario")
    check_row("poisonings", scenario.poisoning, f"scenarios.{name}.poisoning =")
    record = read_record(paths.truth(scenario.poisoning))
    known = find_known(name, scenario, record)
    write_case(
        known,
        record=record,
        checkpoint=paths.checkpoint(f"poisoned/{scenario.poisoning}"),
        export=paths.export(scenario.poisoning),
        truth=paths.truth(scenario.poisoning),
        case=paths.case(name),
        answers=paths.answers(name),
    )
    poisoned = {entry.ref for entry in record.poisoned}
    log.info(
        "%s: %d slices known, %d of them of the %d poisoned",
        paths.case(name),
        len(known),
        len(poisoned.intersection(known)),
        len(poisoned),
    )


def report_some(poisoning: str) -> None:
    check_row("poisonings", poisoning, "--tips")
    known: float = load_block("detect.known", BLOCKS["detect.known"])
    seed: int = load_block("detect.seed", BLOCKS["detect.seed"])
    record = read_record(paths.truth(poisoning))
    tips = revealed("detect.known", record, known=known, seed=seed) if known else []
    path = paths.tips(poisoning)
    write_slices(path, tips)
    log.info("%s: %d of %d poisoned slices", path, len(tips), len(record.poisoned))


def list_all(poisoning: str) -> None:
    check_row("poisonings", poisoning, "--drop-all")
    record = read_record(paths.truth(poisoning))
    path = paths.drop_list(poisoning)
    write_slices(path, [entry.ref for entry in record.poisoned])
    log.info("%s: %d poisoned slices", path, len(record.poisoned))


if __name__ == "__main__":
    main()
