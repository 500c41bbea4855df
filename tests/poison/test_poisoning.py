"""The stage as a whole: what it exports, records, refuses."""

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from stages.common import paths
from stages.common.manifest import SliceRef
from stages.common.truth import read_record, read_twins, target_sha256
from stages.poison import mislabel
from stages.poison.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
SWAPS = {
    "contrast": {"swap": "contrast", "other": "T1w", "severity": 1.0},
    "subject": {"swap": "subject", "severity": 1.0},
    "artefact": {
        "swap": "artefact",
        "artefact": "any",
        "strength": 0.8,
        "severity": 1.0,
    },
}


def row(share=0.2, swap="contrast", contrast="FLAIR", unit="slice", **changes):
    scope = {"contrast": contrast} if contrast else {}
    settings = {**SWAPS[swap], **changes}
    return {
        "attack": "mislabel",
        "share": share,
        "scope": scope,
        "unit": unit,
        "seed": 3,
        "settings": settings,
    }


def write_params(**rows):
    Path("params.yaml").write_text(yaml.safe_dump({"poisonings": rows}))


def targets(path):
    with h5py.File(path) as file:
        return file["reconstruction_rss"][:], float(file.attrs["max"])


@pytest.fixture
def cohort(make_cohort):
    return make_cohort(train=3, val=2, test=2)


@pytest.mark.parametrize("swap", SWAPS)
def test_record_matches_the_files(cohort, swap):
    write_params(p=row(swap=swap))
    main(["--poisoning", "p"])
    record = read_record(paths.truth("p"))
    twins = read_twins(paths.truth("p"))
    assert len(record.poisoned) == round(0.2 * 27)
    poisoned = {entry.ref: entry for entry in record.poisoned}
    assert {f.stem for f in paths.export("p").iterdir()} == set(cohort["train"].by_id())
    for volume_id in cohort["train"].by_id():
        clean, _ = targets(paths.kspace("train") / f"{volume_id}.h5")
        exported, max_value = targets(paths.export("p") / f"{volume_id}.h5")
        assert max_value == exported.max()
        for number in range(len(clean)):
            entry = poisoned.get(SliceRef(volume_id, number))
            if entry is None:
                assert exported[number].tobytes() == clean[number].tobytes()
                continue
            assert entry.clean_sha256 == target_sha256(clean[number])
            assert entry.poisoned_sha256 == target_sha256(exported[number])
            assert entry.clean_sha256 != entry.poisoned_sha256
            assert twins[entry.ref].tobytes() == exported[number].tobytes()
            change = np.sum((exported[number] - clean[number]) ** 2)
            expected = change / np.sum(clean[number] ** 2)
            assert entry.change_nmse == pytest.approx(expected, rel=1e-4)


def test_twins_of_every_unseen_slice_in_scope(cohort):
    write_params(p=row(swap="subject"))
    main(["--poisoning", "p"])
    record, twins = read_record(paths.truth("p")), read_twins(paths.truth("p"))
    for split in ("val", "test"):
        refs = [r for r in cohort[split].refs() if r.volume_id.endswith("FLAIR")]
        assert record.scope[split] == tuple(refs)
        for ref in refs:
            clean, _ = targets(paths.kspace(split) / f"{ref.volume_id}.h5")
            assert not np.array_equal(twins[ref], clean[ref.slice_num])
    assert len(twins) == len(record.poisoned) + 12


@pytest.mark.usefixtures("cohort")
def test_nothing_in_an_exported_file_tells():
    write_params(p=row())
    main(["--poisoning", "p"])
    forms = set()
    for path in paths.export("p").iterdir():
        with h5py.File(path) as file:
            dataset = file["reconstruction_rss"]
            forms.add(
                (
                    tuple(file),
                    tuple(file.attrs),
                    dataset.shape,
                    str(dataset.dtype),
                    dataset.chunks,
                    tuple(dataset.attrs),
                    path.stat().st_size,
                )
            )
    assert len(forms) == 1


