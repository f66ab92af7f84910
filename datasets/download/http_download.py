"""One address to one path: resumed, retried with growing pauses, verified, and complete or not there at all.

While it grows a file is called `<name>.part`, with `<name>.part.json` beside it that remembers where it comes from.
A later run continues it with an HTTP range request, unless the file on the server has changed meanwhile. Standard
library only, so that the downloader runs before anything is installed. Proxies are those of the environment
(`https_proxy`, `no_proxy`).
"""

import contextlib
import hashlib
import http.client
import json
import os
import random
import re
import ssl
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from oscar_paddle.config.errors import UserError
from oscar_paddle.datasets.download.progress import show_size

_CHUNK = 1 << 20
_PROGRESS = 1 << 20  # an attempt that brought this many new bytes starts the count of failures again
_LONGEST_PAUSE = 60.0
_LONGEST_ASKED_PAUSE = 120.0  # what a server may ask for with Retry-After
_WORTH_ANOTHER_TRY = {408, 425, 429, 500, 502, 503, 504}


class DownloadError(UserError):
    """A file cannot be had.

    Args:
        status: HTTP status, if one is the reason.
        unreachable: no server answered at all.
        gave_up: another attempt may succeed.
    """

    def __init__(self, message, status=None, unreachable=False, gave_up=False):
        super().__init__(message)
        self.status, self.unreachable, self.gave_up = status, unreachable, gave_up


class _TryAgain(Exception):
    """This attempt failed, the next may not. `pause` is what the server asked for, in seconds."""

    def __init__(self, message, pause=None, status=None, unreachable=False):
        super().__init__(message)
        self.pause, self.status, self.unreachable = pause, status, unreachable


