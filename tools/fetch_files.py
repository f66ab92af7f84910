"""Download the files that the authors of Oscar and VinVL published; `download_dataset.sh` runs this.

Runs with `curl` and the standard library alone, before anything is installed.
"""

import argparse
import fcntl
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import types
from functools import partial
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
if __name__ == "__main__":  # what pyproject.toml does once the project is installed
    if sys.version_info < (3, 10):  # noqa: UP036 (nothing has checked it yet)
        sys.exit("download_dataset: Python 3.10 or newer is needed; name one with PYTHON=/path/to/python3")
    root = types.ModuleType("oscar_paddle")
    root.__path__ = [str(REPOSITORY)]
    sys.modules["oscar_paddle"] = root

from oscar_paddle.config.errors import DataError, UserError  # noqa: E402
from oscar_paddle.datasets.download.curl import Curl, DownloadError  # noqa: E402
from oscar_paddle.datasets.download.official_files import CHECKS, PARTS, STORAGE  # noqa: E402
from oscar_paddle.datasets.download.plan import make_plan  # noqa: E402
from oscar_paddle.datasets.download.unpacking import free_space, place_of, show_size, unpack  # noqa: E402
from oscar_paddle.tools.options import OptionParser, Terminated, heeding_sigterm  # noqa: E402

EXAMPLES = """
examples:
  ./download_dataset.sh --what captions vinvl weights --dry-run
  ./download_dataset.sh --what captions vinvl
  ./download_dataset.sh --what weights --only 'pretrained/vinvl_base/checkpoint-1340000/*'
  ./download_dataset.sh --what captions --mirror /mnt/copy --checksums /mnt/copy/SHA256SUMS

An interrupted download goes on where it was when the same command is given again. Files that are in place already,
from wherever you have them, are compared and kept. Exit codes: 0 everything is there, 1 something failed, 2 wrong
arguments."""

TRY = """What to try:
  --mirror PREFIX  a copy of the files under the same paths, on a server or in a folder
  --query STRING   an access string, if the authors have given you one
  azcopy           {azcopy}
  or put files you have from elsewhere at the places above and run this again: they are checked and used"""
REFUSED = f"The storage refuses public access, to everybody (github.com/microsoft/Oscar/issues/205). {TRY}"
MISSING = f"Not at this address; the authors may have moved it. {TRY}"
UNREACHABLE = """No server was reached: check the network and the proxy variables (https_proxy, no_proxy), then give
the same command again, which goes on where it was; or try --mirror PREFIX with another server or a folder."""
DROPPED = "Give the same command again: it goes on where it was. --retries N tries longer at a time."
ADVICE = {401: REFUSED, 403: REFUSED, 409: REFUSED, 404: MISSING, 410: MISSING}


def main(argv=None):
    args = parse_arguments(argv)
    try:
        with heeding_sigterm():
            return run(args)
    except KeyboardInterrupt as stop:
        print("\ndownload_dataset: stopped; the same command goes on from here", file=sys.stderr)
        return 143 if isinstance(stop, Terminated) else 130
    except (UserError, OSError) as error:
        if args.debug:
            raise
        where = getattr(error, "filename", None)  # of an OSError: a folder that cannot be made, for example
        print(f"download_dataset: error: {f'{where}: {error.strerror}' if where else error}", file=sys.stderr)
        return getattr(error, "exit_code", 1)


def parse_arguments(argv=None):
    parts = "\n".join(f"  {name:10} {text}" for name, text in PARTS.items())
    parser = OptionParser(
        prog="download_dataset.sh",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        epilog=EXAMPLES,
        description=f"Downloads what the authors of Oscar and VinVL published, from\n{STORAGE}\n\nparts:\n{parts}",
    )
    add = parser.add_argument
    add("--what", nargs="+", action="extend", required=True, choices=PARTS, metavar="PART", help="one or more parts")
    add("--target", default=str(REPOSITORY / "data"), metavar="DIR", help="folder to fill (default: %(default)s)")
    add("--only", nargs="+", action="extend", default=[], metavar="PATTERN", help="of these, only matching places")
    add("--mirror", metavar="PREFIX", help="http(s)://..., file:///... or a folder, instead of the official prefix")
    add("--query", default="", metavar="STRING", help="access string for the storage, put after '?'; never shown")
    add("--checksums", metavar="FILE", help="expected sums, as sha256sum writes them")
    add("--dry-run", action="store_true", help="list files, sizes and addresses; download nothing")
    add("--retries", type=int, default=5, metavar="N", help="tries after one that brought nothing (default: 5)")
    add("--backoff", type=float, default=1.0, metavar="S", help="seconds before the second try, then doubled")
    add("--timeout", type=float, default=60.0, metavar="S", help="seconds of silence that end a try (default: 60)")
    add("--keep-archives", action="store_true", help="do not delete archives once unpacked")
    add("--no-check", action="store_true", help="do not run tools/check_dataset.py at the end")
    add("--debug", action="store_true", help="show the traceback of an error")
    args = parser.parse_args(argv)
    if args.retries < 0:
        parser.error(f"argument --retries: {args.retries}; expected a number from 0 on")
    if not (0 < args.backoff < 86400 and 0 < args.timeout < 86400):
        parser.error("argument --backoff or --timeout: expected seconds, more than 0 and less than a day")
    return args


