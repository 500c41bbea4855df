"""A record of Zenodo with archives of M4Raw, as small as they can be."""

import hashlib
import io
import json
import random
import zipfile
from pathlib import Path

from stages.download import m4raw
from stages.download.base import settle
from tests.download.http_server import FileServer

RECORD = 8056074
RAW = Path("data/raw/m4raw")
SUBJECTS = ("2022061001", "2022061002", "2022061003")
CONTRASTS = ("FLAIR01", "T101", "T201")
ARCHIVES = {
    "M4RawV1.5_multicoil_train.zip": "multicoil_train/",
    "M4RawV1.5_multicoil_val.zip": "multicoil_val/",
    "M4RawV1.5_motion.zip": "motion/inter-scan_motion/",
}
VAL = [f"multicoil_val/{s}_{c}.h5" for s in SUBJECTS for c in CONTRASTS]


def scan(name: str) -> bytes:
    return random.Random(name).randbytes(20_000)


def make_zip(folder: str, *strange: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(folder, b"")
        archive.writestr(f"{folder}dataset_descriptor.json", b"{}")
        # Not in their order: the first subjects are those by number.
        for subject in reversed(SUBJECTS):
            for contrast in CONTRASTS:
                name = f"{folder}{subject}_{contrast}.h5"
                archive.writestr(name, scan(name))
        for name in strange:
            archive.writestr(folder + name, b"?")
    return buffer.getvalue()


def publish(server: FileServer, archives: dict[str, bytes], **top: object) -> None:
    """Serve archives and a record that lists them."""
    files = []
    for name, data in archives.items():
        checksum = f"md5:{hashlib.md5(data, usedforsecurity=False).hexdigest()}"
        url = server.serve(f"/{name}", data)
        links = {"self": url}
        files.append(
            {"key": name, "size": len(data), "checksum": checksum, "links": links}
        )
    content = {"id": RECORD, "files": files, **top}
    server.serve(f"/records/{RECORD}", json.dumps(content).encode())


def fetch(*sets: str, subjects: int | None = None) -> list[str]:
    params = m4raw.Params(record=RECORD, sets=sets, subjects=subjects)
    fetched = m4raw.fetch(params, RAW)
    settle(RAW, fetched)
    assert all((RAW / name).is_file() for name in fetched.names)
    return list(fetched.names)
