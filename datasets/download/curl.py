"""Files from HTTP, HTTPS and `file:` addresses by `curl`, which follows the proxy variables. Standard library only."""

import email
import os
import subprocess
import sys
import tempfile
import time

from oscar_paddle.config.errors import UserError
from oscar_paddle.datasets.download.unpacking import size_of

_PROGRESS = 1 << 20  # an attempt that brought this many new bytes starts the count of failures again
_PASSING_STATUS = {408, 425, 429, 500, 502, 503, 504}
# Name not found, no connection, HTTP/2 trouble, cut short, silence, TLS broken off, nothing sent, lost in the middle.
_PASSING_CODES = {5, 6, 7, 16, 18, 28, 35, 52, 55, 56, 92}
_NO_RANGE, _NO_LOCAL_FILE = 33, 37


class DownloadError(UserError):
    """A file cannot be had; `status` is HTTP's (0 = none), `passing` whether another attempt may succeed."""

    def __init__(self, message, status, passing):
        super().__init__(message)
        self.status, self.passing = status, passing
        self.unreachable = passing and not status


class Curl:
    """The options of all transfers.

    Args:
        retries: further attempts after one that brought nothing new.
        backoff: seconds before the second attempt; doubled for each further one, up to a minute.
        timeout: seconds without a byte after which a connection counts as dropped.
        query: appended to every address after "?", for storage that wants an access string; never shown.
    """

    def __init__(self, *, retries, backoff, timeout, query=""):
        self.retries, self.backoff, self.timeout, self._query = retries, backoff, timeout, query.lstrip("?")

    def size(self, address):
        """(bytes, ETag or date) that the server gives a file; None and "" for what it does not tell."""
        headers = self._persist(lambda: self._run(address, "--head", "--silent", "--show-error"))
        size, tag = headers.get("content-length", ""), headers.get("etag", "")
        # A weak ETag does not promise the same bytes.
        return int(size) if size.isdecimal() else None, tag if tag[:1] == '"' else headers.get("last-modified", "")

    def fetch(self, address, part, size, version):
        """Downloads a file whose size and version `size` has told to the path `part`, going on with what is there."""
        os.makedirs(os.path.dirname(part), exist_ok=True)
        self._persist(lambda: self._attempt(address, part, size, version), part)

    def _persist(self, attempt, part=""):
        """Runs an attempt until it succeeds, fails for good, or has failed too often without bringing anything new."""
        # Not by curl's own --retry, which throws away what an attempt has brought.
        failures, best = 0, size_of(part)
        while True:
            try:
                return attempt()
            except DownloadError as error:
                # Only new ground counts: a server that always starts over and always drops must not go on for ever.
                if size_of(part) >= best + _PROGRESS:
                    failures, best = 0, size_of(part)
                failures += 1
                if not error.passing or failures > self.retries:
                    error.args = (f"{error}; gave up after attempt {failures}" if error.passing else str(error),)
                    raise
                pause = min(60, self.backoff * 2 ** (failures - 1))
                print(f"{error}; attempt {failures + 1} of {self.retries + 1} in {pause:g} s", file=sys.stderr)
            time.sleep(pause)

    def _attempt(self, address, part, size, version):
        have = size_of(part)
        # The bar is for terminals: a log file is better off without.
        options = ["--fail", *(["--progress-bar"] if sys.stderr.isatty() else ["--silent", "--show-error"])]
        if have:
            options += ["--continue-at", str(have)]
        if have and version:  # the whole file instead, should it have changed meanwhile
            options += ["--header", f"If-Range: {version}"]
        try:
            if not have or have != size:
                with open(part, "ab") as out:
                    self._run(address, *options, out=out)
        except OSError as error:
            hint = "what fits is kept, the same command goes on from there"
            raise UserError(f"{part}: cannot write: {error.strerror}; {hint}") from None
        except DownloadError as error:
            if not have or error.status != 416:
                raise
            os.remove(part)
            problem = "the server cannot go on in the middle, or its file has changed; starting again"
            raise DownloadError(f"{address}: {problem}", 416, passing=True) from None
        if size not in (None, have := size_of(part)):
            os.remove(part)
            raise UserError(f"{address}: {have} bytes arrived; expected {size}")

    def _run(self, address, *options, out=None):
        """Runs curl once, writes what it brings into the file `out`, and returns the headers of the last answer."""
        query = f"?{self._query}" if self._query and not address.startswith("file:") else ""
        schemes = "=https" if address.startswith("https:") else "=http,https"  # never gives up encryption
        command = [
            "curl",
            "--disable",
            "--globoff",
            "--location",
            "--proto",
            "=http,https,file",
            "--proto-redir",
            schemes,
        ]
        command += ["--connect-timeout", str(self.timeout), "--speed-limit", "1"]
        command += ["--speed-time", str(max(1, round(self.timeout))), *options, address + query]
        with tempfile.NamedTemporaryFile("r", errors="replace") as head:
            # Through a pipe, not to a file: a curl that outlives us (kill -9) must not write where the next run does.
            with subprocess.Popen([*command, "--dump-header", head.name], stdout=subprocess.PIPE) as curl:
                try:
                    while chunk := curl.stdout.read1(1 << 20):
                        if out:
                            out.write(chunk)
                except BaseException:
                    curl.kill()
                    raise
            answer = head.read().strip().split("\n\n")[-1]  # those before it are redirects
        first, _, rest = answer.partition("\n") if answer.startswith("HTTP/") else ("", "", answer)
        headers, code = email.message_from_string(rest), curl.returncode
        status = {_NO_RANGE: 416, _NO_LOCAL_FILE: 404}.get(code) or int(first[9:12] or 0)
        if status >= 400:
            text, why = f"HTTP {first.partition(' ')[2]}" if first else "no such file", headers.get("x-ms-error-code")
            text += f" ({why})" if why else ""
            raise DownloadError(f"{address}: {text}", status, status in _PASSING_STATUS)
        if code:
            what = "failed" if code not in _PASSING_CODES else "connection dropped" if status else "no connection"
            raise DownloadError(f"{address}: {what} (curl error {code}, see above)", status, code in _PASSING_CODES)
        if headers.get_content_type() == "text/html" or headers.get("content-encoding", "identity") != "identity":
            what = "a web page or a packed file"
            raise DownloadError(f"{address}: the server sent {what} instead of the plain file", 0, passing=False)
        return headers
