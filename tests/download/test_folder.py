"""The table of own files: all that is wrong is said before anything is copied."""

import csv
import json
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from pydantic import ValidationError

from stages.download.base import SourceError, settle
from stages.download.folder import Params, fetch
from stages.download.folder_table import COLUMNS

ROOT = Path(__file__).resolve().parents[2]
PARAMS = Params(table="scans.csv")
KSPACE = {
    "file": "a.npy", "kind": "kspace", "subject": "p1", "contrast": "T1w",
    "axes": "slice coil row column", "centred": "yes",
}  # fmt: skip
IMAGE = {"file": "b.nii.gz", "kind": "image", "subject": "p2", "contrast": "T2w"}


@pytest.fixture
def local(tmp_path, monkeypatch):
    monkeypatch.setenv("MENDMRI_LOCAL", str(tmp_path / "disk"))
    folder = tmp_path / "disk" / "folder"
    folder.mkdir(parents=True)
    for name in (
        "a.npy", "b.nii.gz", "c.mat", "d.h5", "e.cfl", "e.hdr", "f.npy", "l.nii",
        "m.npy", "g.cfl", "note.txt",
    ):  # fmt: skip
        (folder / name).write_bytes(name.encode())
    return folder


@pytest.fixture
def out(tmp_path):
    return tmp_path / "raw"


