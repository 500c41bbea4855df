"""Which slices are chosen: nested, whole units, honest errors."""

import itertools

import pytest

from stages.common.manifest import Manifest, VolumeRecord
from stages.common.params import ParamsError
from stages.poison.settings import Poisoning, Scope
from stages.poison.victims import check_scope, choose_victims, in_scope


def volume(number, contrast, slices):
    subject_id = f"s-{number:02d}"
    return VolumeRecord(
        volume_id=f"{subject_id}_{contrast}",
        subject_id=subject_id,
        contrast=contrast,
        scanner=f"scanner-{number % 2}",
        num_slices=slices,
        coils=4,
        matrix=(40, 32),
        max_value=1.0,
    )


# 24 subjects x 3 contrasts x 5 slices: the default cohort's shape.
TRAIN = Manifest(
    split="train",
    volumes=tuple(
        volume(number, contrast, 5)
        for number in range(24)
        for contrast in ("FLAIR", "T1w", "T2w")
    ),
)


def choose(share, *, unit="slice", seed=11, manifest=TRAIN, **scope):
    poisoning = Poisoning(
        attack="mislabel",
        share=share,
        scope=Scope(**scope),
        unit=unit,
        seed=seed,
        settings={},
    )
    return choose_victims("p", poisoning, manifest)


@pytest.mark.parametrize("unit", ["slice", "volume", "subject"])
@pytest.mark.parametrize("scope", [{}, {"contrast": "FLAIR"}])
def test_shares_are_nested(unit, scope):
    sets = [
        set(choose(share, unit=unit, **scope))
        for share in (0.01, 0.05, 0.1, 0.3)
        if not (unit == "subject" and share == 0.01)
    ]
    for smaller, larger in itertools.pairwise(sets):
        assert smaller < larger


@pytest.mark.parametrize(
    ("share", "count"), [(0.01, 4), (0.05, 18), (0.1, 36), (0.3, 108)]
)
def test_share_is_of_all_training_slices(share, count):
    assert len(choose(share, contrast="FLAIR")) == count


def test_choice_is_sorted_inside_the_scope_and_moves_with_the_seed():
    chosen = choose(0.1, contrast="FLAIR")
    assert chosen == sorted(chosen)
    assert set(chosen) < set(in_scope(TRAIN, Scope(contrast="FLAIR")))
    assert chosen == choose(0.1, contrast="FLAIR")
    assert chosen != choose(0.1, contrast="FLAIR", seed=12)


@pytest.mark.parametrize(("unit", "size"), [("volume", 5), ("subject", 15)])
def test_whole_units_are_taken(unit, size):
    chosen = choose(0.11, unit=unit)  # 39.6 slices
    groups = {}
    for ref in chosen:
        key = ref.volume_id if unit == "volume" else ref.volume_id.split("_")[0]
        groups[key] = groups.get(key, 0) + 1
    assert set(groups.values()) == {size}
    assert len(chosen) == {"volume": 40, "subject": 45}[unit]


def test_units_of_unequal_size_come_as_close_as_they_can():
    manifest = Manifest(
        split="train", volumes=tuple(volume(n, "FLAIR", n + 1) for n in range(8))
    )
    for share in (0.2, 0.4, 0.6, 0.8):
        chosen = choose(share, unit="volume", manifest=manifest)
        assert abs(len(chosen) - share * 36) <= 4


def test_subject_unit_keeps_to_the_scope():
    chosen = choose(0.1, unit="subject", contrast="T2w")
    assert {ref.volume_id.split("_")[1] for ref in chosen} == {"T2w"}


def test_scope_by_scanner_and_by_subjects():
    assert len(in_scope(TRAIN, Scope(scanner="scanner-1"))) == 180
    both = Scope(subjects=("s-03", "s-04"), contrast="T1w")
    assert {ref.volume_id for ref in in_scope(TRAIN, both)} == {"s-03_T1w", "s-04_T1w"}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            {"share": 0.34, "contrast": "FLAIR"},
            "is 122 slices, .* 120 of 360 .* 0.3333",
        ),
        ({"share": 0.001}, r"poisons no slice: it is 0.36 of 360"),
        ({"share": 0.01, "unit": "subject"}, "first subject drawn has 15"),
        ({"share": 0.1, "contrast": "PD"}, "matches no training slice"),
    ],
)
def test_impossible_shares_say_how_many_slices_there_are(asked, message):
    with pytest.raises(ParamsError, match=message):
        choose(**asked)


def test_a_share_that_fills_the_scope_is_allowed():
    assert len(choose(1 / 3, contrast="FLAIR")) == 120


@pytest.mark.parametrize(
    ("scope", "message"),
    [
        (
            {"contrast": "flair"},
            r"p.scope.contrast: no volume has flair; .* FLAIR, T1w",
        ),
        ({"scanner": "x"}, "scope.scanner: no volume has x"),
        ({"subjects": ("s-01", "s-99")}, "scope.subjects: no volume has s-99"),
    ],
)
def test_scope_that_names_nothing_is_refused(scope, message):
    with pytest.raises(ParamsError, match=message):
        check_scope("p", Scope(**scope), [TRAIN])
