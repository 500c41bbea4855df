"""Known forget sets that come from a detector, and what detectors are told."""

import itertools
from pathlib import Path

import h5py
import pytest
import yaml

from stages.common import paths
from stages.common.manifest import SliceRef, read_manifest, read_slices
from stages.common.params import ParamsError, load_block
from stages.common.truth import read_record
from stages.common.volume import write_text
from stages.forget.__main__ import main
from stages.forget.case import _is_as_recorded
from stages.forget.detected import Scores, detected, read_scores
from stages.forget.revealed import revealed
from stages.forget.settings import BLOCKS
from stages.poison.__main__ import main as poison
from tests.forget.refused import fails
from tests.forget.test_forget import POISONING, record_of

BY_LOSS = {"poisoning": "p", "detected": "loss_outlier"}


def write_params(known=0.4, **scenarios):
    content = {
        "poisonings": {"p": POISONING},
        "scenarios": scenarios,
        "detect": {"known": known, "seed": 1},
    }
    Path("params.yaml").write_text(yaml.safe_dump(content))


def write_scores(tips=(), detector="loss_outlier"):
    """Poisoned slices first, but for one false alarm at the top."""
    refs = read_manifest(paths.manifest("train")).refs()
    poisoned = {entry.ref for entry in read_record(paths.truth("p")).poisoned}
    alarm = next(ref for ref in refs if ref not in poisoned)
    lines = ["volume_id,slice_num,score,known"]
    for place, ref in enumerate(refs):
        score = 99 if ref == alarm else 10 * (ref in poisoned) - place / 100
        lines.append(f"{ref.volume_id},{ref.slice_num},{score:.6g},{int(ref in tips)}")
    write_text(paths.detection("p", detector), "\n".join(lines) + "\n")
    return alarm, sorted(poisoned)


@pytest.fixture
def poisoned(tiny_cohort):
    write_params(s=BY_LOSS | {"budget": 0.2})
    poison(["--poisoning", "p"])
    path = paths.checkpoint("poisoned/p")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    return tiny_cohort


def forget_set(name="s"):
    main(["--scenario", name])
    known = read_slices(paths.case(name) / "forget.json", made_by="forget")
    answers = read_slices(paths.answers(name) / "known.json", made_by="forget")
    assert known == answers
    return known


@pytest.mark.usefixtures("poisoned")
def test_the_top_of_the_scores_is_known_false_alarms_included():
    alarm, poisoned = write_scores()
    assert forget_set() == sorted([alarm, *poisoned[:3]])
    files = {path.name for path in paths.case("s").iterdir()}
    assert files == {"forget.json", "model.safetensors", "targets"}


@pytest.mark.usefixtures("poisoned")
def test_nothing_needs_to_be_revealed():
    write_params(known=0.0, s=BY_LOSS | {"budget": 0.2})
    main(["--tips", "p"])
    assert read_slices(paths.tips("p"), made_by="forget_tips@p") == []
    write_scores()
    assert len(forget_set()) == 4


@pytest.mark.usefixtures("poisoned")
def test_as_many_as_known_and_the_tips_beside_them():
    _, poisoned = write_scores()
    tips = poisoned[-2:]
    alarm, _ = write_scores(tips)
    write_params(
        s=BY_LOSS | {"budget": "as_known"},
        t=BY_LOSS | {"budget": "as_known", "with_tips": True},
    )
    assert forget_set("s") == sorted([alarm, poisoned[0]])
    assert forget_set("t") == sorted([alarm, poisoned[0], *tips])


@pytest.mark.usefixtures("poisoned")
def test_tips_are_the_first_of_the_revealed():
    main(["--tips", "p"])
    tips = read_slices(paths.tips("p"), made_by="forget_tips@p")
    record = read_record(paths.truth("p"))
    assert tips == revealed("scenarios.s.known", record, known=0.4, seed=1)
    assert 0 < len(tips) < len(record.poisoned)
    assert set(tips) < set(revealed("k", record, known=0.9, seed=1))
    write_params(known=0.01)
    with pytest.raises(SystemExit):
        main(["--tips", "p"])


@pytest.mark.usefixtures("poisoned")
def test_missing_and_damaged_scores_name_the_stage(capsys):
    text = fails(capsys, "--scenario", "s")
    assert "loss_outlier.csv is missing: run `dvc repro detect@p-loss_outlier`" in text
    assert "grid.detectors" in text
    path = paths.detection("p", "loss_outlier")
    head = "volume_id,slice_num,score,known\n"
    for content in (
        "volume_id,slice_num,score\na,0,1\n",
        head,
        head + "a,0,high,0\n",
        head + "a,0,nan,0\n",
        head + "a,0,1,0\na,0,2,0\n",
        head + "a,0\n",
    ):
        write_text(path, content)
        text = fails(capsys, "--scenario", "s")
        assert f"{path} is damaged" in text
        assert "--single-item detect@p-loss_outlier`" in text


