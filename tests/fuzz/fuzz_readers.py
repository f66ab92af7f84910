#!/usr/bin/env python
"""Feed damaged files to every reader for some minutes: `make fuzz`.

Each reader runs in a process of its own with little memory, so that a crash of the interpreter and an endless loop are
found as well. What misbehaves is kept in a folder (shrunk by Hypothesis) and read again with --replay.

examples:
  python tests/fuzz/fuzz_readers.py --minutes 5
  python tests/fuzz/fuzz_readers.py --targets torch_files packed --minutes 1 --seed 7
  python tests/fuzz/fuzz_readers.py --replay fuzz_failures/torch_files-1
  pip install atheris && python tests/fuzz/fuzz_readers.py --engine atheris --minutes 5  # guided by coverage
"""

import argparse
import contextlib
import importlib.util
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import fuzz_guard

HERE = Path(__file__).resolve().parent
START_SECONDS = 2
GRACE_SECONDS = 90  # for start, shrinking and a slow machine, before a process counts as hanging


def main(argv=None):
    args = _arguments(argv)
    if args.child:
        return _child(args, args.child)
    if args.replay:
        return _replay(args)
    names = args.targets or list(_targets(args.module))
    end, total, failed = time.monotonic() + 60 * args.minutes, 0, 0
    print(f"fuzzing {len(names)} readers with {args.engine} for {args.minutes:g} minutes, seed {args.seed}", flush=True)
    for position, name in enumerate(names):
        share = (end - time.monotonic()) / (len(names) - position)  # of it, a process takes some seconds to start
        count, failure = _run_child(args, name, max(0.3, share - START_SECONDS))
        total, failed = total + count, failed + bool(failure)
        said = f"MISBEHAVED after {count:,} cases: {failure}" if failure else f"{count:,} cases"
        print(f"  {name}: {said}, {max(0, end - time.monotonic()):.0f} s left", flush=True)
    print(f"{total:,} cases of {len(names)} readers, {failed} misbehaved")
    return 1 if failed else 0


def _arguments(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--minutes", type=float, default=3, help="how long (default: %(default)s)")
    add("--targets", nargs="+", metavar="NAME", help="which readers (default: all)")
    add("--seed", type=int, default=0, help="where the random cases start (default: %(default)s)")
    add("--least", type=int, default=0, help="cases of each reader whatever the time (default: 0)")
    add("--engine", choices=("hypothesis", "atheris"), default="hypothesis")
    add("--failures", default="fuzz_failures", metavar="DIR", help="where failing files are kept")
    add("--replay", metavar="DIR", help="read the files of a failure again")
    add("--module", default=str(HERE / "fuzz_targets.py"), help="file with TARGETS")
    add("--child", metavar="NAME", help=argparse.SUPPRESS)
    add("--seconds", type=float, help=argparse.SUPPRESS)
    add("--work", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def _targets(path):
    sys.path.insert(0, str(HERE))
    spec = importlib.util.spec_from_file_location("fuzz_targets_in_use", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.TARGETS


# ---- the process that leads ----


def _run_child(args, name, seconds):
    """(cases that were read, what went wrong or None) of one target."""
    with tempfile.TemporaryDirectory(dir=fuzz_guard.memory_folder()) as folder:
        work, limit = Path(folder), seconds + GRACE_SECONDS
        command = [sys.executable, __file__, "--child", name, "--seconds", f"{seconds:.2f}", "--work", folder]
        for option in ("seed", "engine", "module", "least"):
            command += [f"--{option}", str(getattr(args, option))]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "GLOG_minloglevel": "3"}
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=limit, env=environment)
            code, what = done.returncode, f"the process ended with {done.returncode}: {done.stderr.strip()[-2000:]}"
        except subprocess.TimeoutExpired:
            code, what = "hang", f"the process was still busy after {limit:.0f} s"
        found = {path.name: path.read_text() for path in work.iterdir() if path.is_file()}
        count = int(found.get("count") or 0)
        if code == 0:
            return count, None
        what = found.get("message", what)
        place = next(p for n in itertools.count(1) if not (p := Path(args.failures, f"{name}-{n}")).exists())
        place.mkdir(parents=True)
        (place / "what.txt").write_text(what)
        (place / "files.json").write_text(found.get("failed.json") or found.get("current.json", "{}"))
        return count, f"{what}\n    files kept in {place}"


def _replay(args):
    place = Path(args.replay)
    name = place.name.rsplit("-", 1)[0]
    packed = json.loads((place / "files.json").read_text())
    target = _targets(args.module)[name]
    fuzz_guard.limit_process()
    print(f"{name}: {fuzz_guard.run_case(target.read, {n: text.encode('latin-1') for n, text in packed.items()})}")
    return 0


# ---- the process that reads ----


def _child(args, name):
    instrumented = contextlib.nullcontext()
    if args.engine == "atheris":  # which must see our modules when they are imported, to follow what a file reaches
        import atheris

        instrumented = atheris.instrument_imports(include=["oscar_paddle"])
    with instrumented:
        target = _targets(args.module)[name]
    sound, case = target.sound(), _Case(target.read, args.work, args.least)
    try:
        for files in sound:  # also imports what the readers import on first use
            case(files, accepts=target.accepts)
        fuzz_guard.limit_process()
        case.end = time.monotonic() + args.seconds
        _fuzz(case, sound, args)
    except fuzz_guard.Misbehaved as error:
        (args.work / "message").write_text(str(error))
        return 3
    finally:
        (args.work / "count").write_text(str(case.count))
    return 0


class _Case:
    """Reads one set of files after the other and leaves them on disk, for when the process dies."""

    def __init__(self, read, work, least):
        self.read, self.work, self.least, self.count, self.end = read, work, least, 0, 0.0

    def __call__(self, files, accepts=False):
        self.count += 1
        packed = json.dumps({name: content.decode("latin-1") for name, content in files.items()})
        (self.work / "current.json").write_text(packed)
        if self.count % 100 == 0:
            (self.work / "count").write_text(str(self.count))
        try:
            fuzz_guard.run_case(self.read, files, accepts)
        except fuzz_guard.Misbehaved:
            (self.work / "failed.json").write_text(packed)  # the last one is the smallest
            raise

    @property
    def is_over(self):
        return time.monotonic() > self.end and self.count >= self.least


def _fuzz(case, sound, args):
    import fuzz_mutations
    from hypothesis import HealthCheck, Phase, given, seed, settings

    def read(files):
        if not case.is_over:  # the rest of a batch passes quickly
            case(files)

    batch = settings(
        max_examples=100,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
        print_blob=False,
        report_multiple_bugs=False,
    )(given(fuzz_mutations.damaged(sound))(read))
    if args.engine == "atheris":
        _follow_coverage(batch.hypothesis.fuzz_one_input, case, args)
    for number in itertools.count():
        if case.is_over:
            break
        seed(args.seed * 1_000_003 + number)(batch)()


def _follow_coverage(one_input, case, args):
    """libFuzzer, from here on, decides about the bytes of which Hypothesis makes its choices; it ends the process."""
    import atheris

    def run(data):
        code = 0 if case.is_over else None
        try:
            one_input(data)
        except fuzz_guard.Misbehaved as error:
            (args.work / "message").write_text(str(error))
            code = 3
        if code is not None:
            (args.work / "count").write_text(str(case.count))
            os._exit(code)

    atheris.Setup([sys.argv[0], f"-artifact_prefix={args.work}/", f"-seed={args.seed + 1}", "-rss_limit_mb=0"], run)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
