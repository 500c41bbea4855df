"""Slices are left out of all contrasts of a person, or of none."""

import numpy as np
import pytest

from stages.common.params import find_block, read_params, validate
from stages.synthesize.selection import kept_slices, require_slices, slice_signal
from stages.synthesize.settings import ScanSettings


def settings(**changes):
    block = find_block(read_params(), "synthesize.scans") | changes
    return validate(block, "synthesize.scans", ScanSettings)


def test_signal_is_relative_to_the_volume():
    images = np.zeros((3, 10, 10), np.float32)
    images[1], images[2] = 2, 4
    np.testing.assert_allclose(slice_signal(images), [0, 0.5, 1])
    assert slice_signal(images * 0).tolist() == [0, 0, 0]


def test_what_is_empty_in_one_contrast_is_left_out_of_all():
    kept = kept_slices(
        {
            "a_T1w": np.array([0.01, 0.5, 1.0, 0.9]),
            "a_T2w": np.array([0.30, 0.5, 1.0, 0.02]),
            "a_FLAIR": np.array([0.3, 1.0]),
        },
        settings(min_signal=0.05),
    )
    assert kept == {"a_T1w": [1, 2], "a_T2w": [1, 2], "a_FLAIR": [0, 1]}


def test_a_scan_without_signal_takes_nothing_from_the_others():
    kept = kept_slices({"a": np.zeros(3), "b": np.ones(3)}, settings())
    assert kept == {"a": [], "b": [0, 1, 2]}
    with pytest.raises(ValueError, match=r"a.h5: no slice holds signal .*min_signal"):
        require_slices(kept["a"], "a.h5", settings())


def test_few_slices_are_spread_evenly():
    def chosen(count, most):
        return kept_slices({"a": np.ones(count)}, settings(max_slices=most))["a"]

    assert chosen(9, 3) == [1, 4, 7]
    assert chosen(18, 1) == [9]
    assert chosen(4, 4) == chosen(4, 9) == [0, 1, 2, 3]
