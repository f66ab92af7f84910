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
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import fuzz_guard

HERE = Path(__file__).resolve().parent
ROUND_SECONDS = 20  # of one target before the next one has its turn
START_SECONDS = 2
GRACE_SECONDS = 90  # for start, shrinking and a slow machine, before a process counts as hanging


def main(argv=None):
    args = _arguments(argv)
    if args.child:
        return _child(args)
    if args.replay:
        return _replay(args)
    names = args.targets or list(_targets(args.module))
    end, round_number, totals, failures = time.monotonic() + 60 * args.minutes, 0, dict.fromkeys(names, 0), []
    print(f"fuzzing {len(names)} readers with {args.engine} for {args.minutes:g} minutes, seed {args.seed}", flush=True)
    while time.monotonic() < end:
        sound = [name for name in names if name not in {failure[0] for failure in failures}]
        for position, name in enumerate(sound):
            share = (end - time.monotonic()) / (len(sound) - position)  # of it, a process takes some seconds to start
            seconds = min(ROUND_SECONDS, max(0.3, share - START_SECONDS))
            count, failure = _run_child(args, name, seconds, args.seed + round_number)
            totals[name] += count
            if failure:
                failures.append((name, failure))
                print(f"  {name}: MISBEHAVED after {totals[name]:,} cases: {failure}", flush=True)
            else:
                print(f"  {name}: {totals[name]:,} cases, {max(0, end - time.monotonic()):.0f} s left", flush=True)
        round_number += 1
        if len(failures) == len(names):
            break
    print(f"{sum(totals.values()):,} cases of {len(names)} readers, {len(failures)} misbehaved")
    return 1 if failures else 0


