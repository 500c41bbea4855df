"""Planted bad slices are found, and each detector's own parts do what they say."""

import h5py
import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from stages.common import paths
from stages.common.manifest import SliceRef
from stages.common.params import ParamsError
from stages.common.slices import rank_loader
from stages.detect import forget_classifier, gradient_outlier
from stages.detect.base import load_detector
from stages.detect.kspace_consistency import difference
from stages.detect.resnet50 import build_resnet50
from stages.detect.scores import write_scores
from tests.detect.toy_detection import (
    KNOWN,
    PARAMS,
    POISONED,
    open_data,
    train_model,
    write_poisoning,
)


@pytest.fixture
def poisoned(make_cohort):
    make_cohort(train=4)
    write_poisoning()


def scores_of(name, data=None):
    detector = load_detector(name)
    return detector.score(data or open_data(), detector.Params(**PARAMS[name]))


def area(scores):
    """AUROC on the slices that nobody has reported."""
    refs = [ref for ref in scores if ref not in KNOWN]
    return roc_auc_score([ref in POISONED for ref in refs], [scores[r] for r in refs])


@pytest.mark.usefixtures("poisoned")
def test_a_trained_model_gives_the_wrong_targets_away():
    train_model()
    data = open_data()
    for name, least in (
        ("loss_outlier", 0.95),
        ("data_consistency", 0.95),
        ("kspace_consistency", 1.0),
        ("gradient_outlier", 0.8),
    ):
        assert area(scores_of(name, data)) >= least, name


@pytest.mark.usefixtures("poisoned")
def test_data_consistency_needs_no_trained_model():
    assert area(scores_of("data_consistency")) >= 0.95


@pytest.mark.parametrize("name", ["data_consistency", "kspace_consistency"])
@pytest.mark.usefixtures("poisoned")
def test_brightness_is_not_suspicious(name):
    before = scores_of(name)
    for path in paths.export("p").iterdir():
        with h5py.File(path, "r+") as file:
            file["reconstruction_rss"][...] *= 3
            file.attrs["max"] *= 3
    after = scores_of(name)
    for ref, value in before.items():
        assert after[ref] == pytest.approx(value, rel=1e-3, abs=1e-6)


def test_kspace_consistency_in_numbers():
    rng = np.random.default_rng(0)
    images = rng.standard_normal((3, 8, 6)) + 1j * rng.standard_normal((3, 8, 6))
    axes = (-2, -1)
    shifted = np.fft.ifftshift(images, axes=axes)
    kspace = np.fft.fftshift(np.fft.fft2(shifted, norm="ortho"), axes=axes)
    rss = np.sqrt((np.abs(images) ** 2).sum(0))
    assert difference(5 * rss, kspace) < 1e-12
    assert difference(rss[1:-1, 2:-2], kspace) < 1e-12
    flat = np.ones_like(rss)
    expected = ((rss - rss.mean()) ** 2).sum() / (rss**2).sum()
    assert difference(flat, kspace) == pytest.approx(expected)


@pytest.mark.usefixtures("poisoned")
def test_gradients_are_the_mean_of_the_slices_own():
    data = open_data()
    weights = gradient_outlier.watched(data.model, 1)
    last = list(data.model.cascades[-1].parameters())
    assert [id(part) for part in weights] == [id(part) for part in last]
    slices = data.train.restrict(data.train.refs[:7])
    mean = gradient_outlier.mean_gradient(data.model, weights, slices, data)
    each = [
        gradient_outlier.gradient(data.model, weights, batch, data)
        for batch in rank_loader(slices, batch_size=1)
    ]
    assert torch.allclose(mean, torch.stack(each).mean(0), atol=1e-6)
    everything = gradient_outlier.watched(data.model, 99)
    assert len(everything) == len(list(data.model.parameters()))


@pytest.mark.usefixtures("poisoned")
def test_a_reported_slice_does_not_vouch_for_itself():
    """It is scored as if only the others had been reported."""
    first, second = KNOWN
    data = open_data()
    params = gradient_outlier.Params(cascades=1, retain_slices=999)
    scores = gradient_outlier.score(data, params)
    weights = gradient_outlier.watched(data.model, 1)
    means = [
        gradient_outlier.mean_gradient(
            data.model, weights, data.train.restrict(refs), data
        )
        for refs in ([first], [second], data.rest())
    ]
    expected = torch.nn.functional.cosine_similarity(
        means[1], means[0] - means[2], dim=0
    )
    assert scores[second] == pytest.approx(expected.item(), abs=1e-4)
    alone = gradient_outlier.score(data._replace(known=(first,)), params)
    assert alone[first] < max(alone.values())


