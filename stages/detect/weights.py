"""The weights that `forget_classifier` starts from: a file, or an address fetched once.

A fetched file is kept in data/local/weights/ under its hash, so that the cells of one
project share it and later runs need no network.
"""

import hashlib
import logging
import textwrap
from pathlib import Path
from typing import Any

import requests
import torch
from filelock import FileLock
from torch import Tensor

from stages.common import paths
from stages.common.params import ParamsError
from stages.detect.resnet50 import build_resnet50

KEY = "detect.forget_classifier"
CACHE = paths.DATA / "local" / "weights"
TIMEOUT = (20.0, 60.0)  # seconds, to connect and between two blocks

_BLOCK = 2**20

log = logging.getLogger("mendmri")


def read_weights(weights: str | None, sha256: str | None) -> dict[str, Tensor] | None:
    """Weights of a network of one input channel, without its head; None from scratch.

    Args:
        weights: path or http(s) address of torchvision's ResNet-50 weights.
        sha256: of that file, in lower-case hex digits.

    Raises:
        ParamsError: the file cannot be had, is another one, or holds no ResNet-50.
    """
    if weights is None or sha256 is None:
        return None
    path = find_file(weights, sha256)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that are no pickle may raise anything
        reason = f"PyTorch cannot read it: {type(error).__name__}"
        raise _no_resnet50(weights, reason) from error
    return _body(content, weights)


def find_file(weights: str, sha256: str) -> Path:
    """Return the verified file behind a path or an address.

    Raises:
        ParamsError: it is missing, cannot be fetched, or has another hash.
    """
    if weights.lower().startswith(("http://", "https://")):
        return _fetched(weights, sha256)
    path = Path(weights)
    if not path.is_file():
        raise ParamsError(
            f"{KEY}.weights = {weights} is missing: download it, give its http(s) "
            "address, or use null"
        )
    found = _sha256(path)
    if found != sha256:
        raise ParamsError(
            f"{KEY}.weights = {path} has sha256 {found}, {KEY}.sha256 says {sha256}: "
            "download it again, or correct the hash"
        )
    return path


def _fetched(url: str, sha256: str) -> Path:
    """The kept copy of an address; fetched by one process while the others wait."""
    path = CACHE / f"{sha256}.pth"
    part = CACHE / f".{path.name}.part"
    CACHE.mkdir(parents=True, exist_ok=True)
    with FileLock(CACHE / f".{sha256}.lock"):
        if path.is_file() and _sha256(path) == sha256:
            return path
        log.info("fetching %s into %s", url, CACHE)
        try:
            _download(url, part)
            found = _sha256(part)
            if found != sha256:
                raise ParamsError(
                    f"{KEY}.weights = {url} gave a file with sha256 {found}, "
                    f"{KEY}.sha256 says {sha256}: run again, or correct the address or "
                    "the hash"
                )
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    return path


def _download(url: str, path: Path) -> None:
    # Unencoded: the hash is that of the file as the server stores it.
    headers = {"User-Agent": "MendMRI", "Accept-Encoding": "identity"}
    by_hand = "or download it by hand and give its path"
    try:
        with (
            requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer,
            path.open("wb") as file,
        ):
            if answer.status_code != requests.codes.ok:
                raise ParamsError(
                    f"{KEY}.weights = {url}: the server answers {answer.status_code} "
                    f"{answer.reason}: correct the address, {by_hand}"
                )
            for block in answer.iter_content(_BLOCK):
                file.write(block)
    except requests.RequestException as error:
        raise ParamsError(
            f"{KEY}.weights = {url} could not be fetched ({type(error).__name__}): "
            f"check address and network and run again, {by_hand}"
        ) from error


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _body(content: Any, weights: str) -> dict[str, Tensor]:
    """All but the head of a ResNet-50's state dict, its first layer made for grey.

    Raises:
        ParamsError: a name or a shape is not torchvision's.
    """
    if not isinstance(content, dict) or not all(isinstance(k, str) for k in content):
        raise _no_resnet50(weights, "it holds no state dict")
    network = build_resnet50(0, channels=3, outputs=1)
    head = {name: part for name, part in network.state_dict().items() if _in_head(name)}
    given = {name: part for name, part in content.items() if not _in_head(name)}
    try:
        network.load_state_dict(given | head)
    except RuntimeError as error:
        raise _no_resnet50(weights, str(error)) from error
    loaded = network.state_dict()
    body = {name: part for name, part in loaded.items() if not _in_head(name)}
    # A grey image in all three channels is their sum.
    body["conv1.weight"] = body["conv1.weight"].sum(1, keepdim=True)
    return body


def _in_head(name: str) -> bool:
    return name.startswith("fc.")


def _no_resnet50(weights: str, reason: str) -> ParamsError:
    short = textwrap.shorten(reason, 160, placeholder=" ...")
    return ParamsError(
        f"{KEY}.weights = {weights} is no ResNet-50 of torchvision ({short}): give "
        "another file and its hash, or null for both"
    )
