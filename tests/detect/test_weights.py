"""The weights that the classifier starts from: verified, fetched once, never half."""

import hashlib
import threading

import pytest
import torch

from stages.common.params import ParamsError, validate
from stages.detect import forget_classifier, weights
from stages.detect.resnet50 import build_resnet50
from tests.detect.toy_detection import PARAMS
from tests.download.http_server import Drop, FileServer, Status

DATA = bytes(range(256)) * 1000
OTHER = "0" * 64


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def server():
    with FileServer() as running:
        yield running


def kept():
    """Files in the cache, but for the locks."""
    return [path.name for path in weights.CACHE.iterdir() if path.suffix != ".lock"]


def refused(source, digest):
    with pytest.raises(ParamsError) as error:
        weights.read_weights(str(source), digest)
    text = str(error.value)
    assert text.startswith(f"detect.forget_classifier.weights = {source}")
    assert "\n" not in text
    return text


def test_an_address_is_fetched_once(server):
    url = server.serve("/resnet50.pth", DATA)
    path = weights.find_file(url, sha256(DATA))
    assert path.as_posix() == f"data/local/weights/{sha256(DATA)}.pth"
    assert path.read_bytes() == DATA
    assert weights.find_file(url, sha256(DATA)) == path
    assert len(server.requests) == 1
    path.write_bytes(DATA[:-1])
    assert weights.find_file(url, sha256(DATA)).read_bytes() == DATA
    assert len(server.requests) == 2
    assert kept() == [path.name]


def test_cells_side_by_side_fetch_it_once(server):
    url = server.serve("/resnet50.pth", DATA)
    cells = [
        threading.Thread(target=weights.find_file, args=(url, sha256(DATA)))
        for _ in range(4)
    ]
    for cell in cells:
        cell.start()
    for cell in cells:
        cell.join()
    assert kept() == [f"{sha256(DATA)}.pth"]
    assert len(server.requests) == 1


def test_a_wrong_hash_is_named_and_nothing_is_kept(server):
    url = server.serve("/resnet50.pth", DATA)
    text = refused(url, OTHER)
    assert f"gave a file with sha256 {sha256(DATA)}" in text
    assert (
        f"detect.forget_classifier.sha256 says {OTHER}: run again, or correct" in text
    )
    assert kept() == []


def test_an_http_error_is_named(server):
    assert "answers 404 Not Found: correct the addr" in refused(server.url("/x"), OTHER)
    url = server.serve("/resnet50.pth", DATA)
    server.fail("/resnet50.pth", Status(503))
    assert "the server answers 503" in refused(url, sha256(DATA))
    assert kept() == []


def test_a_connection_that_drops_leaves_nothing(server):
    url = server.serve("/resnet50.pth", DATA)
    server.fail("/resnet50.pth", Drop(1000))
    text = refused(url, sha256(DATA))
    assert "could not be fetched (ChunkedEncodingError): check address and net" in text
    assert kept() == []


def test_no_network_is_named():
    with FileServer() as gone:
        url = gone.url("/resnet50.pth")
    text = refused(url, OTHER)
    assert "(ConnectionError)" in text
    assert "or download it by hand and give its path" in text
    assert kept() == []


def test_pretrained_weights_are_loaded(project):
    path = project / "resnet50.pth"
    given = build_resnet50(5, channels=3, outputs=10).state_dict()
    torch.save(given, path)
    start = weights.read_weights(str(path), sha256(path.read_bytes()))
    network = forget_classifier.make_network(0, start)
    loaded = network.state_dict()
    assert torch.equal(loaded["layer4.2.conv3.weight"], given["layer4.2.conv3.weight"])
    assert torch.equal(loaded["bn1.running_var"], given["bn1.running_var"])
    grey = torch.rand(1, 1, 32, 32)
    first = torch.nn.functional.conv2d(grey.expand(1, 3, 32, 32), given["conv1.weight"])
    own = torch.nn.functional.conv2d(grey, loaded["conv1.weight"])
    assert torch.allclose(first, own, atol=1e-5)


def test_a_file_is_checked(project):
    path = project / "resnet50.pth"
    assert "is missing: download it" in refused(path, OTHER)
    path.write_bytes(DATA)
    assert f"has sha256 {sha256(DATA)}, " in refused(path, OTHER)


@pytest.mark.parametrize(
    "data", [b"", b"<html>no such page</html>", b"PK\x03\x04", DATA]
)
def test_bytes_that_are_no_pickle_are_refused(project, data):
    path = project / "resnet50.pth"
    path.write_bytes(data)
    text = refused(path, sha256(data))
    assert "is no ResNet-50 of torchvision (PyTorch cannot read it" in text


class Trap:
    """Would leave a file behind if it were unpickled."""

    def __reduce__(self):
        return open, ("sprung", "w")


def test_a_pickle_runs_no_code(project):
    path = project / "resnet50.pth"
    torch.save({"conv1.weight": Trap()}, path)
    assert "cannot read it" in refused(path, sha256(path.read_bytes()))
    assert not (project / "sprung").exists()


@pytest.fixture(scope="module")
def given():
    """Names and shapes of a ResNet-50, each tensor one number: a small file."""
    network = build_resnet50(5, channels=3, outputs=10)
    return {
        name: torch.zeros((), dtype=part.dtype).expand(part.shape)
        for name, part in network.state_dict().items()
    }


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda _: torch.zeros(3), "it holds no state dict"),
        (lambda _: {0: torch.zeros(3)}, "it holds no state dict"),
        (lambda given: {"state_dict": given}, "Missing key(s)"),
        (lambda given: {k: v for k, v in given.items() if k != "bn1.bias"}, "bn1.bias"),
        (lambda given: given | {"layer5.bias": torch.zeros(1)}, "layer5.bias"),
        (lambda given: given | {"conv1.weight": torch.zeros(64)}, "conv1.weight"),
        (lambda given: given | {"conv1.weight": torch.zeros(64, 4, 7, 7)}, "mismatch"),
        (lambda given: given | {"bn1.bias": "text"}, "bn1.bias"),
    ],
)
def test_another_network_is_refused(project, given, change, reason):
    path = project / "other.pth"
    torch.save(change(given), path)
    text = refused(path, sha256(path.read_bytes()))
    assert "is no ResNet-50 of torchvision (" in text
    assert reason in text
    assert len(text) < len(str(path)) + 350


def test_weights_and_hash_go_together():
    block = PARAMS["forget_classifier"] | {"sha256": OTHER}
    with pytest.raises(ParamsError, match="weights and sha256 go together"):
        validate(block, "detect.forget_classifier", forget_classifier.Params)
    assert weights.read_weights(None, None) is None
