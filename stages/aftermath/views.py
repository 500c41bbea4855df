"""What came after as tables and as a figure."""

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stages.aftermath.break_even import break_even
from stages.aftermath.relearn import steps_back
from stages.common.volume import atomic_path

ORACLE, NONE = "oracle", "none"
DASH = "–"
LOWEST = -1.5  # healing: a ruined network must not press all others onto one line
# Okabe and Ito's palette; the oracle and the poisoned model come first.
COLOURS = (
    "#000000",
    "#999999",
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#8C6D31",
)
MARKERS = "osD^vPX<>"

Found = dict[str, Any]


def healing(level: Found, levels: Found) -> float | None:
    """(PSNR - PSNR of none) / (PSNR of the oracle - PSNR of none), in the scope."""
    none, oracle = (levels[name]["psnr_scope"] for name in (NONE, ORACLE))
    lost = oracle - none
    value: float = (level["psnr_scope"] - none) / lost if lost > 0 else 0.0
    return value if lost > 0 else None


def harm(level: Found, levels: Found) -> float | None:
    """PSNR outside of the scope less that of the poisoned model, dB."""
    if level["psnr_outside"] is None:
        return None
    value: float = level["psnr_outside"] - levels[NONE]["psnr_outside"]
    return value


def table(found: Found) -> str:
    """All questions, scenario by scenario, as Markdown."""
    title = "What comes after: more requests, the poison once more, the price"
    lines = [f"# {title}", ""]
    lines.append(
        "Unseen test slices, means over subjects. Made by `make aftermath`; defined in "
        "`stages/aftermath/README.md`."
    )
    for scenario, kinds in found.items():
        levels = kinds["levels"]
        lines += ["", f"## {scenario}", "", "Requests one after the other:", ""]
        count = max(len(entry["requests"]) for entry in kinds["sequence"].values())
        heads = [f"after {number} of {count}" for number in range(1, count + 1)]
        lines += _header(["method", "", *heads, "all at once"])
        for method, entry in kinds["sequence"].items():
            steps = [*entry["requests"], levels.get(method)]
            for title, measure, digits in (
                ("healing", healing, 2),
                ("outside, dB", harm, 2),
            ):
                values = [step and measure(step, levels) for step in steps]
                cells = [_number(value, digits) for value in values]
                lines.append(f"| {' | '.join([method, title, *cells])} |")
        lines += ["", "Agreement with the poison after relearning it:", ""]
        steps = list(next(iter(kinds["relearn"].values()))["agreement"])
        heads = [f"{step} steps" for step in steps]
        lines += _header(["model", *heads, "back after"])
        poisoned = kinds["relearn"][NONE]["agreement"]["0"]
        for model, entry in kinds["relearn"].items():
            values = entry["agreement"]
            back = steps_back(values, poisoned)
            cells = [_number(value, 3) for value in values.values()]
            cells.append("never" if back is None else str(back))
            lines.append(f"| {' | '.join([model, *cells])} |")
        lines += _prices(kinds["retrain"], levels)
    return "\n".join(lines) + "\n"


def _prices(retrained: Found, levels: Found) -> list[str]:
    """What retraining heals at which cost, and where it equals each method."""
    lines = [
        "",
        "Retraining from scratch on what is not known to be bad, for so long:",
        "",
    ]
    lines += _header(["epochs", *retrained])
    costs = [_number(level["cost"], 2) for level in retrained.values()]
    lines.append(f"| {' | '.join(['cost', *costs])} |")
    for title, measure, digits in (("healing", healing, 2), ("outside, dB", harm, 2)):
        values = [_number(measure(v, levels), digits) for v in retrained.values()]
        lines.append(f"| {' | '.join([title, *values])} |")
    lines += ["", "At which cost retraining heals as much:", ""]
    lines += _header(["method", "cost", "healing", "retraining heals as much at"])
    healed = {v["cost"]: healing(v, levels) or 0.0 for v in retrained.values()}
    for model, level in levels.items():
        value = healing(level, levels)
        if level["cost"] is not None and value is not None:
            price = break_even(value, healed)
            at = "none of these costs" if price is None else _number(price, 2)
            if price == 0:
                at = "no cost: to do nothing is as good"
            cells = [_number(level["cost"], 2), _number(value, 2), at]
            lines.append(f"| {' | '.join([model, *cells])} |")
    return lines


