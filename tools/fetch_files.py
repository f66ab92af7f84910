"""Download the files that the authors of Oscar and VinVL published; `download_dataset.sh` runs this.

Runs with the standard library alone, before anything is installed.
"""

import argparse
import contextlib
import fcntl
import os
import shlex
import subprocess
import sys
import types
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
if __name__ == "__main__":  # what pyproject.toml does once the project is installed
    if sys.version_info < (3, 10):  # noqa: UP036 (nothing has checked it yet)
        sys.exit("download_dataset: Python 3.10 or newer is needed; name one with PYTHON=/path/to/python3")
    root = types.ModuleType("oscar_paddle")
    root.__path__ = [str(REPOSITORY)]
    sys.modules["oscar_paddle"] = root

from oscar_paddle.config.errors import UserError  # noqa: E402
from oscar_paddle.datasets.download.http_download import Downloader, DownloadError, file_sha256  # noqa: E402
from oscar_paddle.datasets.download.official_files import CHECKS, PARTS, STORAGE  # noqa: E402
from oscar_paddle.datasets.download.plan import check_room, make_plan  # noqa: E402
from oscar_paddle.datasets.download.progress import Progress, show_size  # noqa: E402
from oscar_paddle.datasets.download.report import failure_report  # noqa: E402
from oscar_paddle.datasets.download.unpacking import is_unpacked, unpack_item  # noqa: E402

EXAMPLES = """
examples:
  ./download_dataset.sh --what captions vinvl weights --dry-run
      list files, sizes and addresses; download nothing
  ./download_dataset.sh --what captions vinvl
      everything for VinVL on COCO except the checkpoints, into data/
  ./download_dataset.sh --what weights --only 'pretrained/vinvl_base/checkpoint-1340000/*'
      one checkpoint
  ./download_dataset.sh --what oscar --target /big/disk/data --mirror https://mirror.example.org/oscar-files
      Oscar v1's archive from a copy: PREFIX/oscar/datasets/coco_ir.zip
  ./download_dataset.sh --what captions --mirror /mnt/copy --checksums /mnt/copy/SHA256SUMS
      from a folder, compared with a list as sha256sum writes it

An interrupted download goes on where it was when the same command is given again. Files that are in place already,
from wherever you have them, are compared and kept.
Exit codes: 0 everything is there, 1 something failed, 2 wrong arguments."""