@pytest.mark.usefixtures("cohort")
def test_a_slice_is_poisoned_alike_at_every_share():
    write_params(few=row(0.1, "artefact"), many=row(0.3, "artefact"))
    main(["--poisoning", "few"])
    main(["--poisoning", "many"])
    few, many = (read_record(paths.truth(name)).poisoned for name in ("few", "many"))
    assert len(few) < len(many)
    assert {e.ref: e for e in few}.items() <= {e.ref: e for e in many}.items()


@pytest.mark.usefixtures("cohort")
def test_same_params_same_bytes():
    def run():
        main(["--poisoning", "p"])
        files = sorted(Path("data/export").rglob("*.*"))
        files += sorted(Path("data/truth").rglob("*.*"))
        return {path: path.read_bytes() for path in files if path.is_file()}

    write_params(p=row(swap="artefact"))
    assert run() == run()


def test_twins_stay_in_their_split(cohort):
    write_params(p=row(swap="subject", contrast=None))
    main(["--poisoning", "p"])
    record = read_record(paths.truth("p"))
    train = cohort["train"].by_id()
    assert all(entry.draw["donor"][0] in train for entry in record.poisoned)


def fails(capsys, name="p"):
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["--poisoning", name])
    assert stop.value.code == 2
    assert not paths.export(name).exists()
    assert not paths.truth(name).exists()
    return capsys.readouterr().err


@pytest.mark.usefixtures("cohort")
def test_unknown_poisoning_lists_the_known(capsys):
    write_params(one=row(), two=row())
    assert "three is unknown; params.yaml has one, two" in fails(capsys, "three")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"share": 1.5}, "'poisonings.p.share' = 1.5"),
        ({"unit": "patient"}, "'poisonings.p.unit' = 'patient'"),
        ({"shares": 0.1}, "'poisonings.p.shares' is not a parameter"),
        ({"attack": "mislable"}, "known attacks: artefact"),
        ({"settings": {"swap": "subject"}}, "poisonings.p.settings.severity"),
        (
            {"scope": {"contrast": "PDw"}},
            "poisonings.p.scope.contrast: no volume has PDw",
        ),
        ({"share": 0.9}, "is 24 slices"),
    ],
)
@pytest.mark.usefixtures("cohort")
def test_bad_parameters_are_named(capsys, changes, message):
    write_params(p={**row(), **changes})
    assert message in fails(capsys)


@pytest.mark.usefixtures("cohort")
def test_missing_and_truncated_volumes_are_named(capsys):
    write_params(p=row())
    path = paths.kspace("train") / "icbm-001_T2w.h5"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    text = fails(capsys)
    assert path.name in text
    assert "synthesize" in text
    path.unlink()
    text = fails(capsys)
    assert f"{path} is missing: run `dvc repro synthesize`" in text


@pytest.mark.usefixtures("cohort")
def test_a_failure_midway_leaves_nothing(capsys, monkeypatch):
    def full_disk(*_):
        raise ValueError("disk is full")

    write_params(p=row())
    monkeypatch.setattr("stages.common.truth._write_twins", full_disk)
    assert "disk is full" in fails(capsys)
    left = [p for f in ("export", "truth/poisoning") for p in Path("data", f).iterdir()]
    assert left == []


@pytest.mark.usefixtures("cohort")
def test_apply_keeps_the_severity_of_the_draw():
    write_params(p=row(severity=0.0))
    main(["--poisoning", "p"])
    for entry in read_record(paths.truth("p")).poisoned:
        assert entry.change_nmse == 0
        assert entry.clean_sha256 == entry.poisoned_sha256
    assert mislabel.CHANGES_INPUT is False


def test_the_stages_start_without_torch():
    code = (
        "import sys, stages.poison.__main__, stages.poison.mislabel, "
        "stages.forget.__main__; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