def _arguments(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=3, help="how long (default: %(default)s)")
    parser.add_argument("--targets", nargs="+", metavar="NAME", help="which readers (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="where the random cases start (default: %(default)s)")
    parser.add_argument("--least", type=int, default=0, help="cases of each reader whatever the time (default: 0)")
    parser.add_argument("--engine", choices=("hypothesis", "atheris"), default="hypothesis")
    parser.add_argument("--failures", default="fuzz_failures", metavar="DIR", help="where failing files are kept")
    parser.add_argument("--replay", metavar="DIR", help="read the files of a failure again")
    parser.add_argument("--module", default=str(HERE / "fuzz_targets.py"), help="file with TARGETS")
    parser.add_argument("--child", nargs=2, metavar=("NAME", "SECONDS"), help=argparse.SUPPRESS)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def _targets(path):
    sys.path.insert(0, str(HERE))
    spec = importlib.util.spec_from_file_location("fuzz_targets_in_use", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.TARGETS


# ---- the process that leads ----


def _run_child(args, name, seconds, seed):
    """(cases that were read, what went wrong or None) of one round of one target."""
    with tempfile.TemporaryDirectory(dir=fuzz_guard.memory_folder()) as work:
        command = [sys.executable, __file__, "--child", name, f"{seconds:.2f}", "--seed", str(seed), "--work", work]
        command += ["--engine", args.engine, "--module", args.module, "--least", str(args.least)]
        try:
            limit = seconds + GRACE_SECONDS
            done = subprocess.run(command, capture_output=True, text=True, timeout=limit, env=_environment())
            code, words = done.returncode, done.stderr.strip()
        except subprocess.TimeoutExpired:
            code, words = "hang", f"the process was still busy after {limit:.0f} s"
        count_file = Path(work) / "count"
        count = int(count_file.read_text() or 0) if count_file.is_file() else 0
        if code == 0:
            return count, None
        message = Path(work) / "message"
        what = message.read_text() if message.is_file() else f"the process ended with {code}: {words[-2000:]}"
        return count, f"{what}\n    files kept in {_keep(Path(work), args.failures, name, what)}"


def _keep(work, failures, name, what):
    """Copy the last case of a process to the folder of failures; returns its place."""
    number = 1
    while (Path(failures) / f"{name}-{number}").exists():
        number += 1
    place = Path(failures) / f"{name}-{number}"
    place.mkdir(parents=True)
    (place / "what.txt").write_text(what)
    for part in ("failed.json", "current.json"):
        if (work / part).is_file():
            (place / "files.json").write_bytes((work / part).read_bytes())
            break
    return place


def _environment():
    return {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "GLOG_minloglevel": "3"}


def _replay(args):
    place = Path(args.replay)
    name = place.name.rsplit("-", 1)[0]
    target, files = _targets(args.module)[name], _unpack_case((place / "files.json").read_bytes())
    fuzz_guard.limit_process()
    print(f"{name}: {fuzz_guard.run_case(target.read, files)}")
    return 0


# ---- the process that reads ----


def _child(args):
    name, seconds = args.child[0], float(args.child[1])
    work = Path(args.work)
    with _instrumented(args.engine):
        target = _targets(args.module)[name]
    sound = target.sound()
    case = _Case(target.read, work, args.least)
    run = _run_atheris if args.engine == "atheris" else _run_hypothesis
    try:
        for files in sound:  # also imports what the readers import on first use
            case(files, accepts=target.accepts)
        fuzz_guard.limit_process()
        case.end = time.monotonic() + seconds
        run(case, sound, args.seed)
    except fuzz_guard.Misbehaved as error:
        (work / "message").write_text(str(error))
        return 3
    finally:
        (work / "count").write_text(str(case.count))
    return 0


def _instrumented(engine):
    """Atheris must see our modules when they are imported, to follow which lines a file reaches."""
    if engine != "atheris":
        return contextlib.nullcontext()
    import atheris

    return atheris.instrument_imports(include=["oscar_paddle"])


class _Case:
    """Reads one set of files after the other and leaves them on disk, for when the process dies."""

    def __init__(self, read, work, least):
        self.read, self.work, self.least, self.count, self.end = read, work, least, 0, 0.0

    def __call__(self, files, accepts=False):
        self.count += 1
        packed = _pack_case(files)
        (self.work / "current.json").write_bytes(packed)
        if self.count % 100 == 0:
            (self.work / "count").write_text(str(self.count))
        try:
            fuzz_guard.run_case(self.read, files, accepts)
        except fuzz_guard.Misbehaved:
            (self.work / "failed.json").write_bytes(packed)  # the last one is the smallest
            raise

    @property
    def is_over(self):
        return time.monotonic() > self.end and self.count >= self.least


def _run_hypothesis(case, sound, seed):
    import fuzz_mutations
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as with_seed

    batch = settings(
        max_examples=100,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
        print_blob=False,
        report_multiple_bugs=False,
    )

    def read(files):
        if not case.is_over:  # the rest of a batch passes quickly
            case(files)

    number = 0
    while not case.is_over:
        with_seed(seed * 1_000_003 + number)(batch(given(fuzz_mutations.damaged(sound))(read)))()
        number += 1


def _run_atheris(case, sound, seed):
    """Coverage-guided: bytes are one file of a sound set; the first byte says which."""
    import atheris

    choices = [(files, name) for files in sound for name in sorted(files)]
    corpus = case.work / "corpus"
    corpus.mkdir()
    for number, (files, name) in enumerate(choices[:256]):
        (corpus / str(number)).write_bytes(bytes([number]) + files[name])

    def one_input(data):
        if case.is_over:
            (case.work / "count").write_text(str(case.count))
            os._exit(0)
        if data:
            files, name = choices[data[0] % len(choices)]
            try:
                case({**files, name: data[1:]})
            except fuzz_guard.Misbehaved as error:  # libFuzzer would end the process in its own way
                (case.work / "message").write_text(str(error))
                (case.work / "count").write_text(str(case.count))
                os._exit(3)

    limits = [f"-seed={seed + 1}", "-max_len=20000", "-len_control=0", "-rss_limit_mb=0"]
    atheris.Setup([sys.argv[0], str(corpus), f"-artifact_prefix={case.work}/", *limits], one_input)
    atheris.Fuzz()


def _pack_case(files):
    return json.dumps({name: content.decode("latin-1") for name, content in files.items()}).encode()


def _unpack_case(packed):
    return {name: content.encode("latin-1") for name, content in json.loads(packed).items()}


if __name__ == "__main__":
    sys.exit(main())