def main(argv=None):
    args = parse_arguments(argv)
    try:
        return run(args)
    except KeyboardInterrupt:
        print("\ndownload_dataset: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    except (UserError, OSError) as error:
        if args.debug:
            raise
        where = getattr(error, "filename", None)  # of an OSError: a folder that cannot be made, for example
        text = f"{where}: {error.strerror}" if where else error
        print(f"download_dataset: error: {text}", file=sys.stderr)
        return getattr(error, "exit_code", 1)


def parse_arguments(argv=None):
    form = argparse.RawDescriptionHelpFormatter
    parts = "\n".join(f"  {name:10} {text}" for name, text in PARTS.items())
    parser = argparse.ArgumentParser(
        prog="download_dataset.sh",
        formatter_class=form,
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
    add("--retries", type=_count, default=5, metavar="N", help="tries after one that brought nothing (default: 5)")
    add("--backoff", type=_seconds, default=1.0, metavar="S", help="seconds before the second try, then doubled")
    add("--timeout", type=_seconds, default=60.0, metavar="S", help="seconds of silence that end a try (default: 60)")
    add("--keep-archives", action="store_true", help="do not delete archives once unpacked")
    add("--no-check", action="store_true", help="do not run tools/check_dataset.py at the end")
    add("--debug", action="store_true", help="show the traceback of an error")
    return parser.parse_args(argv)


def run(args):
    items = make_plan(args.what, args.target, args.mirror, args.only, args.checksums)
    say = Progress("").say
    downloader = Downloader(args.retries, args.backoff, args.timeout, args.query, say)
    if args.dry_run:
        downloader.retries = 0
    ask_sizes(items, downloader, args.target)
    if args.dry_run:
        show_plan(items, args.target)
        return 0
    with locked(args.target):
        to_come = [item for item in items if wanted(item, args.target)]
        needed, free, unknown = check_room(to_come, args.target)
        also = f" and {unknown} of unknown size" if unknown else ""
        print(f"{args.target}: {len(to_come)} files still to come, {show_size(needed)}{also}; {show_size(free)} free")
        failures = fetch_all(items, downloader, args)
    if failures:
        print(f"\ndownload_dataset: {failure_report(failures)}", file=sys.stderr)
        return 1
    print(f"{args.target}: everything asked for is there")
    return 0 if args.no_check else check(args.what, args.target)


def settled(item, target):
    """Whether nothing needs to be fetched for this file."""
    return is_unpacked(item, target) if item.file.routes else os.path.exists(item.path)


def wanted(item, target):
    """Whether this file will be fetched: it is not there, and the server has it."""
    return not settled(item, target) and not item.problem


def ask_sizes(items, downloader, target):
    """Fills in `size` or `problem` of every item; a server that does not answer is not asked again."""
    silent = None
    for item in items:
        if item.file.routes and is_unpacked(item, target):
            continue
        try:
            if silent:
                raise silent
            item.size = downloader.size(item.address)
        except DownloadError as error:
            item.problem = error
            silent = error if error.unreachable else None


def show_plan(items, target):
    for part in dict.fromkeys(item.file.part for item in items):
        print(f"{part}: {PARTS[part]}")
        for item in (item for item in items if item.file.part == part):
            size = f"~{show_size(item.file.about)}" if item.size is None and item.file.about else show_size(item.size)
            notes = ["optional"] * item.file.optional + ["already there"] * settled(item, target)
            if item.problem:
                notes.append(str(item.problem).removeprefix(f"{item.address}: "))
            print(f"  {size:>8}  {item.path}  {item.address}" + (f"  ({'; '.join(notes)})" if notes else ""))
    known = [item.size or item.file.about for item in items]
    unknown = sum(not size for size in known)
    also = f" and {unknown} of unknown size" if unknown else ""
    print(f"{len(items)} files: {show_size(sum(filter(None, known)))}{also}. Nothing was downloaded.")


@contextlib.contextmanager
def locked(target):
    """Keeps a second download out of the same folder, which would spoil the files of the first."""
    folder = os.path.join(target, "downloads")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, ".lock"), "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"{target}: another download into this folder is running") from None
        yield


def fetch_all(items, downloader, args):
    """Gets every file; returns [(item, error)] of those that are needed and failed."""
    failures, absent = [], []
    for number, item in enumerate(items, 1):
        where = f"[{number}/{len(items)}] {item.path}"
        try:
            print(f"{where}: {obtain(item, downloader, args)}", flush=True)
        except UserError as error:
            if getattr(error, "unreachable", False):  # do not wait for it again with every further file
                for later in items[number:]:
                    later.problem = later.problem or error
            not_had = isinstance(error, DownloadError) and (error.status or error.unreachable)
            if item.file.optional and not_had:
                absent.append(item.file.place)
                continue
            failures.append((item, error))
            print(f"{where}: failed: {str(error).removeprefix(f'{item.address}: ')}", flush=True)
    if absent:
        print(f"not to be had, but not needed either: {', '.join(absent)}")
    return failures


def obtain(item, downloader, args):
    """Brings one file, or the content of one archive, into place; returns what was done, in words."""
    if item.file.routes and is_unpacked(item, args.target):
        return "unpacked already"
    progress = Progress(item.file.place)
    downloader.tell = progress.say
    try:
        if os.path.exists(item.path):
            done = compare(item, progress)
        elif item.problem:
            raise item.problem
        else:
            by = downloader.fetch(item.address, item.path, item.size, item.sha256, progress)
            done = f"downloaded, {show_size(os.path.getsize(item.path))}, verified by {by}"
        if not item.file.routes:
            return done
        unpacking = Progress(f"unpacking {item.file.place}")
        members = unpack_item(item, args.target, unpacking, args.keep_archives)
        unpacking.clear()
    finally:
        progress.clear()
    kept = [member.place for member in members if member.state == "kept"]
    also = f"; left alone, as they were there and differ: {', '.join(kept)}" if kept else ""
    return f"{done}, {len(members)} files unpacked{also}"


def compare(item, progress):
    """Checks a file that is there already, as far as anything is known about it."""
    size = os.path.getsize(item.path)
    if item.sha256:
        found = file_sha256(item.path, progress)
        if found != item.sha256:
            raise UserError(
                f"{item.path}: sha256 is {found}; expected {item.sha256}; delete it to download it again, or correct "
                "the checksum list"
            )
        return "there already, verified by sha256"
    if item.size is not None and item.size != size:
        raise UserError(f"{item.path}: has {size} bytes, the server's file {item.size}; delete it to download it again")
    return "there already, same size" if item.size is not None else "there already, not compared: no size, no checksum"


def check(parts, target):
    """Runs the data set checker for what has been fetched; returns the exit code."""
    tool, code = REPOSITORY / "tools" / "check_dataset.py", 0
    for entry in CHECKS:
        if not set(entry.parts) & set(parts):
            continue
        missing = [place for place in entry.places if not os.path.exists(os.path.join(target, place))]
        command = [sys.executable, str(tool), "--cfg_file", str(REPOSITORY / entry.settings)]
        if Path(target).resolve() != REPOSITORY / "data":
            places = ((key, Path(target).resolve() / place) for key, place in entry.opts)
            command += ["--opts", *(word for key, path in places if path.exists() for word in (key, str(path)))]
        if missing:
            print(f"{entry.settings} cannot be checked yet: {', '.join(missing)} still to be fetched")
        elif tool.exists() and _installed():
            print(f"checking: {shlex.join(command)}", flush=True)
            code = max(code, min(1, abs(subprocess.run(command, cwd=REPOSITORY, check=False).returncode)))
        else:
            print(f"to check the files, once the project is installed: {shlex.join(command)}")
    return code


def _installed():
    probe = [sys.executable, "-c", "import oscar_paddle.config.loader"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def _count(text):
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}; expected a number from 0 on")
    return int(text)


def _seconds(text):
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 86400:
        raise argparse.ArgumentTypeError(f"{text!r}; expected seconds, more than 0 and less than a day")
    return value


if __name__ == "__main__":
    sys.exit(main())