def run(args):
    items = make_plan(args.what, args.target, args.mirror, args.only, args.checksums)
    if not shutil.which("curl"):
        raise UserError("no curl here; install it (for example: apt-get install curl) and give the same command again")
    retries = 0 if args.dry_run else args.retries
    curl = Curl(retries=retries, backoff=args.backoff, timeout=args.timeout, query=args.query)
    ask_sizes(items, curl)
    if args.dry_run:
        show_plan(items)
        return 0
    os.makedirs(os.path.join(args.target, "downloads"), exist_ok=True)
    with open(os.path.join(args.target, "downloads", ".lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # it would spoil the files of the first
            raise UserError(f"{args.target}: another download into this folder is running") from None
        check_room(items, args.target)
        failures = fetch_all(items, curl, args.keep_archives)
    if failures:
        print(f"\ndownload_dataset: {failure_report(failures)}", file=sys.stderr)
        return 1
    print(f"{args.target}: everything asked for is there")
    return 0 if args.no_check else check(args.what, args.target)


def ask_sizes(items, curl):
    """Fills in size and version, or the problem, of every item; a server that does not answer is not asked again."""
    silent = None
    for item in items:
        if item.file.routes and item.settled():
            continue
        try:
            if silent:
                raise silent
            item.size, item.version = curl.size(item.address)
        except DownloadError as error:
            # A server without HEAD may still give the file.
            item.problem = error if error.status not in (405, 501) else None
            silent = error if error.unreachable else None


def show_plan(items):
    for part in dict.fromkeys(item.file.part for item in items):
        print(f"{part}: {PARTS[part]}")
        for item in (item for item in items if item.file.part == part):
            guess = f"~{show_size(item.file.about)}" if item.file.about else "unknown"
            notes = ["optional"] * item.file.optional + ["already there"] * item.settled()
            notes += [str(item.problem).removeprefix(f"{item.address}: ")] if item.problem else []
            size, note = (
                guess if item.size is None else show_size(item.size),
                f"  ({'; '.join(notes)})" if notes else "",
            )
            print(f"  {size:>8}  {item.path}  {item.address}{note}")
    print(
        f"{len(items)} files: {_total([item.size or item.file.about or 0 for item in items])}. Nothing was downloaded."
    )


def check_room(items, target):
    to_come = [item.to_come() for item in items if not item.settled() and not item.problem]
    needed, free = sum(to_come), free_space(target)
    print(f"{target}: {len(to_come)} files still to come, {_total(to_come)}; {show_size(free)} free", flush=True)
    if needed > free:
        hint = "choose another --target, or fewer parts with --what or --only"
        raise UserError(f"{target}: {show_size(needed)} needed, but only {show_size(free)} free; {hint}")


def _total(sizes):
    return show_size(sum(sizes)) + (f" and {sizes.count(0)} of unknown size" if 0 in sizes else "")


def fetch_all(items, curl, keep_archives):
    """Gets every file; returns [(item, error)] of those that are needed and failed."""
    failures, silent = [], None
    for number, item in enumerate(items, 1):
        item.problem = item.problem or silent  # do not wait for a silent server again with every further file
        try:
            done = obtain(item, curl, keep_archives)
        except UserError as error:
            silent = error if getattr(error, "unreachable", False) else silent
            done = f"failed: {str(error).removeprefix(f'{item.address}: ')}"
            if item.file.optional and isinstance(error, DownloadError):
                done = "not to be had, but not needed either"
            else:
                failures.append((item, error))
        print(f"[{number}/{len(items)}] {item.path}: {done}", flush=True)
    return failures


def obtain(item, curl, keep_archive):
    """Brings one file, or the content of one archive, into place; returns what was done, in words."""
    if item.file.routes and item.settled():
        return "unpacked already"
    if os.path.exists(item.path):
        done = f"there already, {compare(item, item.path)}"
    elif item.problem:
        raise item.problem
    else:
        item.take_over()
        curl.fetch(item.address, item.part, item.size, item.version)
        done = f"downloaded, {show_size(os.path.getsize(item.part))}, {compare(item, item.part)}"
        os.replace(item.part, item.path)
    if not item.file.routes:
        return done
    print(f"unpacking {item.path}", file=sys.stderr)
    own, kept = unpack(item.path, item.target, partial(place_of, item.file))
    missing = [place for place in item.file.expects if not os.path.isfile(os.path.join(item.target, place))]
    if missing:
        raise DataError(f"{item.path}: unpacked, but it did not hold {', '.join(missing)}")
    # "kept" files may be changed by their owner later; only what is the archive's own is worth a comparison.
    Path(item.record).write_text(json.dumps({"address": item.address, "files": own}, indent=1), encoding="utf-8")
    if not keep_archive:
        os.remove(item.path)
    also = f"; left alone, as they were there and differ: {', '.join(kept)}" if kept else ""
    return f"{done}, {len(own) + len(kept)} files unpacked{also}"


def compare(item, path):
    """Checks a file as far as anything is known about it; returns by what, in words."""
    size, hint = os.path.getsize(path), "delete it to download it again"
    if item.sha256:
        digest = hashlib.sha256()
        with open(path, "rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
        if (found := digest.hexdigest()) != item.sha256:
            hint += ", or correct the checksum list"
            raise UserError(f"{path}: sha256 is {found}; expected {item.sha256}; {hint}")
        return "verified by sha256"
    if item.size not in (None, size):
        raise UserError(f"{path}: has {size} bytes, the server's file {item.size}; {hint}")
    return "not compared: no size, no checksum" if item.size is None else "same size as the server's"


def failure_report(failures):
    """What failed, why and what to try, for [(item, error)]; equal failures are told once."""
    kinds = {}
    for item, error in failures:
        kinds.setdefault(getattr(error, "status", 0) or getattr(error, "unreachable", str(error)), []).append(
            (item, error)
        )
    lines = []
    for (item, error), *more in kinds.values():
        lines.append(f"error: {error}" + (f" (and {len(more)} more likewise)" if more else ""))
        notes = [other.file.note for other, _ in [(item, error), *more] if isinstance(error, DownloadError)]
        lines += [f"Known trouble: {note}." for note in notes if note]
        if isinstance(error, DownloadError):
            advice = UNREACHABLE if error.unreachable else ADVICE.get(error.status, DROPPED)
            azcopy = shlex.join(["azcopy", "copy", f"{STORAGE}/{item.file.address}", item.path])
            lines.append(advice.format(azcopy=azcopy) + "\n")
    return "\n".join([*lines, f"{len(failures)} files missing or wrong"])


def check(parts, target):
    """Runs the data set checker for what has been fetched; returns the exit code."""
    from importlib.metadata import distributions  # slow to import

    code, target = 0, Path(target).resolve()
    for entry in CHECKS:
        if not set(entry.parts) & set(parts):
            continue
        missing = [place for place in entry.places if not (target / place).exists()]
        tool, settings = REPOSITORY / "tools" / "check_dataset.py", REPOSITORY / entry.settings
        command = [sys.executable, str(tool), "--cfg_file", str(settings)]
        if target != REPOSITORY / "data":
            there = [(key, target / place) for key, place in entry.opts.items() if (target / place).exists()]
            command += ["--opts", *(word for key, path in there for word in (key, str(path)))]
        if missing:
            print(f"{entry.settings} cannot be checked yet: {', '.join(missing)} still to be fetched")
        elif any(distributions(name="oscar-paddle")):
            print(f"checking: {shlex.join(command)}", flush=True)
            code = max(code, min(1, abs(subprocess.run(command, cwd=REPOSITORY, check=False).returncode)))
        else:
            print(f"to check the files, once the project is installed: {shlex.join(command)}")
    return code


if __name__ == "__main__":
    sys.exit(main())