def test_folds_deal_subjects_and_spread_the_reported():
    subjects = {f"s{n}_{c}": f"s{n}" for n in range(9) for c in ("T1w", "T2w")}
    known = [SliceRef(f"s{n}_T1w", 0) for n in (2, 5, 7)]
    dealt = forget_classifier.deal_folds(subjects, known, 3, seed=0)
    assert sorted(dealt) == [f"s{n}" for n in range(9)]
    assert sorted(dealt.values()) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    for seed in range(5):
        spread = forget_classifier.deal_folds(subjects, known, 3, seed=seed)
        assert {spread["s2"], spread["s5"], spread["s7"]} == {0, 1, 2}
    assert dealt == forget_classifier.deal_folds(subjects, known, 3, seed=0)
    others = [forget_classifier.deal_folds(subjects, known, 3, seed=s) for s in (1, 2)]
    assert dealt not in others
    with pytest.raises(ParamsError, match="folds = 10 is more than the 9 training"):
        forget_classifier.deal_folds(subjects, known, 10, seed=0)


@pytest.mark.usefixtures("poisoned")
def test_no_network_sees_a_subject_that_it_scores(monkeypatch):
    """The subjects behind the training images, and behind the scored ones."""
    data = open_data()
    params = forget_classifier.Params(**PARAMS["forget_classifier"])
    owner = {}
    for index, ref in enumerate(data.train.refs):
        image = forget_classifier.prepare(data.train[index].target, params.image_size)
        owner[image.numpy().tobytes()] = data.subjects[ref.volume_id]
    seen, labels_seen = [], []

    def fit(images, labels, *_, **__):
        seen.append({owner[image.numpy().tobytes()] for image in images})
        labels_seen.append(labels.sum().item())
        return build_resnet50(0, channels=1, outputs=1)

    def predict(network, images, batch_size):  # noqa: ARG001
        scored = {owner[image.numpy().tobytes()] for image in images}
        assert not scored & seen[-1]
        assert scored | seen[-1] == set(data.subjects.values())
        return np.arange(len(images)) / len(images)

    monkeypatch.setattr(forget_classifier, "fit", fit)
    monkeypatch.setattr(forget_classifier, "predict", predict)
    forget_classifier.score(data, params)
    assert len(seen) == params.folds
    assert labels_seen == [1, 1]


@pytest.mark.usefixtures("poisoned")
def test_a_fold_without_reports_has_no_opinion(caplog):
    data = open_data()._replace(known=KNOWN[:1])
    scores = scores_of("forget_classifier", data)
    subject = data.subjects[KNOWN[0].volume_id]
    params = forget_classifier.Params(**PARAMS["forget_classifier"])
    folds = forget_classifier.deal_folds(data.subjects, KNOWN[:1], 2, data.seed)
    silent = {
        value
        for ref, value in scores.items()
        if folds[data.subjects[ref.volume_id]] == folds[subject]
    }
    assert len(silent) == 1
    assert "no reported slice to learn from" in caplog.text
    assert params.folds == 2


def test_the_classifier_learns_what_can_be_seen():
    """Bright in one half, bright in the other: two kinds that any network separates."""
    rng = np.random.default_rng(0)
    labels = torch.arange(48) % 4 == 0
    images = torch.from_numpy(rng.standard_normal((48, 1, 32, 32))).float()
    images[labels, :, :16] += 3
    images[~labels, :, 16:] += 3
    # With fewer steps batch norm's averages lag, and rounding decides.
    settings = PARAMS["forget_classifier"] | {"epochs": 16}
    params = forget_classifier.Params(**settings)
    network = forget_classifier.fit(
        images[:32], labels[:32].float(), None, params, seed=0
    )
    scores = forget_classifier.predict(network, images[32:], 8)
    assert roc_auc_score(labels[32:], scores) > 0.95


def test_resnet50_is_torchvisions():
    """Names and numbers of torchvision's, whose weights it must load."""
    network = build_resnet50(0, channels=3, outputs=1000)
    assert sum(part.numel() for part in network.parameters()) == 25_557_032
    names = list(network.state_dict())
    assert len(names) == 320
    for name in (
        "conv1.weight", "bn1.running_mean", "layer1.0.downsample.0.weight",
        "layer1.2.bn3.bias", "layer3.5.conv2.weight", "layer4.0.downsample.1.bias",
        "fc.bias",
    ):  # fmt: skip
        assert name in names
    assert network.layer3[0].conv2.stride == (2, 2)
    assert network.layer3[0].conv1.stride == (1, 1)
    assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 1000)


def test_scores_are_written_whole_or_not_at_all(tmp_path):
    refs = [SliceRef("a", 0), SliceRef("a", 1)]
    path = tmp_path / "x.csv"
    write_scores(path, refs, {refs[0]: 1 / 3, refs[1]: 2e-9}, refs[1:])
    assert path.read_text().splitlines() == [
        "volume_id,slice_num,score,known",
        "a,0,0.333333,0",
        "a,1,2e-09,1",
    ]
    with pytest.raises(
        ValueError, match=r"1 of 2 slices have no finite score, .* 1 of"
    ):
        write_scores(tmp_path / "y.csv", refs, {refs[0]: 1.0}, [])
    assert not (tmp_path / "y.csv").exists()
