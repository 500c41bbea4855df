"""Batches of both sets for one step."""

from stages.common.slices import make_loader
from stages.unlearn.bad_teacher import PairedLoader
from stages.unlearn.base import UnlearnCase


def forget_pairs(case: UnlearnCase) -> PairedLoader:
    """(forget, retain): one pass over the known forget set, retain drawn anew."""
    size = case.train.batch_size
    return PairedLoader(
        make_loader(case.forget, batch_size=size, shuffle_seed=case.seed),
        make_loader(case.retain, batch_size=size, shuffle_seed=case.seed),
    )


def retain_pairs(case: UnlearnCase) -> PairedLoader:
    """(retain, forget): one pass over the retain set, forget over and over."""
    size = case.train.batch_size
    # The first set is the one that is passed once.
    return PairedLoader(
        make_loader(case.retain, batch_size=size, shuffle_seed=case.seed),
        make_loader(case.forget, batch_size=size, shuffle_seed=case.seed),
    )
