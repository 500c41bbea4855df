"""The results as a page that a person reads."""

from collections.abc import Iterable, Mapping
from typing import Any

RUN = "_run"  # what each group was measured with
QUALITY = "quality"
FORMER_QUALITY = "former_quality"  # of the earlier default, in bfloat16
REPRO = "repro"
START, NO_OP, STAGE = "start", "dag/no_op", "dag/stage"

INTRODUCTION = """\
# Benchmarks

Written by `make bench` and `make bench-quality` from `benchmarks.json`; do not edit.
What is measured, and how: [tests/benchmarks](../tests/benchmarks/README.md).

*Reference*: `fastmri.models.VarNet` and `fastmri.losses.SSIMLoss` in a plain PyTorch
loop in float32; for loading, fastMRI's `SliceDataset` and `VarNetDataTransform`. Both
sides are timed in turns in one process; times are medians over the rounds, the ratio is
the median of reference / ours over the rounds, its range is beside it. `best` is our
fastest precision, for importance the fastest that keeps the ranking of the weights
(Spearman's rho of at least 0.999 with the reference). Each side runs at its own best
batch of those tried, except in the rows `batch_1`, one slice per step on both sides,
and `own_batch`, as many as the profile trains with (of importance: on our side, as the
methods take).
`load_epoch` is any epoch of a training after the first, `first` the first one, which
reads and decodes, and `training` the mean epoch of a training of the default length.
"""


def render(results: Mapping[str, Any]) -> str:
    """Return the page in Markdown."""
    parts = [INTRODUCTION]
    ratios = {
        key: entry
        for key, entry in results.items()
        if isinstance(entry, dict) and entry.get("ratio") is not None
    }
    if ratios:
        parts.append(_ratio_table(ratios))
    if {START, NO_OP, STAGE} <= results.keys():
        parts.append(_overhead_section(results))
    if REPRO in results:
        parts.append(_repro_section(results[REPRO]))
    for key, whose in (
        (QUALITY, ""),
        (FORMER_QUALITY, ", of the default of 24 November 2026"),
    ):
        if key in results:
            parts.append(_quality_section(results[key], whose))
    parts.append(_run_section(results.get(RUN, {})))
    return "\n".join(parts)


def _ratio_table(entries: Mapping[str, Any]) -> str:
    rows = []
    for key, entry in entries.items():
        low, high = entry["ratio_min"], entry["ratio_max"]
        ours, reference = f"{entry['ours']:.4g}", f"{entry['reference']:.4g}"
        if "ours_slices_per_second" in entry:
            ours += f" ({entry['ours_slices_per_second']:.4g}/s)"
            reference += f" ({entry['reference_slices_per_second']:.4g}/s)"
        rows.append(
            [
                f"`{key}`",
                entry.get("precision", ""),
                ours,
                reference,
                f"**{entry['ratio']:.2f}**",
                f"{low:.2f} to {high:.2f}",
                f"{entry['batch']} / {entry['batch_reference']}",
                str(entry["rounds"]),
            ]
        )
    head = [
        "benchmark", "ours in", "ours, ms/slice", "reference, ms/slice", "ratio",
        "range", "batch, ours / reference", "rounds",
    ]  # fmt: skip
    return _table(head, rows, left=2)


def _overhead_section(results: Mapping[str, Any]) -> str:
    start, no_op, stage = (results[key] for key in (START, NO_OP, STAGE))
    rows = [[f"`{name}`", f"{value:.2f}"] for name, value in start["seconds"].items()]
    table = _table(["stage", "starts in, s"], rows, left=1)
    return (
        "## What a stage costs beside its work\n\n"
        f"{table}\n"
        f"The median cell of the default grid starts in {start['ours']:.2f} s: its "
        f"interpreter and everything it imports. In a DAG of {stage['stages']} stages "
        f"DVC adds {stage['ours']:.2f} s to one that runs (`make repro`), and a "
        f"`dvc repro` that finds nothing to do takes {no_op['ours']:.2f} s.\n"
    )


