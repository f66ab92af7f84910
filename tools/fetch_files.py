"""What download_dataset.sh runs, before anything is installed: the standard library and curl (7.54 or newer)."""

import argparse
import configparser
import fcntl
import filecmp
import fnmatch
import hashlib
import json
import lzma
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

REPOSITORY = Path(__file__).resolve().parents[1]
HERE = REPOSITORY if (REPOSITORY / "Makefile").exists() else Path()  # the clone, or where an installed package is used
if __name__ == "__main__":  # what pyproject.toml does once the project is installed
    sys.modules["oscar_paddle"] = type(sys)("oscar_paddle")
    sys.modules["oscar_paddle"].__path__ = [str(REPOSITORY)]

from oscar_paddle.config.errors import ConfigError, DataError, UserError  # noqa: E402
from oscar_paddle.tools.shell.options import OptionParser, heeding_sigterm  # noqa: E402

TABLE = configparser.ConfigParser(delimiters="=", interpolation=configparser.ExtendedInterpolation())
TABLE.optionxform = str
TABLE.read(REPOSITORY / "datasets/download/official_files.ini", encoding="utf-8")
PARTS, STORAGE = dict(TABLE["parts"]), TABLE["names"]["storage"]
ABOUT = f"Downloads what the authors of Oscar and VinVL published, from\n{STORAGE}\n\nparts:\n"
EXAMPLES = """examples:
  ./download_dataset.sh --what captions vinvl weights --dry-run
  ./download_dataset.sh --what weights --only 'pretrained/vinvl_base/checkpoint-1340000/*'
  ./download_dataset.sh --what captions --mirror /mnt/copy --checksums /mnt/copy/SHA256SUMS
The same command goes on where an interrupted one was. Files that are in place already, from wherever you have them,
are compared and kept. Exit codes: 0 everything is there, 1 something failed, 2 wrong arguments."""
ADVICE = """What to try: the same command again, which goes on where it was (--retries N tries longer). Without an
answer, check the network and the proxy variables (https_proxy, no_proxy). HTTP 4xx: the official storage refuses
everybody (github.com/microsoft/Oscar/issues/205), or the file has been moved; --mirror PREFIX names a copy of the files
under the same paths, on a server or in a folder, --query STRING an access string, if the authors have given you one.
Files from elsewhere, put at the places above, are checked and used when you run this again."""
CURL = "curl --disable --globoff --location --fail --suppress-connect-headers --proto =http,https,file --speed-limit 1"
# curl's: no name, no connection, HTTP/2, cut, silence, no ranges, TLS broken off, nothing sent, lost; and HTTP's.
PASSING = {5, 6, 7, 16, 18, 28, 33, 35, 52, 55, 56, 92, 408, 416, 425, 429, 500, 502, 503, 504}


@dataclass
class Item:
    """One file of a download: its place in the table of official files, and what is known about it."""

    part: str
    place: str  # below the target folder
    path: str
    url: str
    optional: bool
    about: float  # bytes, roughly; 0 = not published
    routes: list  # of an archive, see `unpack`
    sha256: str | None
    size: int | None = None  # bytes as the server says
    version: str = ""  # strong ETag or date as the server says
    problem: str = ""  # what came instead of a size

    @property
    def growing(self):
        """Where the file grows: another place for another size, version or address, as two must never be mixed."""
        return f"{self.path}.{hashlib.sha256(f'{self.size} {self.version} {self.url}'.encode()).hexdigest()[:8]}.part"

    def settled(self):
        """Whether nothing needs to be fetched: the file, or all that came out of the archive, is in place."""
        if not self.routes:
            return os.path.exists(self.path)
        try:
            files = json.loads(Path(self.path + ".unpacked.json").read_text(encoding="utf-8"))
            return all(os.path.getsize(self.path.removesuffix(self.place) + name) == files[name] for name in files)
        except (OSError, ValueError):
            return False


