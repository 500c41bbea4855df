"""Write arrays in BART's, MATLAB's and ISMRMRD's formats, and tables of own files."""

import csv

import h5py
import numpy as np
import pytest

from stages.synthesize import folder
from stages.synthesize.folder_rows import TABLE
from stages.synthesize.scans import ScanError
from tests.synthesize.raw_files import STOP, settings

COLUMNS = (
    "file", "kind", "subject", "contrast", "split", "repetition", "axes", "key",
    "centred", "wrapped", "spacing", "sens_key", "sens_axes", "lesion", "scanner",
)  # fmt: skip
_COUNTERS = (
    "kspace_encode_step_1", "kspace_encode_step_2", "average", "slice", "contrast",
    "phase", "repetition", "set", "segment",
)  # fmt: skip
# As the ISMRMRD library stores an acquisition's header: 340 bytes.
HEAD = np.dtype(
    [
        ("version", "<u2"), ("flags", "<u8"), ("measurement_uid", "<u4"),
        ("scan_counter", "<u4"), ("acquisition_time_stamp", "<u4"),
        ("physiology_time_stamp", "<u4", (3,)), ("number_of_samples", "<u2"),
        ("available_channels", "<u2"), ("active_channels", "<u2"),
        ("channel_mask", "<u8", (16,)), ("discard_pre", "<u2"),
        ("discard_post", "<u2"), ("center_sample", "<u2"),
        ("encoding_space_ref", "<u2"), ("trajectory_dimensions", "<u2"),
        ("sample_time_us", "<f4"), ("position", "<f4", (3,)),
        ("read_dir", "<f4", (3,)), ("phase_dir", "<f4", (3,)),
        ("slice_dir", "<f4", (3,)), ("patient_table_position", "<f4", (3,)),
        ("idx", [*((name, "<u2") for name in _COUNTERS), ("user", "<u2", (8,))]),
        ("user_int", "<i4", (8,)), ("user_float", "<f4", (8,)),
    ]
)  # fmt: skip
_VALUES = h5py.vlen_dtype(np.dtype("<f4"))
RECORD = np.dtype([("head", HEAD), ("traj", _VALUES), ("data", _VALUES)])
ISMRMRD = """<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding>
<encodedSpace><matrixSize><x>{samples}</x><y>{lines}</y><z>{partitions}</z></matrixSize>
</encodedSpace>
<reconSpace><matrixSize><x>{samples}</x><y>{lines}</y><z>1</z></matrixSize></reconSpace>
<encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>{last}</maximum>
{centre}</kspace_encoding_step_1></encodingLimits>
<trajectory>{trajectory}</trajectory></encoding></ismrmrdHeader>"""


def write_bart(path, array):
    """Sizes are padded with ones, as BART does."""
    sizes = [*array.shape, 1]
    path.with_suffix(".hdr").write_text(
        f"# Dimensions\n{' '.join(map(str, sizes))} \n# Command\nfft\n"
    )
    path.write_bytes(array.astype("<c8").tobytes(order="F"))


def write_matlab_73(path, **arrays):
    """HDF5 after 512 bytes; axes in reverse, a complex number is a record."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            stored, kind = array.T, {"f4": "single", "f8": "double"}
            if np.iscomplexobj(array):
                stored = np.empty(array.T.shape, [("real", "f4"), ("imag", "f4")])
                stored["real"], stored["imag"] = array.T.real, array.T.imag
            letter = "f4" if np.iscomplexobj(array) else array.dtype.str[1:]
            file[name] = stored
            file[name].attrs["MATLAB_class"] = np.bytes_(kind.get(letter, "char"))
    preamble = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM"
    with path.open("r+b") as file:
        file.write(preamble)


def acquisition(values, *, line, slice_num=0, flag=0, middle=None, **more):
    """One readout, of (coils, samples) complex64: its header and its numbers."""
    head = np.zeros((), HEAD)
    head["version"], head["flags"] = 1, 1 << (flag - 1) if flag else 0
    head["active_channels"], head["number_of_samples"] = values.shape
    head["center_sample"] = values.shape[1] // 2 if middle is None else middle
    head["idx"]["kspace_encode_step_1"], head["idx"]["slice"] = line, slice_num
    for name, value in more.items():
        (head["idx"] if name in _COUNTERS else head)[name] = value
    return head, np.ascontiguousarray(values, "<c8").view("<f4").ravel()


def lines_of(kspace, **more):
    """Every readout of (slices, coils, samples, lines)."""
    return [
        acquisition(kspace[number, :, :, line], line=line, slice_num=number, **more)
        for line in range(kspace.shape[3])
        for number in range(len(kspace))
    ]


def write_ismrmrd(path, records, *, samples, lines, centre=None, **header):
    limit = "" if centre is None else f"<center>{centre}</center>"
    header = {"partitions": 1, "trajectory": "cartesian", **header}
    text = ISMRMRD.format(
        samples=samples, lines=lines, last=lines - 1, centre=limit, **header
    )
    data = np.empty(len(records), RECORD)
    for number, (head, values) in enumerate(records):
        data["head"][number], data["data"][number] = head, values
        data["traj"][number] = np.zeros(0, "<f4")
    with h5py.File(path, "w") as file:
        group = file.create_group("dataset")
        group.create_dataset("xml", (1,), h5py.string_dtype())[0] = text
        group["data"] = data


def write_table(folder, *rows):
    """The table as `download` writes it."""
    with (folder / TABLE).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_all(place, *rows, **changes):
    """Every scan of a table, by the settings that are changed."""
    write_table(place, *rows)
    found = folder.find(place, settings(**changes), STOP)
    return [folder.read(scan, settings(**changes), STOP) for scan in found]


def refused(place, message, *rows, **changes):
    with pytest.raises(ScanError, match=message):
        read_all(place, *rows, **changes)
