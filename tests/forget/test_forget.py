"""Known forget sets and cases."""

import itertools
from pathlib import Path

import pytest
import yaml

from stages.common import paths
from stages.common.manifest import SliceRef, read_slices
from stages.common.params import ParamsError
from stages.common.truth import PoisonedSlice, TruthRecord, read_record, read_twins
from stages.forget.__main__ import main
from stages.forget.revealed import reported_by_mistake, revealed
from stages.poison.__main__ import main as poison
from tests.forget.refused import fails

POISONING = {
    "attack": "mislabel",
    "share": 0.3,
    "scope": {"contrast": "FLAIR"},
    "unit": "slice",
    "seed": 3,
    "settings": {"swap": "contrast", "other": "T1w", "severity": 1.0},
}


def record_of(count):
    poisoned = tuple(
        PoisonedSlice(
            volume_id=f"v{number:02d}",
            slice_num=0,
            draw={},
            clean_sha256="0",
            poisoned_sha256="1",
            kspace_sha256=None,
            change_nmse=0.1,
        )
        for number in range(count)
    )
    return TruthRecord(
        poisoning="p",
        attack="mislabel",
        changes_input=False,
        measured_on="clean",
        scope={},
        poisoned=poisoned,
    )


def write_params(**scenarios):
    content = {"poisonings": {"p": POISONING}, "scenarios": scenarios}
    Path("params.yaml").write_text(yaml.safe_dump(content))


@pytest.fixture
def poisoned(tiny_cohort):
    write_params(
        s={"poisoning": "p", "known": 0.4, "seed": 1},
        lost={"poisoning": "q", "known": 0.4, "seed": 1},
    )
    poison(["--poisoning", "p"])
    path = paths.checkpoint("poisoned/p")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    return tiny_cohort


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_known_sets_are_nested(seed):
    record = record_of(54)
    shares = (0.1, 0.2, 0.5, 0.9, 1.0)
    sets = [
        set(revealed("scenarios.s.known", record, known=k, seed=seed)) for k in shares
    ]
    assert [len(known) for known in sets] == [5, 11, 27, 49, 54]
    for smaller, larger in itertools.pairwise(sets):
        assert smaller < larger


def test_seed_moves_the_known_set():
    record = record_of(54)
    one, two = (
        revealed("scenarios.s.known", record, known=0.5, seed=seed) for seed in (1, 2)
    )
    assert one != two
    assert (
        one == sorted(one) == revealed("scenarios.s.known", record, known=0.5, seed=1)
    )


def test_a_share_below_one_slice_says_so():
    message = r"scenarios.s.known = 0.1 reveals no slice: it is 0.4 of the 4 .* 0.25"
    with pytest.raises(ParamsError, match=message):
        revealed("scenarios.s.known", record_of(4), known=0.1, seed=0)


CLEAN = [SliceRef(f"w{number:02d}", 1) for number in range(40)]


def mistaken(share, *, beside=20, seed=1):
    key = "scenarios.s.false_positives"
    return reported_by_mistake(key, CLEAN, share=share, beside=beside, seed=seed)


def test_false_positives_are_a_share_of_the_whole_known_set():
    assert mistaken(0.0) == []
    few, many = mistaken(0.1), mistaken(0.5)
    assert (len(few), len(many)) == (2, 20)
    assert set(few) < set(many) < set(CLEAN)
    assert mistaken(0.5, seed=2) != many


def test_false_positives_that_cannot_be_had_are_named():
    with pytest.raises(ParamsError, match=r"false_positives = 0.01 adds .* 0.0476"):
        mistaken(0.01)
    with pytest.raises(ParamsError, match=r"= 0.7 asks for 47 .* has 40: .* 0.667"):
        mistaken(0.7)


