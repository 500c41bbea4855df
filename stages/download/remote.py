"""Read a zip on a server by ranges.

`transfer` imports this file where it needs it, as `requests` is slow to import.
"""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from remotezip import RangeNotSupported, RemoteFetcher, RemoteZip, RemoteZipError
from urllib3 import BaseHTTPResponse

from stages.download import session
from stages.download.base import SourceError
from stages.download.moving import TRIES, pause, shown

_NO_RANGES = (
    "the server hands out whole files only, no parts of an archive: download the "
    "archive by hand and give it as a local copy (data/local)"
)
_UNKNOWN = (-1, None)


@contextmanager
def open_zip(url: str) -> Iterator[zipfile.ZipFile]:
    """Open a zip of a server by its table of contents.

    Raises:
        SourceError: it cannot be had, is damaged, or comes whole only.
    """
    archive = _open_with_tries(url)
    file: Any = archive.fp
    try:
        with archive:
            yield archive
    finally:
        file.close()


def _open_with_tries(url: str) -> RemoteZip:
    for failures in range(1, TRIES + 1):
        try:
            return RemoteZip(url, fetcher=_Fetcher, support_suffix_range=False)
        except RangeNotSupported:
            raise SourceError(f"{shown(url)}: {_NO_RANGES}") from None
        except zipfile.BadZipFile as error:
            raise SourceError(
                f"{shown(url)}: no zip archive ({error}): look for the file on the "
                f"publisher's page, {session.BY_HAND}"
            ) from None
        except (RemoteZipError, session.DroppedError):
            if failures < TRIES:
                pause(failures)
    raise session.too_often(url)


class _Fetcher(RemoteFetcher):
    """Reads ranges of one version of a remote file through our session."""

    def __init__(self, url: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(url, *args, **kwargs)
        self._version: tuple[int, str | None] = _UNKNOWN

    def get_file_size(self) -> int:
        """Ask for one byte: HEAD does not tell whether ranges are served."""
        body, _range = self._request({"headers": {"Range": "bytes=0-0"}})
        body.close()
        return self._version[0]

    def _request(self, kwargs: dict[str, Any]) -> tuple["_Body", str]:
        asked = kwargs["headers"]["Range"]
        answer = session.get(self._url, {"Range": asked})
        session.expect(answer, self._url, 200, 206)
        span = session.content_range(answer)
        start = int(asked.removeprefix("bytes=").partition("-")[0])
        if answer.status_code == 200 or span is None or span[0] != start:
            answer.close()
            raise RangeNotSupported(_NO_RANGES)
        version = span[1], session.validator(answer)
        if self._version not in (_UNKNOWN, version):
            answer.close()
            raise SourceError(
                f"{shown(self._url)}: changed on the server while it was read: "
                "run again"
            )
        self._version = version
        return _Body(answer.raw), answer.headers["Content-Range"]


class _Body:
    """A body that is never read on after its connection dropped."""

    def __init__(self, raw: BaseHTTPResponse) -> None:
        self._raw = raw
        self._dropped = False

    @property
    def closed(self) -> bool:
        return self._raw.closed

    def read(self, size: int) -> bytes:
        # `zipfile` takes a short answer for a damaged archive: it gets all or an error.
        data = b""
        try:
            while len(data) < size and (
                more := session.read_some(self._raw, size - len(data))
            ):
                data += more
        except session.DroppedError:
            self._dropped = True
            raise
        return data

    def tell(self) -> int:
        # Behind every position: `remotezip` then asks for the range anew.
        return 2**63 if self._dropped else self._raw.tell()

    def close(self) -> None:
        self._raw.close()

    def release_conn(self) -> None:
        self._raw.release_conn()