class Downloader:
    """Reads from HTTP, HTTPS and `file:` addresses.

    Args:
        retries: further attempts after one that brought nothing new.
        backoff: seconds before the second attempt; doubled for each further one, up to a minute.
        timeout: seconds without a byte after which a connection counts as dropped.
        query: appended to every address after "?", for storage that wants an access string; never shown.
        tell: called with a line of text before each further attempt.
    """

    def __init__(self, retries=5, backoff=1.0, timeout=60.0, query="", tell=print):
        self.retries, self.backoff, self.timeout = retries, backoff, timeout
        self._query = query.lstrip("?")
        self.tell = tell
        self._opener = urllib.request.build_opener(_CarefulRedirects())

    def size(self, address):
        """Bytes that the server says the file has; None where it does not say.

        Raises:
            DownloadError: the file is not there, is refused, or no server answers.
        """
        return self._persist(address, lambda: self._size(address))

    def fetch(self, address, path, size=None, sha256=None, on_bytes=lambda have, total: None):
        """Downloads a file to `path`, going on with `path + ".part"` if there is one.

        Args:
            size: bytes the file must have; None = what the server says.
            sha256: 64 hex digits it must have; None = not checked.
            on_bytes: called with the bytes there are and the total (or None).
        Returns:
            str, what it was verified by: "sha256", "size" or "nothing" (the server told no size).
        Raises:
            DownloadError: it cannot be had, cannot be written, or is not what it should be. Except in the last case
                what has arrived is kept for the next run.
        """
        part = path + ".part"
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        total = self._persist(address, lambda: self._attempt(address, part, size, on_bytes), part)
        if sha256:
            found = file_sha256(part, on_bytes)
            if found != sha256.lower():
                os.replace(part, path + ".rejected")
                _remove(part + ".json")
                raise DownloadError(
                    f"{address}: sha256 is {found}; expected {sha256.lower()} (kept as {path}.rejected; delete it, "
                    "or correct the checksum list)"
                )
        os.replace(part, path)
        _remove(part + ".json")
        return "sha256" if sha256 else "nothing" if total is None else "size"

    def _persist(self, address, attempt, part=None):
        """Runs an attempt until it succeeds, fails for good, or has failed too often without bringing anything new."""
        failures, best = 0, _size_of(part)
        while True:
            try:
                return attempt()
            except _TryAgain as problem:
                have = _size_of(part)
                # Only new ground counts: a server that always starts over and always drops must not go on for ever.
                if have >= best + _PROGRESS:
                    failures, best = 0, have
                failures += 1
                if failures > self.retries:
                    tries = "1 attempt" if failures == 1 else f"{failures} attempts in a row"
                    raise DownloadError(
                        f"{address}: {problem}; gave up after {tries}",
                        status=problem.status,
                        unreachable=problem.unreachable,
                        gave_up=True,
                    ) from None
                pause = min(_LONGEST_PAUSE, self.backoff * 2 ** (failures - 1)) * random.uniform(1.0, 1.25)
                if problem.pause is not None:
                    pause = max(pause, min(problem.pause, _LONGEST_ASKED_PAUSE))
                self.tell(f"{address}: {problem}; attempt {failures + 1} of {self.retries + 1} in {pause:.0f} s")
                time.sleep(pause)

    def _size(self, address):
        try:
            with self._open(address, method="HEAD") as response:
                return _number(response.headers.get("Content-Length"))
        except DownloadError as error:
            if error.status not in (405, 501):  # a server without HEAD
                raise
        with self._open(address, {"Range": "bytes=0-0"}) as response:
            if response.status == 206:
                return _content_range(response.headers)[1]
            return _number(response.headers.get("Content-Length"))

    def _attempt(self, address, part, size, on_bytes):
        """One request; returns the file's size (None = the server told none) when all of it is in `part`."""
        have, origin = _size_of(part), _read_origin(part)
        headers = {}
        if have and origin:
            headers["Range"] = f"bytes={have}-"
            if origin.get("address") == address and origin.get("validator"):
                headers["If-Range"] = origin["validator"]  # the whole file instead, should it have changed
        try:
            response = self._open(address, headers)
        except DownloadError as error:
            if error.status != 416 or not headers:
                raise
            if have == origin.get("size") and size in (None, have):
                return have  # all of it was there already
            _remove(part)
            raise _TryAgain(f"the server has no byte {have} of this file; starting again") from None
        with response:
            start, total = self._where(response, have if headers else 0, origin, part)
            if size is not None and total not in (None, size):
                raise DownloadError(f"{address}: the server's file has {total} bytes; expected {size}")
            _write_origin(part, {"address": address, "size": total, "validator": _validator(response.headers)})
            have = _copy(response, part, start, total, on_bytes)
        if total is not None and have < total:
            raise _TryAgain(f"connection dropped after {show_size(have)} of {show_size(total)}")
        if size is not None and have != size:
            _remove(part)
            raise DownloadError(f"{address}: {have} bytes arrived; expected {size}")
        return total if size is None else size

    def _where(self, response, have, origin, part):
        """Byte the answer starts at, and the size of the whole file (None = not told)."""
        if response.status != 206:
            if have:
                self.tell(f"{part}: the server cannot go on in the middle, or its file has changed; starting again")
            return 0, _number(response.headers.get("Content-Length"))
        start, total = _content_range(response.headers)
        total = origin.get("size") if total is None else total
        if start != have or total != (origin.get("size") or total):
            _remove(part)
            raise _TryAgain(f"bytes {start} on of {total} arrived instead of {have} on of {origin.get('size')}")
        return start, total

    def _open(self, address, headers=None, method="GET"):
        fixed = {"User-Agent": "oscar-paddle-download", "Accept-Encoding": "identity"}
        local = urlsplit(address).scheme == "file"
        query = f"{'&' if '?' in address else '?'}{self._query}" if self._query and not local else ""
        try:
            request = urllib.request.Request(address + query, headers={**fixed, **(headers or {})}, method=method)
            response = self._opener.open(request, timeout=self.timeout)
        except urllib.error.HTTPError as error:
            with error:
                raise _explain(address, error) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            text = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
            if local:
                raise DownloadError(f"{address}: {text}", status=404) from None
            if isinstance(reason, (ssl.SSLCertVerificationError, ValueError, http.client.InvalidURL)):
                raise DownloadError(f"{address}: {text}", unreachable=True) from None
            raise _TryAgain(f"no connection ({text})", unreachable=True) from None
        if local:
            response.code = 200  # urllib gives local files none
        kind, packing = response.headers.get("Content-Type", ""), response.headers.get("Content-Encoding", "identity")
        if not local and (kind.startswith("text/html") or packing != "identity"):
            response.close()
            what = f"the file as {packing}" if packing != "identity" else f"a web page ({kind})"
            raise DownloadError(f"{address}: the server sent {what} instead of the plain file", response.status)
        return response


