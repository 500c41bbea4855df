"""The made-up grid with what detectors said of it."""

import shutil

from stages.common import paths
from stages.common.manifest import SliceRef
from tests.report.made_up import MadeUpGrid

SHARES = {"mislabel-10": 0.1, "mislabel-30": 0.3, "mislabel-random-30": 0.3}
DETECTORS = {"good": 3.0, "forget_classifier": 1.0, "bad": -3.0, "full": 9.0}


class DetectedGrid(MadeUpGrid):
    """The made-up grid with what detectors said of it."""

    def write_detection(self, detectors):
        for scenario in self.plan.scenarios:
            poisoned = self.poisoned(scenario)
            truth = paths.truth(scenario.poisoning)
            shutil.copytree(paths.answers(scenario.name), truth)
            for name, strength in detectors.items():
                place = paths.open_detection if name == "full" else paths.detection
                path = place(scenario.poisoning, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(self._scores(set(poisoned), poisoned[::4], strength))

    def _scores(self, poisoned, known, strength):
        lines = ["volume_id,slice_num,score,known"]
        for split, volume_id, number, _ in self.index:
            if split == "train":
                ref = SliceRef(volume_id, number)
                score = self.rng.normal(strength * (ref in poisoned), 1)
                lines.append(f"{volume_id},{number},{score:.6g},{int(ref in known)}")
        return "\n".join(lines) + "\n"
