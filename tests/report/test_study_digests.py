"""Which figures of the potency study count: digests, and what DVC says has run."""

import shutil
from pathlib import Path

import pytest
import yaml

from stages.check.profile import render
from stages.report import study_cells as studies
from stages.report.detection_rows import read_detection_plan
from stages.report.potency_cells import study_cells
from stages.report.study_digests import ROOT, Digests, code_digests
from tests.report.study_grid import SHARES, content_of


@pytest.fixture(scope="module")
def code():
    return code_digests()


def digests(content, code):
    made = Digests(content, code)
    return (
        made.potency("mislabel-30"),
        made.detection("mislabel-30", "loss_outlier"),
        made.detection("mislabel-30", "gradient_outlier"),
    )


def differ(before, after):
    return tuple(a != b for a, b in zip(before, after, strict=True))


def test_a_digest_is_of_the_parameters_that_shape_the_figure(code):
    content = content_of(SHARES)

    def moved(block, **values):
        before = digests(content, code)
        block.update(values)
        return differ(before, digests(content, code))

    own = ("synthesize", "classify", "sampling", "model", "loss", "train", "evaluate")
    for name in own:
        assert all(moved(content[name], seed=99)), name
    assert all(moved(content["download"]["ch2"], version=2))
    assert not any(moved(content["download"]["m4raw"], record=1))
    assert all(moved(content, artefacts=["m4raw"]))
    assert all(moved(content["download"]["m4raw"], record=2))
    assert all(moved(content["report"]["bootstrap"], seed=99))
    assert all(moved(content["poisonings"]["mislabel-30"], seed=99))
    assert not any(moved(content["poisonings"]["mislabel-10"], seed=99))
    assert not any(moved(content["report"], score_alpha=0.1))
    assert not any(moved(content["unlearn"], seed=99))
    for name in ("known", "seed", "batch_size"):
        assert moved(content["detect"], **{name: 5}) == (False, True, True), name
    gradients = content["detect"]["gradient_outlier"]
    assert moved(gradients, cascades=2) == (False, False, True)


def test_a_digest_is_of_the_code_that_makes_the_figure(tmp_path):
    content = content_of(SHARES)
    shutil.copytree(ROOT / "stages", tmp_path / "stages")
    before = digests(content, code_digests(tmp_path))

    def after_edit(*names):
        texts = {}
        for name in names:
            path = tmp_path / "stages" / name
            texts[path] = path.read_text()
            path.write_text(texts[path] + "\nX = 1\n")
        after = digests(content, code_digests(tmp_path))
        for path, text in texts.items():
            path.write_text(text)
        return differ(before, after)

    for name in (
        "download/ch2.py",
        "synthesize/icbm152.py",
        "classify/training.py",
        "poison/mislabel.py",
        "common/fit.py",
        "evaluate/rows.py",
        "report/bootstrap.py",
    ):
        assert all(after_edit(name)), name
    assert after_edit("report/healing.py") == (True, False, False)
    assert after_edit("forget/revealed.py") == (False, True, True)
    assert after_edit("report/ranking.py") == (False, True, True)
    assert after_edit("detect/gradient_outlier.py") == (False, False, True)
    others = ("poison/trigger.py", "unlearn/ssd.py", "report/potency_views.py")
    assert not any(after_edit(*others))


PIPELINE = """\
stages:
  poison:
    foreach: [a, b]
    do: {cmd: "cp seed p${item}", deps: [seed], params: ["${item}"], outs: ["p${item}"]}
  train_poisoned:
    foreach: [a, b]
    do: {cmd: "cp p${item} t${item}", deps: ["p${item}"], outs: ["t${item}"]}
  evaluate_poisoned:
    matrix: {kind: [poisoned], poisoning: [a, b]}
    cmd: cp t${item.poisoning} e${item.poisoning}
    deps: ["t${item.poisoning}"]
    outs: ["e${item.poisoning}"]
"""


def test_rows_of_other_settings_do_not_count(tmp_path, monkeypatch):
    """The study's copy keeps old results: DVC says of which settings they are."""
    from dvc.repo import Repo

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    Repo.init(str(tmp_path), no_scm=True).close()
    Path("dvc.yaml").write_text(PIPELINE)
    Path("params.yaml").write_text("a: 1\nb: 1\n")
    Path("seed").write_text("1")
    cells = {
        name: studies.StudyCell(
            name, "", "", (f"evaluate_poisoned@poisoned-{name}",),
            (f"poison@{name}", f"train_poisoned@{name}"), frozenset(),
        )
        for name in ("a", "b")
    }  # fmt: skip

    def have_run():
        changed = studies.changed_stages()
        return {name for name, cell in cells.items() if cell.has_run(changed)}

    assert have_run() == set()
    with Repo(str(tmp_path)) as repo:
        repo.reproduce()
    assert have_run() == {"a", "b"}
    Path("params.yaml").write_text("a: 2\nb: 1\n")
    assert have_run() == {"b"}
    Path("tb").unlink()
    assert have_run() == set()


def test_the_profiles_cells(code):
    """Detectors look at what is in one contrast, and at 30 % among all slices."""
    content = yaml.safe_load(render("potency"))
    plan = read_detection_plan(content)
    cells = study_cells(content, plan, Digests(content, code))
    scoped = [
        name
        for name, row in content["poisonings"].items()
        if row["scope"].get("contrast") or (not row["scope"] and row["share"] == 0.3)
    ]
    detected = dict.fromkeys(cell.part for cell in cells if cell.item)
    assert list(detected) == scoped
    assert len(plan.cells) == 5 * len(scoped)
    assert len({cell.digest for cell in cells}) == len(cells)
    strongest = [row["share"] for row in content["poisonings"].values()][:7]
    assert strongest == [0.3] * 7
    # Held out: artefacts on T2w.
    for row in content["poisonings"].values():
        assert row["scope"].get("contrast") in (None, "FLAIR", "T1w")