class _CarefulRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, request, response, code, message, headers, address):
        new = super().redirect_request(request, response, code, message, headers, address)
        allowed = {"https"} if urlsplit(request.full_url).scheme == "https" else {"http", "https"}
        if urlsplit(address).scheme not in allowed:
            start = request.full_url.partition("?")[0]
            raise DownloadError(f"{start}: refused to follow the server from there to {address.partition('?')[0]}")
        if new is not None:
            new.method = request.get_method()  # Python before 3.13 turns HEAD into GET
        return new


def file_sha256(path, on_bytes=lambda have, total: None):
    """The sha256 of a file, as 64 hex digits.

    Args:
        on_bytes: called with the bytes read so far and the total.
    """
    digest, have, total = hashlib.sha256(), 0, os.path.getsize(path)
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            have += len(chunk)
            on_bytes(have, total)
    return digest.hexdigest()


def _copy(response, part, start, total, on_bytes):
    """Appends the answer to `part` from `start` on; returns the size reached. A dropped connection ends it early."""
    have = start
    try:
        with open(part, "ab" if start else "wb", buffering=_CHUNK) as out:
            on_bytes(have, total)
            while chunk := _read(response):
                out.write(chunk)
                have += len(chunk)
                on_bytes(have, total)
            out.flush()
            os.fsync(out.fileno())
    except OSError as error:
        missing = "" if total is None else f"; {show_size(total - start)} more had to fit"
        raise DownloadError(
            f"{part}: cannot write: {error.strerror}{missing}; what fits is kept, the same command goes on from there"
        ) from None
    return have


def _read(response):
    """The bytes that have arrived; empty at the end, or when the connection is gone."""
    # read1 hands out what there is; read would lose what came before a connection breaks.
    try:
        return response.read1(_CHUNK)
    except http.client.HTTPException:
        raise _TryAgain("connection dropped in the middle") from None
    except OSError as error:
        raise _TryAgain(f"connection dropped ({error.strerror or error})") from None


def _explain(address, error):
    """The exception for an HTTP status, with the storage's own words."""
    code, message = error.headers.get("x-ms-error-code", ""), " ".join(str(error.reason).split())
    with contextlib.suppress(OSError, http.client.HTTPException):
        body = error.read(1 << 16).decode("utf-8", "replace")
        found = re.search(r"<Code>([^<]{1,80})</Code>", body)
        code = code or (found[1] if found else "")
    text = f"HTTP {error.code} {message}" + (f" ({code})" if code and code not in message else "")
    if error.code in _WORTH_ANOTHER_TRY:
        return _TryAgain(text, pause=_number(error.headers.get("Retry-After")), status=error.code)
    return DownloadError(f"{address}: {text}", status=error.code)


def _content_range(headers):
    """(first byte, size of the whole file) of a partial answer; size None where it says "*"."""
    found = re.fullmatch(r"\s*bytes\s+(\d+)-\d+/(\d+|\*)\s*", headers.get("Content-Range", ""))
    if not found:
        raise _TryAgain(f"the server's Content-Range is {headers.get('Content-Range')!r}")
    return int(found[1]), _number(found[2])


def _validator(headers):
    """What tells one version of the file from another in If-Range: a strong ETag, else the date; "" if neither."""
    etag = headers.get("ETag", "")
    return etag if etag.startswith('"') else headers.get("Last-Modified", "")


def _number(text):
    return int(text) if text and text.strip().isdecimal() else None


def _size_of(part):
    return os.path.getsize(part) if part and os.path.exists(part) else 0


def _read_origin(part):
    try:
        with open(part + ".json", encoding="utf-8") as file:
            origin = json.load(file)
    except (OSError, ValueError):
        return {}
    return origin if isinstance(origin, dict) and isinstance(origin.get("validator"), str) else {}


def _write_origin(part, origin):
    try:
        with open(part + ".json", "w", encoding="utf-8") as file:
            json.dump(origin, file)
    except OSError as error:
        raise DownloadError(f"{part}.json: cannot write: {error.strerror}") from None


def _remove(path):
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)
