"""Put the measured lines of an ISMRMRD file onto a Cartesian grid of k-space.

The file is read as the HDF5 that it is: a group with `xml`, the header, and `data`, a
record for each acquisition.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import h5py
import numpy as np

from stages.synthesize.scans import ScanError

_NAMESPACE = {"i": "http://www.ismrm.org/ISMRMRD"}
_NOISE, _CALIBRATION, _REVERSE = 19, 20, 22
# Navigators, corrections, feedback, dummies: no lines of the image.
_OTHER_FLAGS = (23, 24, 26, 27, 28, 29, 30, 31)
_ONE_OF_EACH = ("contrast", "phase", "repetition", "set")
_BLOCK = 256


class _Encoding(NamedTuple):
    """What the header says of the grid; `centre` is None where it does not say."""

    samples: int
    lines: int
    centre: int | None


def is_ismrmrd(item: Any) -> bool:
    """Whether an HDF5 object is a group of acquisitions."""
    return isinstance(item, h5py.Group) and {"xml", "data"} <= set(item)


def read_acquisitions(group: h5py.Group, path: Path) -> tuple[np.ndarray, str]:
    """Read imaging acquisitions; the mean where there are several averages.

    Samples and lines that were never acquired stay zero, oversampling of the readout
    stays as it is.

    Returns:
        (slices, coils, samples, lines) complex64, centred, and the XML header.

    Raises:
        ScanError: it is not 2-D Cartesian, holds several images of a slice, or its
            lines do not fit the grid that the header describes.
    """
    xml = group["xml"][()]
    text = np.asarray(xml).reshape(-1)[0]
    header = text.decode() if isinstance(text, bytes) else str(text)
    encoding = _encoding(header, path)
    data = group["data"]
    heads = data["head"]
    imaging = _imaging(heads["flags"], path)
    heads = heads[imaging]
    index = heads["idx"]
    _check_index(index, path)
    _check_lines(heads, encoding, path)
    columns = _columns(index["kspace_encode_step_1"].astype(int), encoding, path)
    slices, coils = index["slice"].astype(int), int(heads["active_channels"][0])
    kspace = np.zeros(
        (int(slices.max()) + 1, coils, encoding.samples, encoding.lines), np.complex64
    )
    counts = np.zeros((len(kspace), encoding.lines), int)
    for number, values in enumerate(_measured(data, imaging)):
        where = slices[number], slice(None), slice(None), columns[number]
        kspace[where] += _line(values, heads[number], encoding, path)
        counts[slices[number], columns[number]] += 1
    kspace /= np.maximum(counts, 1)[:, None, None, :]
    return kspace, header


def _encoding(header: str, path: Path) -> _Encoding:
    try:
        root = ElementTree.fromstring(header.encode())
    except ElementTree.ParseError as error:
        raise ScanError(
            f"{path}: the ISMRMRD header is no XML ({error}): export the file again"
        ) from None
    found = root.findall("i:encoding", _NAMESPACE)
    if len(found) != 1:
        raise ScanError(
            f"{path}: the ISMRMRD header has {len(found)} encodings, expected one: "
            "export one of them"
        )
    kind = (found[0].findtext("i:trajectory", "", _NAMESPACE) or "").strip()
    if kind.lower() != "cartesian":
        raise ScanError(
            f"{path}: the trajectory is {kind or 'not stated'}, expected cartesian: "
            "other k-space is out of scope, remove its row from the table"
        )
    size = "i:encodedSpace/i:matrixSize/i:{}"
    centre = "i:encodingLimits/i:kspace_encoding_step_1/i:center"
    try:
        samples, lines, partitions = (
            int(found[0].findtext(size.format(axis), "", _NAMESPACE)) for axis in "xyz"
        )
        middle = found[0].findtext(centre, None, _NAMESPACE)
        encoding = _Encoding(samples, lines, None if middle is None else int(middle))
    except ValueError:
        raise ScanError(
            f"{path}: the ISMRMRD header lacks the size of the encoded space, or a "
            "number in it is none: export the file again"
        ) from None
    if partitions > 1:
        raise _not_planar(path, f"encoded matrix has {partitions} partitions")
    return encoding


def _imaging(flags: np.ndarray, path: Path) -> np.ndarray:
    """Numbers of the acquisitions that are part of the image."""

    def has(flag: int) -> np.ndarray:
        return (flags >> np.uint64(flag - 1)) & np.uint64(1) == 1

    other = np.any([has(f) for f in (_NOISE, _CALIBRATION, *_OTHER_FLAGS)], axis=0)
    imaging = np.flatnonzero(~other)
    if not imaging.size:
        raise ScanError(
            f"{path}: holds {len(flags)} acquisitions and none of an image: export the "
            "image's as well, or remove its row from the table"
        )
    if has(_REVERSE)[imaging].any():
        raise ScanError(
            f"{path}: has lines that were read backwards, as in EPI, which need a "
            "phase correction: export corrected k-space"
        )
    return imaging


def _measured(data: h5py.Dataset, imaging: np.ndarray) -> Iterator[np.ndarray]:
    """The values of each imaging acquisition, with a block of them in memory."""
    for first in range(0, len(data), _BLOCK):
        values = data[first : first + _BLOCK]["data"]
        inside = (imaging >= first) & (imaging < first + _BLOCK)
        for number in imaging[inside]:
            yield values[number - first]


def _check_index(index: np.ndarray, path: Path) -> None:
    if index["kspace_encode_step_2"].any():
        raise _not_planar(path, "kspace_encode_step_2 is above 0")
    for name in _ONE_OF_EACH:
        numbers = np.unique(index[name])
        if len(numbers) > 1 or numbers[0] != 0:
            raise ScanError(
                f"{path}: {name} takes the values {numbers[:6].tolist()}: export one "
                "image of each slice to a file of its own, with all of them 0"
            )
    names = ("slice", "kspace_encode_step_1", "average")
    lines = np.stack([index[name] for name in names], axis=1)
    unique, counts = np.unique(lines, axis=0, return_counts=True)
    if counts.max() > 1:
        where = dict(zip(names, unique[counts.argmax()].tolist(), strict=True))
        raise ScanError(
            f"{path}: {where} was acquired {counts.max()} times: number repeated lines "
            "by 'average', or export one image"
        )


def _check_lines(heads: np.ndarray, encoding: _Encoding, path: Path) -> None:
    for name in ("active_channels", "number_of_samples", "center_sample"):
        numbers = np.unique(heads[name])
        if len(numbers) > 1:
            raise ScanError(
                f"{path}: {name} differs between lines ({numbers[:6].tolist()}): "
                "export one image"
            )
    samples, middle = int(heads["number_of_samples"][0]), int(heads["center_sample"][0])
    if not 0 <= _start(samples, middle, encoding) <= encoding.samples - samples:
        raise ScanError(
            f"{path}: lines of {samples} samples with the echo at {middle} do not fit "
            f"an encoded matrix of {encoding.samples}: correct the header"
        )


def _start(samples: int, middle: int, encoding: _Encoding) -> int:
    # A whole line fits in one way only; some files leave `center_sample` at 0.
    return 0 if samples == encoding.samples else encoding.samples // 2 - middle


def _columns(lines: np.ndarray, encoding: _Encoding, path: Path) -> np.ndarray:
    """Where each line lies in the grid."""
    middle = encoding.lines // 2
    whole = np.array_equal(np.unique(lines), np.arange(encoding.lines))
    if encoding.centre is None and not whole:
        raise ScanError(
            f"{path}: lines {lines.min()} to {lines.max()} of {encoding.lines} were "
            "acquired, and the header's encodingLimits do not say which is the centre: "
            "add kspace_encoding_step_1/center"
        )
    columns = lines - (middle if encoding.centre is None else encoding.centre) + middle
    if columns.min() < 0 or columns.max() >= encoding.lines:
        raise ScanError(
            f"{path}: lines {lines.min()} to {lines.max()} around "
            f"{encoding.centre} do not fit an encoded matrix of {encoding.lines}: "
            "correct the header"
        )
    return columns


def _line(
    values: np.ndarray, head: np.void, encoding: _Encoding, path: Path
) -> np.ndarray:
    """One readout on the grid, (coils, samples)."""
    coils, samples = int(head["active_channels"]), int(head["number_of_samples"])
    parts = np.asarray(values, np.float32)
    if parts.size != 2 * coils * samples:
        raise ScanError(
            f"{path}: a line holds {parts.size} numbers, expected 2 × {coils} coils × "
            f"{samples} samples: the file is damaged, export it again"
        )
    measured = parts.view(np.complex64).reshape(coils, samples)
    first, end = int(head["discard_pre"]), samples - int(head["discard_post"])
    start = _start(samples, int(head["center_sample"]), encoding)
    line = np.zeros((coils, encoding.samples), np.complex64)
    line[:, start + first : start + end] = measured[:, first:end]
    return line


def _not_planar(path: Path, finding: str) -> ScanError:
    return ScanError(
        f"{path}: {finding}: 3-D encoding is out of scope; transform along the slices, "
        "and give the result as 2-D k-space"
    )
