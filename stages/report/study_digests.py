"""Digest of all that shapes a figure of a study.

A committed figure with the digest of the present tree need not be measured again, in
whatever clone it was made.

Input: `params.yaml` and the files of `stages/`.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stages.common.closure import Imports, code_of_cells, digest, load_sources
from stages.common.params import find_block

# The copy of the code that runs.
ROOT = Path(__file__).resolve().parents[2]
# Blocks that every figure depends on. Always the classifier's, though two attacks alone
# look at it: one of the others is then run once too often, and never too seldom.
BLOCKS = (
    "synthesize",
    "artefacts",
    "classify",
    "sampling",
    "model",
    "loss",
    "train",
    "evaluate",
    "report.bootstrap",
)
STAGES = ("synthesize/artefacts", "classify", "train", "evaluate")
DETECTION_BLOCKS = ("detect.seed", "detect.known", "detect.batch_size")
MEASURES_POTENCY = "stages/report/potency_figures.py"
MEASURES_DETECTION = "stages/report/detection.py"
MEASURES_UNLEARNING = "stages/report/summary.py"
UNLEARN_BLOCKS = (
    "unlearn.seed",
    "unlearn.finetune",
    "report.score_alpha",
    "grid.oracles",  # whose gap decides where there is healing
)


def code_digests(root: Path = ROOT) -> dict[str, str]:
    """SHA-256 of the code of each kind of cell, and of what measures here.

    Raises:
        ValueError: a file of stages/ cannot be read.
    """
    sources = load_sources(root)
    imports = Imports(sources)
    files = code_of_cells(sources)
    for path in (MEASURES_POTENCY, MEASURES_DETECTION, MEASURES_UNLEARNING):
        files[path] = imports.closure([path])
    return {name: _sha256(digest(paths, sources)) for name, paths in files.items()}


class Digests:
    """SHA-256 over the parameters and the code that a figure comes from.

    Args:
        params: the whole of `params.yaml`.
        code: as `code_digests` returns it.

    Raises:
        ValueError: a block of params is missing.
    """

    def __init__(self, params: dict[str, Any], code: dict[str, str]) -> None:
        self._params = params
        self._code = code
        used = {*find_block(params, "synthesize.sources").values()}
        used |= {*find_block(params, "artefacts")}
        self._blocks = [*BLOCKS, *(f"download.{source}" for source in sorted(used))]
        self._stages = [*STAGES]
        for source in sorted(used):
            self._stages += [f"download/{source}", f"synthesize/{source}"]

    def potency(self, poisoning: str) -> str:
        """Of what a poisoning does to a network."""
        return self._digest(poisoning, (), [MEASURES_POTENCY])

    def detection(self, poisoning: str, detector: str) -> str:
        """Of what a detector finds of a poisoning."""
        blocks = [*DETECTION_BLOCKS, f"detect.{detector}"]
        code = ["forget", f"detect/{detector}", MEASURES_DETECTION]
        return self._digest(poisoning, blocks, code)

    def unlearned(self, scenario: str, method: str | None) -> str:
        """Of what a method makes of a scenario; without one, of what it starts from."""
        blocks = [*UNLEARN_BLOCKS, f"scenarios.{scenario}"]
        code = ["forget", MEASURES_UNLEARNING]
        if method is not None:
            blocks.append(f"unlearn.{method}")
            code.append(f"unlearn/{method}")
        row = find_block(self._params, f"scenarios.{scenario}")
        if detector := row.get("detected"):
            blocks += [*DETECTION_BLOCKS, f"detect.{detector}"]
            code.append(f"detect/{detector}")
        poisoning = row["poisoning"]
        # Healing against drop-all is measured where there is one.
        compared = poisoning in find_block(self._params, "grid.drop_all")
        return self._digest(poisoning, blocks, code, drop_all=compared)

    def _digest(
        self,
        poisoning: str,
        blocks: Iterable[str],
        code: Iterable[str],
        **others: bool,
    ) -> str:
        row = find_block(self._params, f"poisonings.{poisoning}")
        kinds = [*self._stages, f"poison/{row['attack']}", *code]
        unknown = [kind for kind in kinds if kind not in self._code]
        if unknown:
            raise ValueError(
                f"poisonings.{poisoning}: there is no code of {unknown[0]} in stages/"
            )
        shaping = {
            "row": row,
            "params": {
                key: find_block(self._params, key) for key in [*self._blocks, *blocks]
            },
            "code": {kind: self._code[kind] for kind in kinds},
            **others,
        }
        return _sha256(json.dumps(shaping, sort_keys=True))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
