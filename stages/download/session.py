"""HTTP with retries: what `transfer` is made of.

`transfer` imports this file where it needs it, as `requests` is slow to import.
"""

import logging
import re
from collections.abc import Iterator, Mapping
from functools import cache
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from stages.download import moving
from stages.download.base import SourceError
from stages.download.moving import TRIES, shown

LONGEST_RETRY_AFTER = 900
# To connect, and between two blocks of an answer.
TIMEOUT = (20.0, 60.0)
BY_HAND = "or download it by hand and give it as a local copy (data/local)"

_BLOCK = 2**18
_TEMPORARY = (429, 500, 502, 503, 504)

log = logging.getLogger("mendmri")


class DroppedError(ConnectionError):
    """A connection ended before the answer did."""


class _Patience(Retry):
    """Tells of its waiting: minutes of silence look like a hang."""

    def sleep(self, response: BaseHTTPResponse | None = None) -> None:
        if response is None:
            log.info("no answer: trying again, %d tries left", int(self.total or 0) + 1)
        super().sleep(response)

    def sleep_for_retry(self, response: BaseHTTPResponse) -> bool:
        seconds = self.get_retry_after(response)
        if seconds and seconds > 1:
            log.info("the server asks to wait %.0f s (%d)", seconds, response.status)
        return super().sleep_for_retry(response)


@cache
def session() -> requests.Session:
    """The process's connections: retries, back-off and user agent."""
    patience = _Patience(
        total=TRIES - 1,
        backoff_factor=moving.BACKOFF_SECONDS,
        backoff_max=moving.LONGEST_BACKOFF,
        status_forcelist=_TEMPORARY,
        raise_on_status=False,
        retry_after_max=LONGEST_RETRY_AFTER,
    )
    # Its warnings hold whole URLs, of which the query may be a secret.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    made = requests.Session()
    made.headers["User-Agent"] = "MendMRI"
    # Files count as the server stores them: a body in another encoding cannot resume.
    made.headers["Accept-Encoding"] = "identity"
    for scheme in ("https://", "http://"):
        made.mount(scheme, HTTPAdapter(max_retries=patience))
    return made


def get(url: str, headers: Mapping[str, str] | None = None) -> requests.Response:
    """Ask for a URL; the body is still to be read, the status to be looked at.

    Raises:
        SourceError: no answer after all tries, or a URL that is not http or https.
    """
    scheme = urlsplit(url).scheme
    if scheme not in ("http", "https"):
        raise SourceError(f"{url}: '{scheme}' is not a scheme: use https or http")
    try:
        answer = session().get(url, headers=headers, stream=True, timeout=TIMEOUT)
    except requests.RequestException as error:
        raise SourceError(
            f"{shown(url)}: no answer ({_reason(error)}): check the network and run "
            f"again, {BY_HAND}"
        ) from None
    if scheme == "https" and urlsplit(answer.url).scheme != "https":
        answer.close()
        raise SourceError(
            f"{shown(url)}: https leads to {shown(answer.url)} without encryption: "
            "use the publisher's present URL"
        )
    return answer


def expect(answer: requests.Response, url: str, *statuses: int) -> None:
    """Refuse every other status.

    Raises:
        SourceError: with the status and what it means.
    """
    status = answer.status_code
    if status in statuses:
        return
    answer.close()
    if status in (401, 403):
        remedy = f"it needs a login or the link has expired: renew the link, {BY_HAND}"
    elif status in (404, 410):
        remedy = f"it has moved: look for it on the publisher's page, {BY_HAND}"
    elif status in _TEMPORARY:
        remedy = f"{TRIES} tries: run again later, {BY_HAND}"
    else:
        remedy = f"run again later, {BY_HAND}"
    raise SourceError(f"{shown(url)}: status {_named(status)}: {remedy}")


def blocks(answer: requests.Response) -> Iterator[bytes]:
    """Pass a body on, undecoded.

    Raises:
        DroppedError: the connection ended first.
    """
    while block := read_some(answer.raw, _BLOCK):
        yield block


def too_often(url: str) -> SourceError:
    """The error after the last try."""
    return SourceError(
        f"{shown(url)}: the connection dropped {TRIES} times: run again to go on, "
        f"{BY_HAND}"
    )


def validator(answer: requests.Response) -> str | None:
    """What names this version of a file to `If-Range`: no weak ETag may."""
    etag = answer.headers.get("ETag")
    if etag and not etag.startswith("W/"):
        return etag
    return answer.headers.get("Last-Modified")


def content_range(answer: requests.Response) -> tuple[int, int] | None:
    """First byte of a partial answer and length of the whole; None if unclear."""
    _unit, _, text = answer.headers.get("Content-Range", "").partition(" ")
    span, _, total = text.partition("/")
    first = span.partition("-")[0]
    if not (first.isdecimal() and total.isdecimal()):
        return None
    return int(first), int(total)


def read_some(raw: BaseHTTPResponse, size: int) -> bytes:
    """Read at most `size` bytes of a body, undecoded.

    Raises:
        DroppedError: the connection ended first.
    """
    try:
        return raw.read(size, decode_content=False)
    except (HTTPError, OSError) as error:
        raise DroppedError(_reason(error)) from None


def _named(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _reason(error: BaseException) -> str:
    """The innermost cause in a few words, without addresses of objects or queries."""
    inner: Any = error
    while True:
        cause = getattr(inner, "reason", None) or (inner.args or (None,))[0]
        if not isinstance(cause, BaseException):
            break
        inner = cause
    text = re.sub(r"^.*[>)]: ", "", str(inner)) or type(inner).__name__
    return text.partition(" with url:")[0]