def size_of(path):
    return os.path.getsize(path) if os.path.isfile(path) else 0


def main(argv=None):
    about = {"description": ABOUT + "\n".join(map("  {0[0]:12} {0[1]}".format, PARTS.items())), "epilog": EXAMPLES}
    parser = OptionParser("download_dataset.sh", **about)
    add = parser.add_argument
    add("--what", nargs="+", action="extend", required=True, choices=PARTS, metavar="PART", help="one or more parts")
    add("--target", default=str(HERE / "data"), metavar="DIR", help="folder to fill (default: %(default)s)")
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
    args = parser.parse_args(argv, argparse.Namespace(silent=""))
    if args.retries < 0 or not (0 < args.backoff < 86400 and 0 < args.timeout < 86400):
        parser.error("--retries: expected 0 or more; --backoff, --timeout: expected seconds, less than a day")
    try:
        with heeding_sigterm():
            return run(args)
    except KeyboardInterrupt as stop:
        print("\ndownload_dataset: stopped; the same command goes on from here", file=sys.stderr)
        return stop.args[0] if stop.args else 130
    except (UserError, OSError) as error:
        if args.debug:
            raise
        print(f"download_dataset: error: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 1)


def run(args):
    items, failures = make_plan(args), 0
    if not shutil.which("curl"):
        raise UserError("no curl here; install it (for example: apt-get install curl) and give the same command again")
    args.retries *= not args.dry_run
    for item in items:
        try:
            headers = {} if item.routes and item.settled() else curl(item, args, "--head")
            size, tag = headers.get("content-length", ""), headers.get("etag", "")
            item.size = int(size) if size.isdecimal() else None
            item.version = tag if tag[:1] == '"' else headers.get("last-modified", "")  # a weak ETag promises little
        except ConnectionError as error:
            item.problem = str(error)
    if args.dry_run:
        rows = [("part", "MB", "place", "address", "note")]
        for item in items:
            size = item.size if item.size is not None else item.about
            notes = ["optional"] * item.optional + ["already there"] * item.settled() + [item.problem or ""]
            megabytes = f"{'~' * (item.size is None)}{size / 1e6:,.2f}" if size else "?"
            rows.append((item.part, megabytes, item.path, item.url, ", ".join(filter(None, notes))))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        print("\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows))
        return 0
    os.makedirs(os.path.join(args.target, "downloads"), exist_ok=True)
    with open(os.path.join(args.target, "downloads", ".lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # it would spoil the files of the first
            raise UserError(f"{args.target}: another download into this folder is running") from None
        to_come = [item for item in items if not item.settled() and not item.problem]
        sizes = [(item.size or item.about) * (1 + bool(item.routes)) for item in to_come]  # archives: and their content
        have = sum(size_of(item.path) or size_of(item.growing) for item in to_come)
        needed, free = sum(sizes) - have, shutil.disk_usage(args.target).free
        room = f"{needed / 1e6:,.2f} MB to come, {sizes.count(0)} files of unknown size; {free / 1e6:,.2f} MB free"
        if needed > free:
            raise UserError(f"{args.target}: no room: {room}; another --target, or fewer parts with --what or --only")
        print(f"{args.target}: {room}", flush=True)
        for number, item in enumerate(items, 1):
            try:
                done = obtain(item, args)
            except (UserError, OSError) as error:
                needed = not (item.optional and isinstance(error, ConnectionError))
                failures += needed
                done = f"failed: {item.url}: {error}" if needed else "not to be had, but not needed either"
            print(f"[{number}/{len(items)}] {item.path}: {done}", flush=True)
    if failures:
        print(f"{failures} files missing or wrong. {ADVICE}", file=sys.stderr)
        return 1
    print(f"{args.target}: everything asked for is there")
    return 0 if args.no_check else check(args.what, Path(args.target).resolve())


def make_plan(args):
    """[Item] in the table's order, from the options what, target, mirror, only and checksums; ConfigError if wrong."""
    mirror, items = (args.mirror or STORAGE).rstrip("/"), []
    if not re.match("https?://[^/]|file:///", mirror):
        if not os.path.isdir(mirror):
            raise ConfigError(f"--mirror {mirror}: no such folder; expected http(s)://..., file:///... or a folder")
        mirror = Path(mirror).resolve().as_uri()
    if args.checksums and not os.path.isfile(args.checksums):
        raise ConfigError(f"--checksums {args.checksums}: no such file")
    text = Path(args.checksums).read_text(errors="replace") if args.checksums else ""
    sums = {name: sum.lower() for sum, name in re.findall(r"^([\da-fA-F]{64})[ \t]+\*?(?:\./)*(.+?)\s*$", text, re.M)}
    if len(sums) < len(re.findall(r"^[^#\s]", text, re.M)):
        raise ConfigError(f"--checksums {args.checksums}: expected lines of 64 hex digits and a name, each name once")
    for folder, value in TABLE["files"].items():
        (part, address, *words), routes, place = value.split(), [], folder
        if address.endswith(".zip"):
            routes = [word.split(">") for word in words] or [["*", folder + "/{path}"]]
            folder_there = os.path.dirname(address).rpartition("://")[2]
            place, address, *words = f"downloads/{folder_there}", *os.path.split(address)
        for name, _, about in (word.partition("~") for word in words if part in args.what):
            names = [f"{place}/{name.lstrip('?')}", f"{address}/{name.lstrip('?')}"]
            fills = names + [route.partition("/{")[0] for _, route in routes]
            if any(fnmatch.fnmatchcase(fill, pattern) for fill in fills for pattern in args.only or "*"):
                path, digest = os.path.join(args.target, names[0]), sums.get(names[0]) or sums.get(names[1])
                known = {"optional": name[0] == "?", "about": float(about or 0), "routes": routes, "sha256": digest}
                items.append(Item(part, names[0], path, url_of(address, names, mirror, args.mirror), **known))
    if not items:
        raise ConfigError(f"--only {' '.join(args.only)}: matches none of the files of --what {' '.join(args.what)}")
    if sums and not any(item.sha256 for item in items):
        raise ConfigError(f"--checksums {args.checksums}: names none of the files to fetch, such as {items[0].place}")
    return items


def url_of(address, names, mirror, is_copy):
    """Where a file is: below the official prefix, or on another server, whose whole address has * for its name; in a
    copy, files of such servers lie where they lie here. `names`: the file's place here, and its path there."""
    if "://" not in address:
        return f"{mirror}/{names[1]}"
    if is_copy:
        return f"{mirror}/{names[0]}"
    name = quote(os.path.basename(names[0]))
    return address.replace("*", name) if "*" in address else f"{address}/{name}"


def curl(item, args, *head):
    """Runs curl until it succeeds, fails for good, or fails args.retries times more in vain; returns the last headers.

    Without "--head" the file grows at `item.growing`. Not by curl's own --retry, which throws away what an attempt has
    brought. A server that does not answer is not waited for again with every further file.
    """
    command = [*CURL.split(), "--connect-timeout", str(args.timeout), "--speed-time", str(max(1, round(args.timeout)))]
    command += ["--proto-redir", "=https" if item.url.startswith("https:") else "=http,https"]  # never less encryption
    command += [*head, "--show-error", "--silent" if head or not sys.stderr.isatty() else "--progress-bar"]
    command += [f"{item.url}?{args.query.lstrip('?')}" if args.query and item.url[:5] != "file:" else item.url]
    failures, best, growing = 0, size_of(item.growing), os.devnull if head else item.growing
    while not args.silent:
        more = ["--continue-at", str(size_of(growing)), "--header", f"If-Range: {item.version}"]  # or all, if changed
        more = more if size_of(growing) and item.version else []
        with tempfile.NamedTemporaryFile("r", errors="replace") as heads, open(growing, "ab" if more else "wb") as out:
            # Through a pipe, not to a file: a curl that outlives us (kill -9) must not write where the next run does.
            with subprocess.Popen([*command, *more, "--dump-header", heads.name], stdout=subprocess.PIPE) as process:
                shutil.copyfileobj(process.stdout, out)
            answer, code = heads.read().strip().split("\n\n")[-1], process.returncode  # before it: redirects
        headers = {name.lower(): value for name, value in re.findall(r"^([\w-]+):\s*(.*?)\s*$", answer, re.M)}
        reason = answer.partition("\n")[0].partition(" ")[2] if answer.startswith("HTTP/") else ""
        if not (code or re.search("^content-(encoding: (?!identity)|type: text/html)", answer, re.I | re.M)):
            return headers
        trouble = f"curl error {code}, see above" if code else "a web page or a packed file came, not the plain file"
        if code == 22:
            trouble = f"HTTP {reason} {headers.get('x-ms-error-code', '')}".rstrip()
        if more and (code == 33 or reason[:3] == "416"):  # it cannot go on in the middle, or has another file now
            os.remove(growing)
        # 1 MB starts the count again, but of new ground: a server that always starts over must not go on for ever.
        grown = size_of(growing) >= best + (1 << 20)
        failures, best = (1, size_of(growing)) if grown else (failures + 1, best)
        if (int(reason[:3]) if code == 22 else code) not in PASSING:
            raise ConnectionError(trouble)
        if failures > args.retries:
            trouble += f"; gave up after attempt {failures}"
            args.silent = "" if reason else trouble
            raise ConnectionError(trouble)
        pause = min(60, args.backoff * 2 ** (failures - 1))
        print(f"{item.url}: {trouble}; attempt {failures + 1} of {args.retries + 1} in {pause:g} s", file=sys.stderr)
        time.sleep(pause)
    raise ConnectionError(args.silent)


def obtain(item, args):
    """Brings one file, or the content of one archive, into place; returns what was done, in words."""
    if item.routes and item.settled():
        return "unpacked already"
    done, path, digest = "there already", item.path, hashlib.sha256()
    if not os.path.exists(path):
        if item.problem and not re.match("HTTP (405|501)", item.problem):  # without HEAD it may still give the file
            raise ConnectionError(item.problem)
        done, path = "downloaded", item.growing
        os.makedirs(os.path.dirname(path), exist_ok=True)
        for part in set(Path(path).parent.glob(f"{os.path.basename(item.path)}.*.part")) - {Path(path)}:
            os.remove(part)
        if size_of(path) != (item.size or -1):
            curl(item, args)
    with open(path, "rb") as file:
        while item.sha256 and (chunk := file.read(1 << 20)):
            digest.update(chunk)
    for what, expected, found in ("size", item.size, size_of(path)), ("sha256", item.sha256, digest.hexdigest()):
        if expected not in (None, found):
            raise UserError(f"{path}: {what} is {found}; expected {expected}; delete it to download it again")
        done += f", {what} {'not known' if expected is None else 'as expected'}"
    os.replace(path, item.path)
    if not item.routes:
        return done
    own, kept = unpack(item.path, args.target, item.routes)
    # "kept" files may be changed by their owner later; only what is the archive's own is worth a comparison.
    Path(item.path + ".unpacked.json").write_text(json.dumps(own, indent=1), encoding="utf-8")
    if not args.keep_archives:
        os.remove(item.path)
    return f"{done}, {len(own)} files unpacked; left alone, as they were there and differ: {', '.join(kept) or 'none'}"


def unpack(archive, folder, routes=(("*", "{path}"),)):
    """Unpacks a zip file from strangers; files that are there already stay, others are complete or not there.

    routes: (pattern, place below the folder) in order; {path} in a place is the member's name below the inner folder
    that is called like the archive, or from the top where there is none; {name} its last part. Returns {place: bytes}
    of what is there as in the archive, and [place] of what was there already and differs. Raises DataError.
    """
    own, kept, growing = {}, [], os.path.join(folder, ".unpacking")
    try:
        os.makedirs(folder, exist_ok=True)
        with zipfile.ZipFile(archive) as opened:
            for place, info in choose(opened.infolist(), archive, folder, routes).items():
                with opened.open(info) as source, open(growing, "wb") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
                path = os.path.join(folder, place)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                if os.path.lexists(path) and not (os.path.isfile(path) and filecmp.cmp(growing, path, shallow=False)):
                    kept.append(place)
                else:
                    os.replace(growing, path)
                    own[place] = size_of(path)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError) as error:
        raise DataError(f"{archive}: damaged, cut short or no archive ({error}); delete it to fetch it again") from None
    except OSError as error:
        raise DataError(f"{archive}: cannot unpack: {error}") from None
    finally:
        if os.path.lexists(growing):
            os.remove(growing)
    return own, kept


def choose(members, archive, folder, routes):
    """{place: ZipInfo} of all files that are wanted; DataError, before the first byte is written, if one is refused."""
    chosen, needed, free = {}, 0, shutil.disk_usage(folder).free
    for info in members:
        # zipfile's own name is already mended (cut at a NUL, for example); judge what stands in the file.
        name, kind, wrong = info.orig_filename, stat.S_IFMT(info.external_attr >> 16), ""
        parts = re.split(r"[/\\]", name)  # on some systems a backslash separates
        if "\0" in name or not parts[0] or re.match("[A-Za-z]:", name) or ".." in parts:
            wrong = "absolute, leads upwards or holds a NUL"
        elif kind not in (0, stat.S_IFREG, stat.S_IFDIR):  # 0: from a system without modes
            wrong = "a link, a device or a pipe"
        elif info.flag_bits & 1:
            wrong = "encrypted"
        elif not info.is_dir() and "__MACOSX" not in parts:
            while Path(archive).stem in parts[:-1]:
                parts = parts[parts.index(Path(archive).stem) + 1 :]
            path = "/".join(parts)
            place = next(place for pattern, place in routes if fnmatch.fnmatchcase(path, pattern))
            place = os.path.normpath(place.format(path=path, name=parts[-1]))
            wrong = f"for the place of {chosen[place].filename!r}, {place}" if place in chosen else ""
            chosen[place] = info
            needed += 0 if os.path.exists(os.path.join(folder, place)) else info.file_size
        if wrong:
            raise DataError(f"{archive}: member {name!r} is {wrong}; expected a plain file; nothing was unpacked")
    if needed > free:
        raise DataError(f"{archive}: {needed} bytes to unpack, but {folder} has {free} free; nothing was unpacked")
    return chosen


def check(parts, target):
    """Runs the data set checker for what has been fetched; returns the exit code."""
    code = 0
    for settings, value in TABLE["checks"].items():
        wanted, _, words = value.partition(":")
        places = {target / place: key for key, _, place in (word.rpartition("=") for word in words.split())}
        missing = [str(place) for place, key in places.items() if key[:10] != "PRETRAINED" and not place.exists()]
        options = [word for place, key in places.items() if key and place.exists() for word in (key, str(place))]
        command = [sys.executable, "tools/check_dataset.py", "--cfg_file", settings, "--opts", *options]
        if set(wanted.split()) & set(parts):
            here = f"cannot be checked yet: {', '.join(missing)} to be fetched" if missing else shlex.join(command)
            print(f"{settings}{': once the project is installed' * (not find_spec('yacs'))}: {here}", flush=True)
            if not missing and find_spec("yacs"):
                code |= subprocess.run(command, cwd=REPOSITORY, check=False).returncode != 0
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
