"""Figure: reconstructions of one scenario, with error maps on one scale."""

from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from stages.common import paths
from stages.common.manifest import SliceRef
from stages.common.volume import open_volume
from stages.report import style
from stages.report.rows import (
    Membership,
    evaluated_by,
    read_attacked_rows,
    read_membership,
    read_slice_rows,
)
from stages.report.settings import NONE, ORACLE, Scenario

# Pixels as they are: smoothed ones make the committed files 2.6 times as large.
PIXELS = "nearest"


class Picture(NamedTuple):
    """One column of a slice: its title, (H', W') image, and what is written below."""

    title: str
    image: np.ndarray
    note: str


class Row(NamedTuple):
    """One slice: what it is, its columns, the clean truth."""

    title: str
    pictures: list[Picture]
    clean: np.ndarray


def panels_figure(scenario: Scenario) -> Figure:
    """Zero-filled, exported, poisoned model, each method, oracle, clean; error maps."""
    rows = _rows(scenario)
    columns = len(rows[0].pictures)
    reach = _error_scale(rows)
    with matplotlib.rc_context(style.RC):
        figure = style.new_figure(1.35 * columns + 1.2, 3.05 * len(rows) + 0.4)
        axes = figure.subplots(2 * len(rows), columns, squeeze=False)
        for axis in axes.flat:
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        for number, row in enumerate(rows):
            upper, lower = axes[2 * number], axes[2 * number + 1]
            upper[0].set_ylabel(row.title, fontsize=8)
            lower[0].set_ylabel("error", fontsize=8)
            top = float(row.clean.max())
            for above, below, picture in zip(upper, lower, row.pictures, strict=True):
                above.imshow(
                    picture.image, cmap="gray", vmin=0, vmax=top, interpolation=PIXELS
                )
                above.set_title(picture.title, fontsize=8)
                error = np.abs(picture.image - row.clean) / top
                shown = below.imshow(
                    error, cmap="inferno", vmin=0, vmax=reach, interpolation=PIXELS
                )
                below.set_xlabel(picture.note, fontsize=8)
        figure.colorbar(
            shown, ax=axes[:, -1].tolist(), extend="max", aspect=40, pad=0.02,
            label="|image − clean| / maximum of the clean slice",
        )  # fmt: skip
        figure.suptitle(f"{scenario.name}: PSNR of each slice against the clean truth")
    return figure


def _error_scale(rows: list[Row]) -> float:
    """One scale for all error maps, up to the poisoned model's largest errors."""
    errors = [
        np.abs(picture.image - row.clean).ravel() / float(row.clean.max())
        for row in rows
        for picture in row.pictures
        if picture.title == style.label(NONE)
    ]
    return max(float(np.percentile(np.concatenate(errors), 99.5)), 1e-6)


def _rows(scenario: Scenario) -> list[Row]:
    membership = read_membership(scenario)
    key = scenario.cells[NONE]
    test, train = _choose(paths.panels(key), key, membership)
    hidden = train in membership.splits["forget_hidden"]
    known = "undiscovered" if hidden else "known"
    return [
        _row(scenario, test, "test slice", "twin", "as the attack\nwould export"),
        _row(scenario, train, f"{known} poison", "exported", "exported\ntarget"),
    ]


def _choose(path: Path, cell: str, membership: Membership) -> tuple[SliceRef, SliceRef]:
    """A test slice in the scope, and a poisoned training slice, hidden if possible."""
    with open_volume(path, made_by=evaluated_by(cell)) as file:
        refs = [
            SliceRef(volume_id, int(number))
            for volume_id in sorted(file)
            for number in sorted(file[volume_id], key=int)
        ]
        twinned = [ref for ref in refs if "twin" in file[f"{ref[0]}/{ref[1]}"]]
        poisoned = [ref for ref in refs if "exported" in file[f"{ref[0]}/{ref[1]}"]]
    if not twinned or not poisoned:
        raise ValueError(
            f"{path} holds no twinned test slice or no poisoned training slice: run "
            f"`dvc repro --force --single-item {evaluated_by(cell)}`"
        )
    hidden = [ref for ref in poisoned if ref in membership.splits["forget_hidden"]]
    return twinned[0], (hidden or poisoned)[0]


def _row(
    scenario: Scenario, ref: SliceRef, what: str, twin: str, twin_title: str
) -> Row:
    none = _read(scenario, NONE, ref)
    shown = [NONE, *scenario.methods, ORACLE]
    pictures = [
        Picture("zero-filled", none["zero_filled"], ""),
        Picture(twin_title, none[twin], ""),
        *[
            Picture(
                style.label(model),
                _read(scenario, model, ref)["output"],
                _psnr(scenario, model, ref),
            )
            for model in shown
        ],
        Picture("clean\ntarget", none["clean"], ""),
    ]
    attacked = read_attacked_rows(scenario.poisoning, scenario.cells[NONE])
    given = "\nfrom attacked k-space" if ref in attacked.index else ""
    title = f"{what}\n{ref.volume_id}, {ref.slice_num}{given}"
    return Row(title, pictures, none["clean"])


def _psnr(scenario: Scenario, model: str, ref: SliceRef) -> str:
    """PSNR of what is shown, which is from the attack's k-space where it has one."""
    cell = scenario.cells[model]
    attacked = read_attacked_rows(scenario.poisoning, cell)
    rows = attacked if ref in attacked.index else read_slice_rows(cell)
    return f"{rows.loc[[tuple(ref)], 'psnr'].iloc[0]:.1f} dB"


def _read(scenario: Scenario, model: str, ref: SliceRef) -> dict[str, np.ndarray]:
    cell, group = scenario.cells[model], f"{ref.volume_id}/{ref.slice_num}"
    if model == ORACLE:
        cell, group = f"references/{scenario.poisoning}", f"{cell}/{group}"
    with open_volume(paths.panels(cell), made_by=evaluated_by(cell)) as file:
        return {name: file[group][name][:] for name in file[group]}
