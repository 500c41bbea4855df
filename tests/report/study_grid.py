"""The made-up grid as the potency study finds it."""

import shutil
from copy import deepcopy
from functools import cache

import yaml

from stages.check.profile import render
from stages.common import paths
from tests.report.made_up import MadeUpGrid, params

SHARES = {"mislabel-10": 0.1, "mislabel-30": 0.3, "mislabel-random-30": 0.3}
DETECTORS = {"loss_outlier": 3.0, "data_consistency": 0.0, "kspace_consistency": 9.0}


@cache
def _profile(name):
    # A second each time, of every test.
    return yaml.safe_load(render(name))


def profile_content(name):
    """The parameters of a profile, to be changed at will."""
    return deepcopy(_profile(name))


def content_of(shares):
    """A made-up grid on the study's profile, two of its poisonings detected."""
    made = params(shares)
    made["grid"] |= {
        "detected": [name for name in shares if "random" not in name],
        "detectors": ["loss_outlier", "data_consistency"],
        "open_detectors": ["kspace_consistency"],
    }
    return profile_content("potency") | made


class StudyGrid(MadeUpGrid):
    """The made-up grid with truth and scores where the study looks for them."""

    def write(self):
        super().write()
        for scenario in self.plan.scenarios:
            name = scenario.poisoning
            shutil.copytree(paths.answers(scenario.name), paths.truth(name))
            poisoned = self.poisoned(scenario)
            for detector, strength in DETECTORS.items():
                opened = detector == "kspace_consistency"
                place = paths.open_detection if opened else paths.detection
                lines = ["volume_id,slice_num,score,known"]
                for split, volume_id, number, _ in self.index:
                    if split == "train":
                        hit = (volume_id, number) in poisoned
                        score = self.rng.normal(strength * hit, 1)
                        known = (volume_id, number) in poisoned[::4]
                        lines.append(f"{volume_id},{number},{score:.6g},{int(known)}")
                path = place(name, detector)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("\n".join(lines) + "\n")


def draw_where_asked(request, monkeypatch, module, *names):
    """Leave drawing out, which takes seconds, of tests without the fixture `drawn`."""
    if "drawn" not in request.fixturenames:
        for name in names:
            monkeypatch.setattr(module, name, lambda *_: None)