def write(local, *rows, delimiter=",", encoding="utf-8"):
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with (local / "scans.csv").open("w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, columns, delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def refused(out, message):
    with pytest.raises(SourceError, match=message):
        fetch(PARAMS, out)
    assert not out.exists()


def test_files_and_table_are_brought(local, out):
    bart = {
        "subject": "p3", "file": "e.cfl", "axes": "-, Row,column coil",
        "kind": "KSpace", "centred": "No", "repetition": "02", "split": "Train",
    }  # fmt: skip
    picture = {**IMAGE, "file": "f.npy", "axes": "row column", "spacing": "0.9×1 mm"}
    write(local, KSPACE | {"scanner": "3T, old"}, KSPACE | bart, picture)
    fetched = fetch(PARAMS, out)
    assert fetched.names == ("a.npy", "e.cfl", "e.hdr", "f.npy", "scans.csv")
    assert (out / "e.hdr").read_bytes() == b"e.hdr"
    with (out / "scans.csv").open(encoding="utf-8", newline="") as file:
        one, two, three = csv.DictReader(file)
    assert tuple(one) == COLUMNS
    assert (one["scanner"], one["repetition"], one["split"]) == ("3T, old", "", "")
    assert (two["kind"], two["axes"]) == ("kspace", "- row column coil")
    assert (two["centred"], two["repetition"], two["split"]) == ("no", "2", "train")
    assert three["spacing"] == "0.9 1"
    settle(out, fetched)
    provenance = json.loads((out / "provenance.json").read_text())
    assert [file["name"] for file in provenance["files"]] == sorted(fetched.names)


@pytest.mark.parametrize(
    ("delimiter", "encoding", "end"),
    [(",", "utf-8", "\n"), (";", "utf-8-sig", "\r\n")],
)
def test_as_spreadsheets_write_it(local, out, delimiter, encoding, end):
    """With a byte order mark, capitals, blank rows and empty columns at the end."""
    rows = [
        "File,KIND, subject,Contrast,axes,centred,,",
        "a.npy,kspace,Müller,T1w,slice coil row column,yes,,",
        ",,,,,,,",
        "",
        "b.nii.gz,image,p2,T2w,,,,",
    ]
    text = end.join(rows).replace(",", delimiter) + end
    (local / "scans.csv").write_bytes(text.encode(encoding))
    assert fetch(PARAMS, out).names == ("a.npy", "b.nii.gz", "scans.csv")
    assert "Müller" in (out / "scans.csv").read_text("utf-8")


def test_spaces_and_foreign_letters(local, out):
    name = "Köpfe und mehr/脳 (1).npy"
    path = local / unicodedata.normalize("NFD", name)
    path.parent.mkdir()
    path.write_bytes(b"brain")
    write(local, KSPACE | {"file": unicodedata.normalize("NFC", name)})
    assert fetch(PARAMS, out).names == (name, "scans.csv")
    assert (out / name).read_bytes() == b"brain"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (KSPACE | {"file": "gone.npy"}, r"folder/gone.npy is missing: put it there"),
        (KSPACE | {"file": ""}, r"file is '': name a file"),
        (KSPACE | {"file": "../x.npy"}, r"file is '../x.npy': .*without '..'"),
        (KSPACE | {"file": "/etc/x.npy"}, r"file is '/etc/x.npy': .*relative to it"),
        (KSPACE | {"file": "s\\a.npy"}, r"file is .*with '/'"),
        (KSPACE | {"file": "note.txt"}, r"file is 'note.txt': expected a file .npy, "),
        (KSPACE | {"file": "g.cfl"}, r"folder/g.hdr, the header of 'g.cfl', is miss"),
        (KSPACE | {"kind": "raw"}, r"kind is 'raw', expected one of kspace, image"),
        (KSPACE | {"split": "dev"}, r"split is 'dev', expected one of nothing, train"),
        (KSPACE | {"subject": "患者"}, r"subject is '患者': it needs a letter"),
        (KSPACE | {"contrast": "T1 w"}, r"contrast is 'T1 w': use letters, digits"),
        (KSPACE | {"repetition": "a"}, r"repetition is 'a', expected a whole number"),
        (KSPACE | {"axes": ""}, r"axes is empty, and files of NumPy .* name them"),
        (KSPACE | {"axes": "row col"}, r"axes has 'col', expected slice, coil, row"),
        (KSPACE | {"axes": "row coil"}, r"axes is 'row coil': name row and column"),
        (KSPACE | {"axes": "row row column"}, r"name row and column, and no axis twic"),
        (KSPACE | {"centred": ""}, r"centred is empty: yes if the zero frequency lies"),
        (KSPACE | {"centred": "1"}, r"centred is '1', expected yes or no"),
        (KSPACE | {"wrapped": "yes"}, r"wrapped is 'yes', expected 'no', or the axes"),
        (KSPACE | {"key": "k"}, r"key is 'k', but files of NumPy have no variables"),
        (KSPACE | {"spacing": "1 1"}, r"spacing is for images .*k-space needs none"),
        (KSPACE | {"lesion": "m.npy"}, r"lesion is for images: k-space has no grid"),
        (KSPACE | {"file": "c.mat", "sens_key": "S", "sens_axes": "row column coil"},
         r"sens_key is for images: k-space needs no maps"),
        (IMAGE | {"kind": "kspace"}, r"kind is kspace, but NIfTI holds images"),
        (IMAGE | {"axes": "coil row column"}, r"of NIfTI it may only order slice, row"),
        (IMAGE | {"spacing": "1 1"}, r"NIfTI carries it: leave it empty"),
        (IMAGE | {"centred": "yes"}, r"centred and wrapped are for k-space: leave"),
        (IMAGE | {"lesion": "m.npy"}, r"lesion is no NIfTI file as the image is"),
        (IMAGE | {"lesion": "x.nii"}, r"folder/x.nii is missing: put it there"),
        (IMAGE | {"file": "d.h5"}, r"axes is empty, and files of HDF5 do not say"),
        (IMAGE | {"file": "f.npy", "axes": "row column", "spacing": "0,9 x 0,9"},
         r"spacing is '0,9 x 0,9', expected mm, such as '0.9 x 0.9'"),
        (IMAGE | {"file": "f.npy", "axes": "row column", "spacing": "0 x 1"},
         r"spacing is '0 x 1', expected mm"),
        (IMAGE | {"file": "c.mat", "axes": "row column", "sens_key": "S"},
         r"sens_key and sens_axes go together"),
        (IMAGE | {"file": "c.mat", "axes": "row column", "sens_key": "S",
                  "sens_axes": "row column"}, r"sens_axes has no coil"),
        (IMAGE | {"file": "c.mat", "axes": "row column coil", "sens_key": "S",
                  "sens_axes": "row column coil"}, r"axes has coil, and sens_key"),
    ],
)  # fmt: skip
def test_wrong_rows_are_refused(local, out, row, message):
    write(local, row)
    refused(out, rf"scans.csv: correct these rows:\nrow 2: .*{message}")


