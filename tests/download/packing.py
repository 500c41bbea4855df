"""Archives as others make them, for tests."""

import io
import random
import tarfile
import zipfile
from pathlib import Path

Files = dict[str, bytes]
BRAIN = random.Random(0).randbytes(50_000)
SCAN = random.Random(1).randbytes(70_000)
KINDS = ["zip", "tar", "tar.gz", "tgz", "tar.xz", "tar.bz2"]
FILES = {
    "./Fälle 1/Gehirn größe.nii.gz": BRAIN,
    "./Fälle 1/scan.nii.gz": SCAN,
    "./Fälle 1/._scan.nii.gz": b"Apple",
    "__MACOSX/Fälle 1/other.nii.gz": b"Apple",
    "./notes.txt": b"notes",
    "empty.nii.gz": b"",
}
TAKEN = ["Fälle 1/Gehirn größe.nii.gz", "Fälle 1/scan.nii.gz", "empty.nii.gz"]


def images(name: str) -> str | None:
    return name if name.endswith(".nii.gz") else None


def flat(name: str) -> str | None:
    return name.rpartition("/")[2] if name.endswith(".nii.gz") else None


def pack(path: Path, files: Files) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return path
    mode = {"gz": "w:gz", "tgz": "w:gz", "xz": "w:xz", "bz2": "w:bz2"}
    with tarfile.open(path, mode.get(path.name.rpartition(".")[2], "w")) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path