def _repro_section(entry: Mapping[str, Any]) -> str:
    stages = sorted(
        entry["stages"].items(), key=lambda item: item[1]["seconds"], reverse=True
    )
    rows = [
        [f"`{stage}`", str(part["cells"]), f"{part['seconds']:.1f}"]
        for stage, part in stages
    ]
    rows.append(
        ["all", str(sum(p["cells"] for _, p in stages)), f"{entry['ours']:.1f}"]
    )
    wall = entry.get("wall_seconds")
    note = (
        f"Wall time of the whole run, interpreters and DVC included: {wall:.0f} s."
        if wall is not None
        else "Each is the time of the stage's own work: the start of its interpreter "
        "and DVC come on top. A cell counts as it was last run."
    )
    table = _table(["stage", "cells", "seconds"], rows, left=1)
    return f"## `make repro`, seconds per stage\n\n{table}\n{note}\n"


def _quality_section(entry: Mapping[str, Any], whose: str) -> str:
    trained = {side for runs in entry["runs"].values() for side in runs}
    sides = [side for side in entry["sides"] if side in trained]
    rows = []
    for seed, runs in entry["runs"].items():
        values = [f"{runs[side]['psnr']:.3f}" if side in runs else "" for side in sides]
        rows.append([seed, *values])
    what = "final validation PSNR after the same training, dB"
    lines = [f"## Quality{whose}: {what}", ""]
    lines.append(_table(["seed", *(f"`{side}`" for side in sides)], rows, left=1))
    lines += [f"- `{side}`: {entry['sides'][side]}" for side in sides]
    lines.append("")
    if "settings" in entry:
        lines += [f"Of {_settings(entry['settings']['model'])}.", ""]
    for name, pair in entry["differences"].items():
        interval = (
            f"95 % interval {pair['low']:+.3f} to {pair['high']:+.3f} (paired t)"
            if pair["low"] is not None
            else "no interval from one seed"
        )
        count = len(pair["seeds"])
        lines.append(
            f"- `{name}`: mean {pair['mean']:+.3f} dB over {count} seeds, {interval}"
        )
    return "\n".join([*lines, ""])


def _run_section(runs: Mapping[str, Any]) -> str:
    """Commands, and the machines by what was measured on them."""
    lines = ["## How it was measured", ""]
    lines += [f"- `{group}`: `{run['command']}`" for group, run in runs.items()]
    lines += ["", "On:", ""]
    machines: dict[str, list[str]] = {}
    for group, run in runs.items():
        known = ", ".join(run.get("instructions", ()))
        machine = (
            f"{run['cpu']}{f' ({known})' if known else ''}, {run['cores']} cores, "
            f"{run['threads']} threads, device "
            f"{run['device']}, Python {run['python']}, torch {run['torch']}, "
            f"fastmri {run['fastmri']}, commit {run['commit']}"
        )
        machines.setdefault(machine, []).append(f"`{group}`")
    lines += [f"- {machine}: {', '.join(g)}" for machine, g in machines.items()]
    networks: dict[str, list[str]] = {}
    for group, run in runs.items():
        if "settings" in run:
            networks.setdefault(_settings(run["settings"]), []).append(f"`{group}`")
    if networks:
        lines += ["", "Of:", ""]
        lines += [f"- {network}: {', '.join(g)}" for network, g in networks.items()]
    return "\n".join([*lines, ""])


def _settings(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in settings.items())


def _table(head: list[str], rows: Iterable[list[str]], *, left: int) -> str:
    """A Markdown table whose columns after the first `left` are numbers."""
    marks = ["---"] * left + ["---:"] * (len(head) - left)
    lines = [f"| {' | '.join(cells)} |" for cells in (head, marks, *rows)]
    return "\n".join([*lines, ""])
