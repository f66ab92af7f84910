"""What to tell a person whose download failed: what, where, why, and what to try. Standard library only."""

import shlex

from oscar_paddle.datasets.download.http_download import DownloadError
from oscar_paddle.datasets.download.official_files import STORAGE

_REFUSED = """The storage refuses public access, to everybody (github.com/microsoft/Oscar/issues/205). What to try:
  --mirror PREFIX  a copy of the files under the same paths, on a server or in a folder
  --query STRING   an access string, if the authors have given you one
  azcopy           {azcopy}
                   (with an account or access string that the storage accepts)
  or put files you have from elsewhere at the places above and run this again: they are checked and used"""
_MISSING = """Not at this address; the authors may have moved it. What to try:
  --mirror PREFIX  a copy of the files under the same paths, on a server or in a folder
  azcopy           {azcopy}"""
_UNREACHABLE = """No server was reached: check the network and the proxy variables (https_proxy, no_proxy), then give
the same command again, which goes on where it was; or try --mirror PREFIX with another server or a folder."""
_DROPPED = "Give the same command again: it goes on where it was. --retries N tries longer at a time."


def failure_report(failures):
    """The text for files that failed; equal failures are told once.

    Args:
        failures: list of (Item, UserError).
    Returns:
        str, several lines: for each kind of failure an address, the status and what to try.
    """
    groups = {}
    for item, error in failures:
        groups.setdefault(_kind(error), []).append((item, error))
    return "\n\n".join([*(_paragraph(group) for group in groups.values()), f"{len(failures)} files missing or wrong"])


def _kind(error):
    if isinstance(error, DownloadError) and (error.status or error.unreachable):
        return error.status, error.unreachable
    return str(error)


def _paragraph(group):
    item, error = group[0]
    more = f" (and {len(group) - 1} more likewise)" if len(group) > 1 else ""
    lines = [f"error: {error}{more}"]
    if isinstance(error, DownloadError):
        notes = [item.file.note for item, _ in group if item.file.note and error.status == 404]
        lines += [f"Known trouble: {note}." for note in notes]
        command = shlex.join(["azcopy", "copy", f"{STORAGE}/{item.file.address}", item.path])
        lines += [_advice(error).format(azcopy=command)]
    return "\n".join(filter(None, lines))


def _advice(error):
    if error.unreachable:
        return _UNREACHABLE
    if error.status in (401, 403, 409):
        return _REFUSED
    if error.status in (404, 410):
        return _MISSING
    return _DROPPED if error.gave_up else ""