@pytest.mark.usefixtures("poisoned")
def test_an_unknown_poisoning_has_no_tips(capsys):
    assert "params.yaml has p" in fails(capsys, "--tips", "q")
    write_params(known=1.0)
    assert "'detect.known' = 1.0" in fails(capsys, "--tips", "p")
    write_params(known=0.01)
    text = fails(capsys, "--tips", "p")
    assert "detect.known = 0.01 reveals no slice" in text
    assert not paths.tips("p").exists()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({}, "there is neither, give exactly one"),
        ({"known": 0.5, "seed": 1, "detected": "x"}, "there is both, give exactly one"),
        ({"known": 0.5}, "known needs seed beside it"),
        ({"detected": "x"}, "detected needs budget beside it"),
        ({"detected": "x", "budget": 0.1, "seed": 1}, "seed does not go with detected"),
        ({"known": 0.5, "seed": 1, "budget": 0.1}, "budget does not go with known"),
        ({"known": 0.5, "seed": 1, "with_tips": True}, "with_tips does not go with"),
        (
            {"detected": "x", "budget": 0.1, "false_positives": 0.1},
            "false_positives does not go with detected",
        ),
        ({"detected": "x", "budget": 0.0}, r"s.budget' = 0.0: .*between 0 and 1, or"),
        ({"detected": "x", "budget": 1}, r"s.budget' = 1: .*between 0 and 1, or as_kn"),
        ({"detected": "x", "budget": "all"}, r"s.budget' = 'all': .*or as_known"),
        ({"detected": "../x", "budget": 0.1}, r"s.detected' = '../x'"),
        ({"detekted": "x"}, r"s.detekted' is not a parameter"),
    ],
)
def test_a_row_has_one_source(row, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_params(s={"poisoning": "p"} | row)
    with pytest.raises(ParamsError, match=message):
        load_block("scenarios", BLOCKS["scenarios"])


def test_suspects_are_nested_and_ties_have_an_order():
    refs = [SliceRef(f"v{number:02d}", 0) for number in range(20)]
    suspicion = {ref: float(place // 4) for place, ref in enumerate(reversed(refs))}
    scores = Scores(suspicion, frozenset())
    sets = [
        detected("s", scores, budget=budget, with_tips=False)
        for budget in (0.05, 0.1, 0.3, 0.95)
    ]
    assert [len(known) for known in sets] == [1, 2, 6, 19]
    for smaller, larger in itertools.pairwise(sets):
        assert set(smaller) < set(larger)
    assert sets[0] == [refs[0]]
    shuffled = Scores(dict(sorted(suspicion.items(), key=str)), frozenset())
    assert detected("s", shuffled, budget=0.1, with_tips=False) == sets[1]


def test_impossible_budgets_say_what_they_are_of():
    refs = [SliceRef(f"v{number:02d}", 0) for number in range(20)]
    scores = Scores(dict.fromkeys(refs, 1.0), frozenset(refs[:3]))
    message = "scenarios.s.budget = 0.01 makes 0 suspects of 20 training slices"
    with pytest.raises(ParamsError, match=message):
        detected("s", scores, budget=0.01, with_tips=False)
    message = r"0.9 makes 18 suspects of 20 .* beside 3 tips.* a share of 0.05"
    with pytest.raises(ParamsError, match=message):
        detected("s", scores, budget=0.9, with_tips=True)
    none = scores._replace(tips=frozenset())
    with pytest.raises(ParamsError, match="as_known, but no slice has been reported"):
        detected("s", none, budget="as_known", with_tips=False)


def test_scores_are_read_as_they_are_written(tmp_path):
    path = tmp_path / "p" / "d.csv"
    write_text(path, "volume_id,slice_num,score,known\na,0,0.25,0\na,1,-3e-05,1\n")
    first, second = SliceRef("a", 0), SliceRef("a", 1)
    assert read_scores(path) == Scores(
        {first: 0.25, second: -3e-05}, frozenset({second})
    )


@pytest.mark.usefixtures("poisoned")
def test_exported_kspace_is_checked_against_the_record():
    entry = record_of(1).poisoned[0]
    path = paths.kspace("train") / "icbm-000_FLAIR.h5"
    from stages.common.truth import kspace_sha256, target_sha256

    with h5py.File(path) as file:
        hashes = {
            "poisoned_sha256": target_sha256(file["reconstruction_rss"][0]),
            "kspace_sha256": kspace_sha256(file["kspace"][0]),
        }
        same = entry.model_copy(update=hashes)
        assert _is_as_recorded(file, same)
        for key in hashes:
            other = same.model_copy(update={key: "0"})
            assert not _is_as_recorded(file, other)
        assert not _is_as_recorded(file, same.model_copy(update={"slice_num": 9}))
