"""Splits are made by subject, from the source's own partition or by the seed."""

from pathlib import Path
from typing import Any

import pytest

from stages.common.params import find_block, read_params, validate
from stages.common.paths import SPLITS
from stages.synthesize.partition import scans_of
from stages.synthesize.scans import Scan
from stages.synthesize.settings import SynthesizeSettings


def settings(split: str = "drawn", **changes: Any) -> SynthesizeSettings:
    block = find_block(read_params(), "synthesize")
    block["scans"]["split"] = split
    block |= {
        "sources": dict.fromkeys(SPLITS, "m4raw"),
        "subjects": {"train": None, "val": 2, "test": 3},
    }
    return validate(block | changes, "synthesize", SynthesizeSettings)


def scan(subject: int, contrast: str = "T1w", split: str | None = None) -> Scan:
    name = f"person-{subject:02d}"
    files = (Path("raw") / f"{name}_{contrast}.h5",)
    return Scan(f"{name}_{contrast}", name, contrast, split, files)


COHORT = [scan(n, contrast) for n in range(10) for contrast in ("T1w", "T2w")]


def subjects(split: str, scans: list[Scan], given: SynthesizeSettings) -> set[str]:
    return {one.subject_id for one in scans_of(split, scans, given)}


def test_a_drawn_partition_leaves_nobody_out_and_nobody_twice():
    parts = {split: subjects(split, COHORT, settings()) for split in SPLITS}
    assert {split: len(part) for split, part in parts.items()} == {
        "train": 5, "val": 2, "test": 3,
    }  # fmt: skip
    assert len(set.union(*parts.values())) == 10
    for split in SPLITS:
        # All contrasts of a person go together.
        assert len(scans_of(split, COHORT, settings())) == 2 * len(parts[split])


def test_the_seed_draws_it_and_nothing_else():
    first = subjects("test", COHORT, settings())
    assert subjects("test", COHORT[::-1], settings()) == first
    others = [subjects("test", COHORT, settings(seed=seed)) for seed in range(5)]
    assert any(other != first for other in others)


def test_a_split_from_another_source_takes_nobody():
    given = settings(sources={"train": "m4raw", "val": "m4raw", "test": "fastmri"})
    assert len(subjects("train", COHORT, given)) == 8
    alone = settings(
        sources={"train": "icbm152", "val": "icbm152", "test": "m4raw"},
        subjects={"train": 4, "val": 2, "test": None},
    )
    assert len(subjects("test", COHORT, alone)) == 10


def test_the_published_partition_is_kept_and_cut_in_order():
    scans = [scan(n, split=SPLITS[n % 3]) for n in range(9)]
    given = settings("published", subjects={"train": 2, "val": None, "test": 1})
    assert subjects("train", scans, given) == {"person-00", "person-03"}
    assert subjects("val", scans, given) == {"person-01", "person-04", "person-07"}
    assert subjects("test", scans, given) == {"person-02"}


def test_people_of_no_published_split_are_left_out(caplog):
    scans = [scan(n, split=SPLITS[n % 3]) for n in range(3)] + [scan(9)]
    given = settings("published", subjects=dict.fromkeys(SPLITS))
    parts = [subjects(split, scans, given) for split in SPLITS]
    assert set.union(*parts) == {"person-00", "person-01", "person-02"}
    assert "1 subjects are in no published split" in caplog.text


def test_a_newcomer_moves_nobody_to_a_split_before_its_own():
    given = settings(subjects={"train": None, "val": 2, "test": 3})
    before = {s: subjects(s, COHORT, given) for s in SPLITS}
    after = {s: subjects(s, [*COHORT, scan(10), scan(11)], given) for s in SPLITS}
    stayed = sum(len(before[split] & after[split]) for split in SPLITS)
    assert stayed >= 6  # of 10: the others were pushed by one or two places


def test_contrasts_that_are_not_asked_for_stay_out():
    given = settings(contrasts=["T2w"])
    assert {one.contrast for one in scans_of("train", COHORT, given)} == {"T2w"}
    with pytest.raises(
        ValueError, match=r"contrasts' = \['PDw'\], but m4raw holds T1w"
    ):
        scans_of("train", COHORT, settings(contrasts=["PDw"]))


@pytest.mark.parametrize(
    ("scans", "given", "message"),
    [
        (COHORT, settings("published"), "does not say to which split person-00 bel"),
        (
            [scan(1, split="train"), scan(1, "T2w", split="test")],
            settings("published"),
            r"person-01_T2w.h5: subject person-01 is in train and in test",
        ),
        ([scan(1), scan(1)], settings(), "both are volume person-01_T1w: give each"),
        (COHORT[:2], settings(), r"subjects.val' = 2, but m4raw has 1 subject\(s\)"),
        (
            COHORT[:10],
            settings(),
            r"subjects.train' = null, but m4raw has 0 subject\(s\) left for train",
        ),
        (
            COHORT,
            settings(subjects={"train": None, "val": None, "test": 1}),
            "null for train and val: of the splits drawn from m4raw only one",
        ),
        (
            [scan(1, split="train")],
            settings("published"),
            r"subjects.val' = 2, but m4raw has 0 subject\(s\) left for val",
        ),
    ],
)
def test_what_makes_no_partition_is_refused(scans, given, message):
    with pytest.raises(ValueError, match=message):
        [scans_of(split, scans, given) for split in SPLITS]
