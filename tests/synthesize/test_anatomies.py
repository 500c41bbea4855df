"""The two real heads: their tissues where a radiologist expects them."""

import numpy as np
import pytest

from stages.download import ch2 as ch2_source
from stages.download import icbm152 as icbm_source
from stages.download.packaged import copy_source
from stages.synthesize import ch2, icbm152
from stages.synthesize.anatomy import Anatomy


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Anatomy]:
    folder = tmp_path_factory.mktemp("raw")
    copy_source(icbm_source.SOURCE, folder / "icbm152")
    copy_source(ch2_source.SOURCE, folder / "ch2")
    return {
        "icbm152": icbm152.load(folder / "icbm152"),
        "ch2": ch2.load(folder / "ch2"),
    }


def _at(head: Anatomy, *position: float) -> np.ndarray:
    x, y, z = np.round(np.array(position) - head.origin).astype(int)
    return head.maps[:, x, y, z]


@pytest.mark.parametrize("name", ["icbm152", "ch2"])
def test_tissues_lie_where_they_belong(heads: dict[str, Anatomy], name: str) -> None:
    head = heads[name]
    assert head.maps.min() >= 0
    assert head.maps.sum(axis=0).max() <= 1 + 1e-5
    assert _at(head, 28, -25, 32)[1] > 0.8, "centrum semiovale is white matter"
    assert _at(head, 10, -5, 24)[2] > 0.5, "lateral ventricle is CSF"
    assert _at(head, 0, 20, 120 if name == "icbm152" else 105).sum() == 0, "air"
    litres = head.maps[:2].sum() / 1e6
    assert 1.0 < litres < 2.0, "grey and white matter together"


def test_ch2_keeps_its_own_scalp(heads: dict[str, Anatomy]) -> None:
    head = heads["ch2"]
    assert head.depth is None
    plane = head.maps[:, :, :, round(20 - head.origin[2])]
    rows = np.flatnonzero(plane.sum(axis=0).max(axis=0) > 0.5)
    brain = np.flatnonzero(plane[:2].sum(axis=0).max(axis=0) > 0.5)
    assert brain[0] - rows[0] > 5
    assert rows[-1] - brain[-1] > 5


def test_icbm152_says_where_its_scalp_goes(heads: dict[str, Anatomy]) -> None:
    head = heads["icbm152"]
    assert head.depth is not None
    brain = head.maps.sum(axis=0) > 0.9
    assert head.depth[brain].max() < 0.5
    border = [head.depth[0], head.depth[-1], head.depth[:, 0], head.depth[:, -1]]
    assert min(float(side.min()) for side in border) > 20