@pytest.mark.usefixtures("poisoned")
def test_a_known_set_with_false_positives_holds_clean_slices():
    main(["--scenario", "s"])
    path = paths.case("s") / "forget.json"
    revealed_ones = set(read_slices(path, made_by="forget"))
    row = {"poisoning": "p", "known": 0.4, "seed": 1, "false_positives": 0.5}
    write_params(s=row)
    main(["--scenario", "s"])
    known = set(read_slices(path, made_by="forget"))
    poisoned = {entry.ref for entry in read_record(paths.truth("p")).poisoned}
    assert known & poisoned == revealed_ones
    assert len(known - poisoned) == len(revealed_ones)
    volumes = {file.stem for file in paths.kspace("train").glob("*.h5")}
    assert {ref.volume_id for ref in known} <= volumes


@pytest.mark.usefixtures("poisoned")
def test_case_and_answers():
    main(["--scenario", "s"])
    case, answers = paths.case("s"), paths.answers("s")
    record = read_record(answers)
    refs = {entry.ref for entry in record.poisoned}
    known = read_slices(case / "forget.json", made_by="forget")
    assert len(known) == round(0.4 * len(refs)) < len(refs)
    assert set(known) < refs
    assert (answers / "known.json").read_bytes() == (case / "forget.json").read_bytes()
    assert (case / "model.safetensors").read_bytes() == b"weights"
    assert set(read_twins(answers)) == record.twin_refs()
    assert sorted(f.name for f in case.iterdir()) == [
        "forget.json",
        "model.safetensors",
        "targets",
    ]
    exported = sorted(paths.export("p").iterdir())
    copies = sorted((case / "targets").iterdir())
    assert [f.name for f in copies] == [f.name for f in exported]
    for copy, original in zip(copies, exported, strict=True):
        assert copy.read_bytes() == original.read_bytes()
        assert copy.samefile(original)


@pytest.mark.usefixtures("poisoned")
def test_copies_where_links_fail(monkeypatch):
    def no_links(*_):
        raise OSError("cross-device link")

    monkeypatch.setattr("os.link", no_links)
    main(["--scenario", "s"])
    model = paths.case("s") / "model.safetensors"
    assert model.read_bytes() == b"weights"
    assert not model.samefile(paths.checkpoint("poisoned/p"))


@pytest.mark.usefixtures("poisoned")
def test_drop_all_lists_every_poisoned_slice():
    main(["--drop-all", "p"])
    dropped = read_slices(paths.drop_list("p"), made_by="drop_list")
    record = read_record(paths.truth("p"))
    assert dropped == [entry.ref for entry in record.poisoned]


@pytest.mark.usefixtures("poisoned")
def test_unknown_names_list_the_known(capsys):
    assert "params.yaml has lost, s" in fails(capsys, "--scenario", "x")
    assert "params.yaml has p" in fails(capsys, "--scenario", "lost")
    assert "params.yaml has p" in fails(capsys, "--drop-all", "q")


@pytest.mark.parametrize("known", [0, 1.2, "half"])
@pytest.mark.usefixtures("poisoned")
def test_known_out_of_range_is_named(capsys, known):
    write_params(s={"poisoning": "p", "known": known, "seed": 1})
    assert f"'scenarios.s.known' = {known!r}" in fails(capsys, "--scenario", "s")


@pytest.mark.usefixtures("poisoned")
def test_missing_inputs_name_the_stage(capsys):
    paths.checkpoint("poisoned/p").unlink()
    assert "train_poisoned@p" in fails(capsys, "--scenario", "s")
    (paths.truth("p") / "record.json").unlink()
    assert "dvc repro poison@p" in fails(capsys, "--scenario", "s")


@pytest.mark.usefixtures("poisoned")
def test_an_export_of_another_run_is_refused(capsys):
    entry = read_record(paths.truth("p")).poisoned[0]
    clean = paths.kspace("train") / f"{entry.volume_id}.h5"
    path = paths.export("p") / f"{entry.volume_id}.h5"
    path.write_bytes(clean.read_bytes())
    text = fails(capsys, "--scenario", "s")
    assert str(path) in text
    assert "poison@p" in text