def draw(found: Found, path: Path) -> None:
    """Write a row of three panels per scenario."""
    matplotlib.use("agg")
    rows = len(found)
    with matplotlib.rc_context({"font.size": 9, "font.family": "DejaVu Sans"}):
        figure = Figure(figsize=(14.0, 3.4 * rows), layout="constrained")
        grid = figure.subplots(rows, 3, squeeze=False)
        for (left, price, right), (scenario, kinds) in zip(
            grid, found.items(), strict=True
        ):
            levels, relearned = kinds["levels"], kinds["relearn"]
            models = dict.fromkeys([*relearned, *kinds["sequence"]])
            looks = {model: _look(index) for index, model in enumerate(models)}
            for method, entry in kinds["sequence"].items():
                healed = [healing(level, levels) for level in entry["requests"]]
                shown = [0.0, *(max(v, LOWEST) for v in healed if v is not None)]
                if len(shown) == 1 + len(healed):
                    left.plot(range(len(shown)), shown, label=method, **looks[method])
            left.axhline(0, color="#999999", linewidth=0.8)
            left.set_title(f"{scenario}: healing after each request", loc="left")
            left.set_xlabel("requests")
            left.xaxis.set_major_locator(MaxNLocator(integer=True))
            _draw_prices(price, kinds["retrain"], levels, looks)
            for model, entry in relearned.items():
                steps = [int(step) for step in entry["agreement"]]
                values = list(entry["agreement"].values())
                right.plot(steps, values, label=model, **looks[model])
            right.set_xscale("symlog", linthresh=1)
            right.set_title("agreement with the poison, learned again", loc="left")
            right.set_xlabel("steps on the known poison")
            lines = {line.get_label(): line for line in (*left.lines, *right.lines)}
            named = [lines[model] for model in models if model in lines]
            right.legend(
                handles=named, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5)
            )
            for axis in (left, price, right):
                axis.spines[["top", "right"]].set_visible(False)
        with atomic_path(path) as temporary:
            figure.savefig(
                temporary, dpi=150, format="png", metadata={"Software": None}
            )


def _draw_prices(
    axis: Axes, retrained: Found, levels: Found, looks: dict[str, dict[str, Any]]
) -> None:
    """Healing against cost: retraining for so long as a line, methods as points."""
    costs = [level["cost"] for level in retrained.values()]
    healed = [max(healing(v, levels) or 0.0, LOWEST) for v in retrained.values()]
    axis.plot(costs, healed, color="#444444", linewidth=1, linestyle="--")
    axis.annotate("retraining", (costs[-1], healed[-1]), fontsize=7, ha="right")
    for model, level in levels.items():
        value = healing(level, levels)
        if level["cost"] and value is not None:
            axis.plot([level["cost"]], [max(value, LOWEST)], **looks[model])
    axis.axhline(0, color="#999999", linewidth=0.8)
    axis.set_xscale("log")
    axis.set_title("healing against cost", loc="left")
    axis.set_xlabel("cost, 1 = retraining")


def _look(index: int) -> dict[str, Any]:
    colour = COLOURS[index % len(COLOURS)]
    return {"color": colour, "marker": MARKERS[index % len(MARKERS)], "markersize": 4}


def _number(value: float | None, digits: int) -> str:
    return DASH if value is None else f"{round(value, digits) + 0.0:.{digits}f}"


def _header(titles: list[str]) -> list[str]:
    return [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
