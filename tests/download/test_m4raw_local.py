"""M4Raw out of local copies, and its parameters."""

import io
import re
import shutil
import zipfile
from pathlib import Path

import pytest

from stages.common.params import ParamsError, validate
from stages.download import m4raw
from stages.download.base import SourceError
from tests.download.m4raw_archives import RAW, RECORD, VAL, fetch, make_zip, scan
from tests.download.packing import pack


@pytest.mark.parametrize("wrong", [{"sets": []}, {"sets": ["all"]}, {"subjects": 0}])
def test_parameters(wrong: dict[str, object]) -> None:
    right = {"record": RECORD, "sets": ["val"], "subjects": None}
    validate(right, "download.m4raw", m4raw.Params)
    key = next(iter(wrong))
    with pytest.raises(ParamsError, match=rf"'download\.m4raw\.{key}"):
        validate({**right, **wrong}, "download.m4raw", m4raw.Params)
    del right[key]
    with pytest.raises(ParamsError, match=rf"m4raw\.{key}' is missing"):
        validate(right, "download.m4raw", m4raw.Params)


LAYOUTS = {
    "flat": "multicoil_{0}/",
    "deep": "disk/M4RawV1.5_multicoil_{0}/multicoil_{0}/",
    "ends": "M4RawV1.5_multicoil_{0}/",
    "zips": "",
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_local_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    monkeypatch.delenv("MENDMRI_LOCAL", raising=False)
    monkeypatch.chdir(tmp_path)
    local = Path("data/local/m4raw")
    local.mkdir(parents=True)
    for name in ("val", "train"):
        archive = zipfile.ZipFile(io.BytesIO(make_zip(f"multicoil_{name}/", "._a.h5")))
        if layout == "zips":
            members = {n: archive.read(n) for n in archive.namelist() if n[-1] != "/"}
            pack(local / f"M4RawV1.5_multicoil_{name}.zip", members)
            continue
        for member in archive.namelist()[1:]:
            file = local / LAYOUTS[layout].format(name) / member.partition("/")[2]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(archive.read(member))
    assert fetch("val", subjects=2) == VAL[:6]
    assert (RAW / VAL[4]).read_bytes() == scan(VAL[4])
    assert fetch("val") == VAL
    assert not (RAW / "record.json").exists()
    with pytest.raises(
        SourceError,
        match=re.escape(
            "holds no gre_data/ of M4Raw, but multicoil_train, multicoil_val: add it, "
            "or take 'gre' out of download.m4raw.sets"
        ),
    ):
        fetch("val", "gre")


def test_local_motion_and_nothing_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MENDMRI_LOCAL", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    tree = tmp_path / "m4raw/M4RawV1.5_motion/motion"
    for kind in ("inter", "intra"):
        (tree / f"{kind}-scan_motion").mkdir(parents=True)
        (tree / f"{kind}-scan_motion/2022061401_T101.h5").write_bytes(kind.encode())
    assert fetch("motion") == [
        "motion/inter-scan_motion/2022061401_T101.h5",
        "motion/intra-scan_motion/2022061401_T101.h5",
    ]
    shutil.rmtree(tree)
    (tmp_path / "m4raw/multicoil_val").mkdir()
    (tmp_path / "m4raw/multicoil_val/file1000033.h5").write_bytes(b"")
    with pytest.raises(SourceError, match=r"nothing that 'm4raw' takes: .*_T101\.h5"):
        fetch("val")