def test_all_problems_are_told_at_once(local, out):
    write(local, KSPACE | {"kind": "raw", "split": "dev"}, IMAGE, {"file": "x.npy"})
    refused(out, r"(?s)row 2: kind is 'raw'.*row 2: split is 'dev'.*row 4: .*x.npy is ")
    write(local, *(KSPACE | {"file": f"{n}.npy", "subject": n} for n in range(23)))
    with pytest.raises(SourceError) as caught:
        fetch(PARAMS, out)
    lines = str(caught.value).splitlines()
    assert len(lines) == 22
    assert lines[1].startswith("row 2: ")
    assert lines[-1] == "and 3 more"


def test_rows_that_are_one_volume(local, out):
    again = KSPACE | {"file": "f.npy"}
    write(local, KSPACE, IMAGE, again)
    refused(out, r"row 4: row 2 is T1w of p1 too: remove one, or .*'repetition'")
    write(local, KSPACE | {"repetition": "1"}, again | {"repetition": "01"})
    refused(out, r"row 3: row 2 is T1w of p1 too")
    write(
        local, KSPACE | {"repetition": "1"}, again | {"repetition": 2, "split": "val"}
    )
    refused(out, r"row 3: split is 'val', and row 2, a repetition of it, has ''")
    write(local, KSPACE, KSPACE | {"subject": "p9"})
    refused(out, r"row 3: a.npy is in row 2 already: remove one")
    write(local, KSPACE, again | {"repetition": "0"})
    assert len(fetch(PARAMS, out).names) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", r"column missing: 'file', 'kind', 'subject', 'contrast'; the first row"),
        (b"file,kind,subject,contrast\n,,,\n", r"has no row below its header: add one"),
        (b"file,kind,subject\na,b,c", r"scans.csv: column missing: 'contrast'"),
        (b"file,kind,subject,contrast,TE\n", r"column unknown: 'te'; .*sens_key"),
        (b"file,kind,subject,contrast,File\n", r"column twice: 'file'"),
        (b"file\tkind\tsubject\tcontrast\n", r"unknown: .*by commas or semicolons"),
        (b"file,kind,subject,contrast,axes\na.npy,kspace,p,T1w,slice,row,column\n",
         r"row 2 has 7 cells, the header 5: quote a cell that holds ','"),
        (b'file,kind,subject,contrast\n"a.npy,kspace,p,T1w\n', r"is no CSV \(.*\)"),
        ("file,kind,subject,contrast\na.npy,kspace,Jörg,T1w".encode("latin-1"),
         r"scans.csv is not UTF-8: save it as 'CSV UTF-8'"),
    ],
)  # fmt: skip
def test_tables_that_are_none(local, out, text, message):
    (local / "scans.csv").write_bytes(text)
    refused(out, message)


def test_places(local, out, monkeypatch):
    refused(out, r"folder/scans.csv is missing: write a table with the columns file, ")
    with pytest.raises(SourceError, match=r"'download.folder.table' = '../t.csv'"):
        fetch(Params(table="../t.csv"), out)
    with pytest.raises(SourceError, match=r"overlap: keep your files somewhere else"):
        fetch(PARAMS, local / "raw")
    with pytest.raises(SourceError, match=r"overlap"):
        fetch(PARAMS, local)
    monkeypatch.setenv("MENDMRI_LOCAL", str(local))
    with pytest.raises(SourceError, match=r"no own files: write scans.csv, .*put it"):
        fetch(PARAMS, out)
    (local / "folder").touch()
    with pytest.raises(SourceError, match=r"folder is no folder: unpack it"):
        fetch(PARAMS, out)


def test_parameters():
    with pytest.raises(ValidationError, match="table"):
        Params()
    with pytest.raises(ValidationError, match="at least 1"):
        Params(table="")


def test_it_starts_fast():
    code = (
        "import sys, stages.download.folder\n"
        "print(sorted({'nibabel', 'pandas', 'scipy', 'torch'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    found = subprocess.run(
        command, cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert found.stdout == "[]\n"
