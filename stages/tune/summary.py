"""Choices beside the truth, in numbers and as a table."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from stages.tune.log import Trial, chosen
from stages.tune.objectives import OBJECTIVES, RULES, VALIDATIONS

Entry = dict[str, Any]
Summary = dict[str, dict[str, Entry]]

TITLES = {
    "holdout": "Without clean data: judged on a hold-out of the contaminated training "
    "set (headline)",
    "trusted": "With a small trusted validation set",
}


def summarise(
    trials: Sequence[Trial], truth: Mapping[str, tuple[float, float | None]]
) -> Entry:
    """Compare the choices of a method's objectives with the best that was tried.

    Args:
        trials: the search log.
        truth: trial number, or `none` for the poisoned model, -> PSNR in the scope and
            outside, dB; of each trial that went well.

    Returns:
        The best trial, the first one (the values of `params.yaml`), a trial drawn
        blindly, and per objective its choice, each with its regret: PSNR in the scope
        of the best trial minus its own, dB.
    """
    done = sorted((t for t in trials if not t.error), key=lambda trial: trial.number)
    best = max(done, key=lambda trial: truth[str(trial.number)][0])
    top = truth[str(best.number)][0]

    def seen(trial: Trial) -> Entry:
        scope, outside = truth[str(trial.number)]
        return {
            "trial": trial.number,
            "parameters": trial.values,
            "psnr_scope_db": scope,
            "psnr_outside_db": outside,
            "regret_db": round(top - scope, 4),
        }

    scope, outside = truth["none"]
    return {
        "study": best.study,
        "trials": len(trials),
        "failed": len(trials) - len(done),
        "none": {"psnr_scope_db": scope, "psnr_outside_db": outside},
        "best": seen(best),
        "own": seen(done[0]),
        "blind_regret_db": round(fmean(top - truth[str(t.number)][0] for t in done), 4),
        "objectives": {
            name: {"value": trial.objectives[name], **seen(trial)}
            for name, trial in chosen(trials).items()
        },
    }


def mean_regret(methods: Mapping[str, Entry]) -> dict[str, float]:
    """Objective -> regret averaged over methods, dB; beside it `own` and `blind`."""
    entries = list(methods.values())
    means = {
        name: fmean(entry["objectives"][name]["regret_db"] for entry in entries)
        for name in OBJECTIVES
    }
    means["own"] = fmean(entry["own"]["regret_db"] for entry in entries)
    means["blind"] = fmean(entry["blind_regret_db"] for entry in entries)
    return means


def table(found: Summary) -> str:
    """Regret of every objective on every method, as Markdown."""
    lines = [
        "# Regret of a choice of parameters, dB",
        "",
        "PSNR of the scope on clean slices that nobody trained on: best trial minus "
        "chosen trial. All objectives choose from the same trials. `own`: the values "
        "of `params.yaml`; `blind`: the mean of all trials; `lost outside`: PSNR "
        "outside the scope of the poisoned model minus that of the choice of `lines`.",
    ]
    for scenario, methods in found.items():
        means = mean_regret(methods)
        for seen in VALIDATIONS:
            lines += ["", f"## {scenario}. {TITLES[seen]}", ""]
            names = [f"{rule}_{seen}" for rule in RULES]
            heads = ["method", "trials", "none, dB", "best, dB", *RULES]
            heads += ["own", "blind", "lost outside"]
            lines += [_row(heads), _row(["---"] * len(heads))]
            lines += [_method(m, entry, names) for m, entry in methods.items()]
            ends = [f"{means[name]:.2f}" for name in (*names, "own", "blind")]
            lines.append(_row(["**mean**", "", "", "", *ends, ""]))
    return "\n".join(lines) + "\n"


def _method(method: str, entry: Entry, names: Sequence[str]) -> str:
    picks = [entry["objectives"][name] for name in names]
    lost = "–"
    if entry["none"]["psnr_outside_db"] is not None:
        before, after = entry["none"], picks[-1]
        lost = f"{before['psnr_outside_db'] - after['psnr_outside_db']:.2f}"
    failed = f" ({entry['failed']} failed)" if entry["failed"] else ""
    return _row(
        [
            f"`{method}`",
            f"{entry['trials']}{failed}",
            f"{entry['none']['psnr_scope_db']:.2f}",
            f"{entry['best']['psnr_scope_db']:.2f}",
            *(f"{pick['regret_db']:.2f}" for pick in picks),
            f"{entry['own']['regret_db']:.2f}",
            f"{entry['blind_regret_db']:.2f}",
            lost,
        ]
    )


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
