"""The potency study's tree and plot, of figures that are given."""

from stages.report import style
from stages.report.detection_rows import read_detection_plan
from stages.report.potency import detection_tree, potency_tree
from stages.report.potency_plot import mark_what_is_below, strongest, sweeps
from stages.report.potency_views import scope_of
from tests.report.study_grid import content_of


def made_up_study(*rows):
    """Attack -> scope -> share -> figures, of (scope, share, settings, loss)."""
    found = {}
    for number, (scope, share, settings, loss) in enumerate(rows):
        shares = found.setdefault("artefact", {}).setdefault(scope, {})
        shares[f"{share} (row-{number})"] = {
            "settings": settings, "loss_scope_db": loss, "agreement": None,
        }  # fmt: skip
    return found


def test_the_plot_shows_the_strongest_settings_of_a_scope():
    weak, strong = {"severity": 1.0, "kind": "a"}, {"severity": 0.5, "kind": "b"}
    result = made_up_study(
        ("all", 0.1, weak, 0.9),
        ("all", 0.3, weak, 0.1),
        ("all", 0.3, strong, 1.2),
        ("all", 0.05, strong, 0.0),
        ("all", 0.3, {"severity": 0.9, "kind": "b"}, 2.5),
        ("contrast FLAIR", 0.3, weak, -0.1),
    )
    shown = [
        (group.scope, [line.share for line in group.lines])
        for group in strongest(result)
    ]
    assert shown == [
        ("all", ["0.05 (row-3)", "0.3 (row-2)"]),
        ("contrast FLAIR", ["0.3 (row-5)"]),
    ]


def test_a_sweep_differs_in_severity_alone():
    def bias(severity):
        return {"kind": "bias", "severity": severity, "shared": 7}

    result = made_up_study(
        ("contrast FLAIR", 0.3, bias(0.5), 1.3),
        ("contrast FLAIR", 0.3, bias(0.25), 0.4),
        ("contrast FLAIR", 0.1, bias(0.75), 0.2),
        ("all", 0.3, bias(0.75), 0.6),
        ("contrast FLAIR", 0.3, {"kind": "bias", "severity": 0.75}, 0.5),
    )
    found = sweeps(result)
    assert list(found) == ["bias, 30 %, all alike, contrast FLAIR"]
    (swept,) = found.values()
    assert [line.figures["loss_scope_db"] for line in swept] == [0.4, 1.3]


def test_what_lies_below_the_edge_is_marked_there():
    axis = style.new_figure(3, 3).subplots()
    axis.errorbar([1, 2, 3], [0.2, -0.7, -2.0], [0.1] * 3, color="red")
    axis.errorbar([1, 2], [0.0, 0.1], [0.1] * 2, color="blue")
    axis.set_ylim(-0.5, 1)
    drawn = len(axis.lines)
    mark_what_is_below(axis)
    (marks,) = axis.lines[drawn:]
    assert marks.get_xydata().tolist() == [[2, -0.5], [3, -0.5]]
    assert marks.get_color() == "red"


def test_scopes_have_names():
    assert scope_of({"scope": {}}) == "all"
    assert scope_of({"scope": {"contrast": "T2w", "scanner": None}}) == "contrast T2w"
    assert scope_of({"scope": {"subjects": ["a", "b"]}}) == "subjects 2"


def test_two_poisonings_of_one_share_are_both_told():
    """And keep their places, whichever of them has run."""
    rows = content_of({"mislabel-30": 0.3, "mislabel-b": 0.3})
    plan = read_detection_plan(rows)
    first, second = {"poisoning": "mislabel-30"}, {"poisoning": "mislabel-b"}
    figures = {("mislabel-30", ""): first, ("mislabel-b", ""): second}
    tree = potency_tree(rows["poisonings"], figures)
    expected = {"0.3": first, "0.3 (mislabel-b)": second}
    assert tree == {"mislabel": {"contrast FLAIR": expected}}
    del figures["mislabel-30", ""]
    tree = potency_tree(rows["poisonings"], figures)
    assert tree == {"mislabel": {"contrast FLAIR": {"0.3 (mislabel-b)": second}}}
    tree = detection_tree(plan, {("mislabel-b", "loss_outlier"): second})
    assert tree == {"mislabel": {"0.3 (mislabel-b)": {"loss_outlier": second}}}
