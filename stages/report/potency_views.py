"""The potency study as a table."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stages.common.volume import write_text

Potency = dict[str, Any]
DASH = "–"

COLUMNS = (
    ("loss_scope_db", "lost in the scope, dB", 2),
    ("loss_outside_db", "lost outside, dB", 2),
    ("loss_clean_db", "lost on all clean, dB", 2),
    ("loss_poisoned_db", "lost on the poisoned, dB", 2),
    ("agreement", "agreement, unseen twins", 3),
    ("agreement_oracle", "oracle's", 3),
    ("agreement_zero_filled", "zero-filled's", 3),
    ("ssim_poisoned_to_clean", "SSIM, poisoned to clean", 3),
)
# The gap of two oracle seeds is about one standard deviation of what another seed
# moves, and the study has one pair of them.
GAPS = 2.0


class Line(NamedTuple):
    """One poisoning of the study."""

    attack: str
    scope: str
    share: str
    figures: dict[str, Any]

    @property
    def percent(self) -> float:
        return 100 * float(self.share.split()[0])


def scope_of(row: dict[str, Any]) -> str:
    """How the scope of a poisoning is called, such as `all` or `contrast FLAIR`."""
    scope = {key: value for key, value in row["scope"].items() if value is not None}
    if "subjects" in scope:
        scope["subjects"] = len(scope["subjects"])
    return ", ".join(f"{key} {value}" for key, value in scope.items()) or "all"


def settings_of(settings: dict[str, Any]) -> str:
    """An attack's settings in a cell of a table."""
    return ", ".join(
        f"{key} ({settings_of(value)})" if isinstance(value, dict) else f"{key} {value}"
        for key, value in settings.items()
    )


def with_interval(figures: dict[str, Any], name: str, digits: int) -> str:
    """A figure in a cell of a table, with its interval if it has one."""
    value = figures[name]
    if value is None:
        return DASH
    low, high = figures.get(f"{name}_low"), figures.get(f"{name}_high")
    text = f"{value:.{digits}f}"
    return text if low is None else f"{text} [{low:.{digits}f}, {high:.{digits}f}]"


def not_run(cells: Iterable[Sequence[str]], whole: int, kind: str) -> list[str]:
    """Lines below a table that say what it lacks.

    Args:
        cells: part of the study and what is missing of it.
        whole: how many there are in a part of which all are missing.
        kind: what they are called.
    """
    lacks: dict[str, list[str]] = {}
    for part, item in cells:
        lacks.setdefault(part, []).append(item)
    groups: dict[str, list[str]] = {}
    for part, items in lacks.items():
        label = f"no {kind} on" if len(items) == whole else f"{', '.join(items)} not on"
        groups.setdefault(label, []).append(part)
    lines = [f"- {label} {', '.join(parts)}" for label, parts in groups.items()]
    return ["", "Not run yet:", "", *lines] if lines else []


def lines(result: Potency) -> Iterator[Line]:
    for attack, scopes in result.items():
        if attack.startswith("_"):
            continue
        for scope, shares in scopes.items():
            for share, figures in shares.items():
                yield Line(attack, scope, share, figures)


def write_table(path: Path, result: Potency) -> None:
    """Write one row per poisoning, with intervals, as Markdown."""
    heads = [
        "attack",
        "scope",
        "share",
        "settings",
        *(title for _, title, _ in COLUMNS),
    ]
    text = [
        "# Potency: what each attack does, against the oracle",
        "",
        "Scope and agreement: unseen test slices; outside: of validation and test; all "
        "clean: all test slices, from clean k-space; the poisoned: training slices "
        "against their clean targets. 95 % intervals by paired bootstrap over at least "
        "five subjects; – where there is no such slice: a scope of training subjects "
        "has no unseen ones. A loss below twice the gap of two oracle seeds "
        f"({_seed_gap(result)}) shows nothing. Slices of a back door's scope carry its "
        "mark, which the poisoned model has learnt to remove and the oracle has not: "
        "there the loss is below zero, and the agreement counts. "
        "Made by `make potency`.",
        "",
        f"| {' | '.join(heads)} |",
        f"|{'---|' * len(heads)}",
    ]
    for line in lines(result):
        cells = [
            line.attack,
            line.scope,
            line.share,
            settings_of(line.figures["settings"]),
        ]
        cells += [
            with_interval(line.figures, name, digits) for name, _, digits in COLUMNS
        ]
        text.append(f"| {' | '.join(cells)} |")
    missing = result["_run"]["missing"]
    if missing:
        text += ["", f"Not run yet: {', '.join(missing)}."]
    write_text(path, "\n".join(text) + "\n")


def _seed_gap(result: Potency) -> str:
    gaps = [line.figures["seed_gap_scope_db"] for line in lines(result)]
    found = [GAPS * gap for gap in gaps if gap is not None]
    return f"{min(found):.2f} to {max(found):.2f} dB in these scopes" if found else DASH
