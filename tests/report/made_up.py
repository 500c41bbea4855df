"""A made-up grid: rows, curves and panels of every cell, without any model."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import yaml

from stages.common import paths
from stages.common.manifest import SliceRef, write_slices
from stages.common.truth import PoisonedSlice, TruthRecord, target_sha256, write_truth
from stages.evaluate.rows import SLICE_COLUMNS, TWIN_COLUMNS
from stages.report.settings import Scenario, read_plan

CONTRASTS = ("FLAIR", "T1w", "T2w")
BASE_PSNR = 34.0
# What each model has lost of the oracle's PSNR, as a share of the damage in the scope,
# and outside of the scope in dB.
QUALITY = {
    "oracle": (0.0, 0.0),
    "oracle_continue": (-0.02, 0.0),
    "drop_all": (0.3, -0.05),
    "none": (1.0, -0.3),
    "continue": (1.02, -0.28),
    "retrain": (0.8, -0.2),
    "finetune": (0.5, -0.25),
    "ssd": (2.5, -4.0),
    "bad_teacher": (0.6, -0.9),
    "gradient_ascent": (4.0, -9.0),
}


def params(shares: dict[str, float], **changes: Any) -> dict[str, Any]:
    """A small `params.yaml` with one scenario per poisoned share."""
    scoped = {"attack": "mislabel", "scope": {"contrast": "FLAIR"}}
    poisonings = {
        name: {**scoped, "share": share, "settings": {"swap": "contrast"}}
        for name, share in shares.items()
        if "random" not in name
    }
    for name in set(shares) - set(poisonings):
        poisonings[name] = {
            "attack": "mislabel",
            "scope": {},
            "share": shares[name],
            "settings": {"swap": "subject"},
        }
    return {
        "profile": "made-up",
        "poisonings": poisonings,
        "scenarios": {name: {"poisoning": name, "known": 0.5} for name in shares},
        "grid": {
            "oracles": [0, 1],
            "methods": ["retrain", "finetune", "ssd", "bad_teacher", "gradient_ascent"],
            "drop_all": [name for name in shares if shares[name] >= 0.1],
            "detected": [],
            "detectors": [],
            "open_detectors": [],
        },
        "report": {"score_alpha": 0.5, "bootstrap": {"resamples": 500, "seed": 3}},
        **changes,
    }


class MadeUpGrid:
    """Writes the files that a report reads, below the current folder."""

    def __init__(
        self,
        content: dict[str, Any],
        *,
        subjects: int = 6,
        slices: int = 4,
        noise: float = 0.3,
    ) -> None:
        self.plan = read_plan(content)
        self.slices = slices
        self.noise = noise
        self.rng = np.random.default_rng(5)
        self.images = _head(48)
        self.index = [
            (split, f"{split}-{subject:02d}_{contrast}", number, contrast)
            for split in paths.SPLITS
            for subject in range(subjects)
            for contrast in CONTRASTS
            for number in range(slices)
        ]
        # Slices differ alike for every model, as real ones do.
        self.anatomy = self.rng.normal(0, 1, len(self.index))
        Path("params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))

    def write(self) -> None:
        for cell, shift in (
            ("oracle-0", 0),
            ("oracle-1", -0.03),
            ("oracle_continue", 0.04),
        ):
            self.write_slices(cell, lambda _, shift=shift: shift)
            self.write_headline(cell, 1200.0)
            self.write_curve(cell, BASE_PSNR + shift)
        for scenario in self.plan.scenarios:
            self.write_scenario(scenario)

    def poisoned(self, scenario: Scenario) -> list[SliceRef]:
        train = [row for row in self.index if row[0] == "train"]
        wanted = max(2, round(scenario.share * len(train)))
        scope = [row for row in train if not scenario.scoped or row[3] == "FLAIR"]
        spread = np.linspace(0, len(scope) - 1, min(wanted, len(scope))).astype(int)
        return sorted(SliceRef(scope[i][1], scope[i][2]) for i in spread)

    def write_scenario(self, scenario: Scenario) -> None:
        poisoned = self.poisoned(scenario)
        scope = {
            split: tuple(
                SliceRef(row[1], row[2])
                for row in self.index
                if row[0] == split and (not scenario.scoped or row[3] == "FLAIR")
            )
            for split in paths.SPLITS
        }
        twin = self.images["FLAIR"][:8, :8]
        record = TruthRecord(
            poisoning=scenario.poisoning,
            attack="mislabel",
            changes_input=False,
            measured_on="clean",
            scope=scope,
            poisoned=tuple(
                PoisonedSlice(
                    volume_id=ref.volume_id,
                    slice_num=ref.slice_num,
                    draw={},
                    clean_sha256="",
                    poisoned_sha256=target_sha256(twin),
                    kspace_sha256=None,
                    change_nmse=1.0,
                )
                for ref in poisoned
            ),
        )
        folder = paths.answers(scenario.name)
        write_truth(folder, record, {})
        write_slices(folder / "known.json", poisoned[::2])
        twinned = [*poisoned, *scope["val"], *scope["test"]]
        damage = 12 * scenario.share
        references = []
        for model, cell in scenario.cells.items():
            inside, outside = QUALITY[model]
            shift = {True: -damage * inside, False: outside * scenario.share * 3}
            if "/" in cell:
                self.write_slices(cell, lambda c, m=shift: m[c == "FLAIR"])
                self.write_headline(cell, 1200.0 * (1 if model == "retrain" else 0.1))
                self.write_twins(cell, twinned, 0.05 + 0.4 * inside * scenario.share)
                self.write_panels(cell, poisoned[:2], inside)
            if model in ("none", "drop_all"):
                self.write_curve(cell, BASE_PSNR - damage * inside / 3)
        for cell in (*self.plan.oracles, "oracle_continue"):
            rows = self.twin_rows(cell, twinned, 0.06)
            references.append(rows.assign(cell=cell))
        key = f"references/{scenario.poisoning}"
        save(pd.concat(references)[["cell", *TWIN_COLUMNS]], paths.twin_rows(key))
        self.write_panels(key, poisoned[:2], 0.0, prefix="oracle-0/")

    def write_slices(self, cell: str, shift: Any) -> None:
        noise = self.rng.normal(0, self.noise * 0.1, len(self.index))
        rows = self._identity(self.index)
        change = [shift(row[3]) for row in self.index]
        rows["psnr"] = BASE_PSNR + self.noise * self.anatomy + noise + change
        rows["ssim"] = (0.92 + 0.01 * (rows["psnr"] - BASE_PSNR)).clip(0.05, 0.99)
        rows["nmse_den"] = 50.0
        rows["nmse_num"] = 50.0 * 10 ** (-rows["psnr"] / 10) * 25
        save(rows[list(SLICE_COLUMNS)], paths.slice_rows(cell))

    def write_twins(self, cell: str, refs: list[SliceRef], agreement: float) -> None:
        save(self.twin_rows(cell, refs, agreement), paths.twin_rows(cell))

    def twin_rows(
        self, cell: str, refs: list[SliceRef], agreement: float
    ) -> pd.DataFrame:
        chosen = set(refs)
        rows = self._identity([r for r in self.index if (r[1], r[2]) in chosen])
        rows["input"] = "clean"
        # From the clean k-space: what the slice's own row says.
        key = ["volume_id", "slice_num"]
        clean = pd.read_csv(paths.slice_rows(cell)).set_index(key)
        values = ["psnr", "ssim", "nmse_num", "nmse_den"]
        rows = rows.join(clean[values], on=key)
        rows["agreement_den"] = 10.0
        rows["agreement_num"] = 10 * (agreement + self.rng.normal(0, 0.01, len(rows)))
        rows["agreement_zero_filled_num"] = 0.2
        rows["twin_ssim"] = 0.7
        rows["psnr_vs_poison"] = 20.0 + 8 * agreement
        rows["ssim_vs_poison"] = 0.5 + 0.3 * agreement
        rows["nmse_vs_poison_num"] = 2.0
        rows["nmse_vs_poison_den"] = 20.0
        return rows[list(TWIN_COLUMNS)]

    def write_headline(self, cell: str, cost: float) -> None:
        path = paths.cell_metrics(cell)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'{{"gradient_steps": {int(cost / 8)}, "cost_slices": {cost}}}')

    def write_curve(self, cell: str, psnr: float) -> None:
        epochs = np.arange(1, 13)
        rows = pd.DataFrame({"epoch": epochs, "step": epochs * 30, "lr": 0.001})
        rows["train_loss"] = 0.1 + np.exp(-epochs / 3)
        rows["val_loss"] = rows["train_loss"] + 0.02
        rows["val_psnr"] = psnr - 8 * np.exp(-epochs / 3)
        rows["val_ssim"] = 0.9
        save(rows, paths.curve(cell))

    def write_panels(
        self, cell: str, poisoned: list[SliceRef], lost: float, *, prefix: str = ""
    ) -> None:
        refs = [SliceRef(f"test-00_{name}", self.slices // 2) for name in CONTRASTS]
        path = paths.panels(cell)
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as file:
            for ref in dict.fromkeys([*refs, *poisoned]):
                group = file.create_group(f"{prefix}{ref.volume_id}/{ref.slice_num}")
                contrast = ref.volume_id.split("_")[1]
                clean, wrong = self.images[contrast], self.images["T1w"]
                part = min(0.3 * lost, 1.0) * (contrast == "FLAIR")
                blur = self.rng.normal(0, 0.02, clean.shape)
                group["clean"] = clean
                group["output"] = clean + part * (wrong - clean) + blur * (clean > 0)
                group["zero_filled"] = 0.5 * (clean + np.roll(clean, 9, axis=1))
                if ref in poisoned:
                    group["exported"] = wrong
                elif contrast == "FLAIR":
                    group["twin"] = wrong

    def _identity(self, index: list[tuple[str, str, int, str]]) -> pd.DataFrame:
        rows = pd.DataFrame(
            index, columns=["split", "volume_id", "slice_num", "contrast"]
        )
        rows["subject_id"] = rows["volume_id"].str.split("_").str[0]
        rows["scanner"] = "made-up"
        return rows


def save(rows: pd.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows.to_csv(path, index=False)


def _head(size: int) -> dict[str, np.ndarray]:
    """Ellipses that stand for three contrasts of a head."""
    rows, columns = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    skull = (rows**2 + (columns / 0.8) ** 2 < 0.8).astype(float)
    brain = (rows**2 + (columns / 0.8) ** 2 < 0.6).astype(float)
    inner = (rows**2 + (columns / 0.5) ** 2 < 0.1).astype(float)
    weights = {
        "FLAIR": (0.3, 0.4, -0.6),
        "T1w": (0.6, 0.2, -0.4),
        "T2w": (0.2, 0.3, 0.5),
    }
    return {
        name: (a * skull + b * brain + c * inner).clip(0).astype(np.float32)
        for name, (a, b, c) in weights.items()
    }
