#!/usr/bin/env python
"""Two minutes on a new card: does it compute what a CPU computes, and how fast?

The same model, with random weights, runs on the card and on the CPU: margins in every precision, gradients, updates,
mixed precision with an overflow, saving, resuming, speed and memory; with two cards, also two processes. Prints JSON
and writes a page. Ends with 1 where a difference is larger than it may be."""

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from oscar_paddle.config.errors import UserError
from oscar_paddle.tools.bench.worker import Worker
from oscar_paddle.tools.shell.command_line import run_plain_tool

EXAMPLE = """\
python tools/check_gpu.py
python tools/check_gpu.py --layers 24 --width 1024 --batches 8,16,32 --output a100.html"""

HALVES = {"bfloat16": "bf16", "float16": "fp16"}
END_SECONDS = 30  # in which a job must end whose rank fails


class Check(NamedTuple):
    """One comparison: passed where `value` is at most `bound` (None: only reported); `words` say the rest."""

    name: str
    value: object
    bound: object
    words: str = ""

    @property
    def passed(self):
        return self.bound is None or (math.isfinite(self.value) and self.value <= self.bound)


def add_arguments(parser):
    parser.add_argument("--device", default="gpu", choices=("gpu", "cpu"), help="cpu: tries the tool without a card")
    parser.add_argument("--layers", type=int, default=12, help="layers of the model (default 12, BERT-base)")
    parser.add_argument("--width", type=int, default=768, help="width of the model, a multiple of 64 (default 768)")
    parser.add_argument("--pairs", type=int, default=8, help="positive pairs of a compared batch, even (default 8)")
    parser.add_argument("--batches", default="8,16,32,64", help="positive pairs of the batches that are timed")
    parser.add_argument(
        "--ranks", type=int, default=-1, choices=(-1, 0, 2), help="processes (default: 2 with two cards)"
    )
    parser.add_argument("--output", default="check_gpu.html", metavar="FILE", help="the page (default check_gpu.html)")


def main(args):
    os.environ["NVIDIA_TF32_OVERRIDE"] = "0"  # float32 is compared with float32; before the processes load Paddle
    with tempfile.TemporaryDirectory() as args.work_dir:
        with Worker("card.Side", "cpu", args) as cpu, Worker("card.Side", "card", args) as card:
            facts = card.ask("facts")
            checks = [check for compare in COMPARISONS for check in tried(compare, card, cpu)]
            speeds = [
                card.ask("speed", int(batch), precision)
                for batch in args.batches.split(",")
                for precision in ("float32", *halves(card))
            ]
        if args.ranks == 2 or (args.ranks < 0 and int(facts.get("cards", 0)) > 1):
            checks += tried(two_ranks, args)
    report(facts, checks, speeds, args.output)


def report(facts, checks, speeds, output):
    """Print JSON and write the page; UserError where a bound is passed."""
    from oscar_paddle.tools.pages.page import render, write_page

    failed = [check.name for check in checks if not check.passed]
    listed = [{**check._asdict(), "passed": check.passed} for check in checks]
    for check in listed:
        check["value"] = check["value"] if math.isfinite(check["value"]) else None  # JSON has no other word
    print(json.dumps({"facts": facts, "checks": listed, "speeds": speeds, "failed": failed}, indent=1))
    sections = [("checks", "Checks"), ("speed", "Speed"), ("machine", "Machine")]
    values = {"facts": facts, "checks": checks, "speeds": speeds, "failed": failed, "has_boxes": False}
    page = write_page(output, render("check_gpu.html", title="A card and a CPU", sections=sections, **values))
    if failed:
        raise UserError(f"{len(failed)} of {len(checks)} checks failed: {', '.join(failed)}; see {page}")


def tried(compare, *sides):
    """The checks of a comparison; one that fails where something cannot be computed at all."""
    try:
        return list(compare(*sides))
    except Exception as error:  # whatever C++ raises becomes some Python type
        lines = [line for line in str(error).splitlines() if line.strip(" -")] or [type(error).__name__]
        return [Check(compare.__name__.replace("_", " "), math.inf, 0, lines[-1])]


def halves(card):
    """{precision of scoring: OPTIMIZATION.AMP}, as far as the card has them."""
    return {precision: amp for precision, amp in HALVES.items() if card.ask("has", precision)}


# ---- comparisons: each asks both sides, and yields Checks ----


def margins(card, cpu):
    wanted = cpu.ask("margins")
    scale, distinct = abs(wanted).max(), len(set(wanted.tolist()))
    yield Check("margins, float32", float(abs(card.ask("margins") - wanted).max()), 1e-4, f"{distinct} distinct")
    for precision in halves(card):
        found = card.ask("margins", precision)
        kept = len(set(found.tolist()))
        yield Check(f"margins, {precision}", float(abs(found - wanted).max() / scale), 0.02, "of the largest")
        yield Check(f"ties, {precision}", 1 - kept / distinct, 0.1, f"{kept} distinct margins of {distinct}")


def fused_attention(card, cpu):
    for precision in halves(card) if card.ask("facts")["device"].startswith("gpu") else ("float32",):
        works, chosen = card.ask("attention", precision)
        kernels = ", ".join(f"{name} at length {length}" for length, name in chosen.items())
        yield Check(
            f"fused attention, {precision}", float(not works), None, f"{'in use' if works else 'not used'}; {kernels}"
        )
        if works:
            plain = card.ask("margins", precision)
            fused, unmasked = (card.ask("margins", precision, True, masked) for masked in (True, False))
            apart, seen = (float(abs(other - plain).max() / abs(plain).max()) for other in (fused, unmasked))
            yield Check(f"fused against plain, {precision}", apart, 0.02, "of the largest margin")
            yield Check(f"mask, {precision}", apart / max(seen, 1e-12), 0.5, f"without it margins move by {seen:.2g}")


def gradients(card, cpu):
    from safetensors.numpy import load_file

    from oscar_paddle.tools.bench.compare import relative

    wanted_loss, wanted = cpu.ask("gradients")
    (loss, found), (_, again) = (card.ask("gradients", recompute) for recompute in (False, True))
    yield Check("loss", abs(loss - wanted_loss) / abs(wanted_loss), 1e-3)
    yield Check("every gradient", relative(load_file(found), load_file(wanted)), 1e-3)
    yield Check("gradients with recompute", relative(load_file(again), load_file(found)), 1e-3)
    (cpu_weights, _), (card_weights, power) = (side.ask("updates", wanted) for side in (cpu, card))
    after, expected = load_file(card_weights), load_file(cpu_weights)
    apart = max(float(abs(after[name] - expected[name]).max()) for name in expected)
    yield Check("weights after three updates", apart, 1e-6)
    yield Check("beta powers", power, 0)


def mixed_precision(card, cpu):
    for amp in halves(card).values():
        losses, overflow = card.ask("steps", amp)
        words = f"loss from {losses[0]:.4f} to {losses[-1]:.4f}"
        yield Check(f"20 steps in {amp}", float(not all(map(math.isfinite, losses))), 0, words)
        if overflow:
            before, after, moved = overflow
            yield Check("overflow halves the scale", abs(after / before - 0.5), 0, f"{before:g} to {after:g}")
            yield Check("overflow leaves the weights", float(moved), 0)


def files(card, cpu):
    wanted = card.ask("margins")
    found = cpu.ask("read", card.ask("save"))
    yield Check("saved on the card, read on the CPU", float(abs(found - wanted).max()), 1e-4, "difference of margins")
    yield Check("resumed against unbroken", card.ask("resumed"), None, "difference of weights after six steps")


COMPARISONS = (margins, fused_attention, gradients, mixed_precision, files)


def two_ranks(args):
    """Two processes, of which one fails in the end."""
    words = ["-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--log_dir", f"{args.work_dir}/log"]
    words.append(str(Path(__file__).with_name("bench") / "card_ranks.py"))
    for name in ("device", "work_dir", "layers", "width", "pairs"):
        words += [f"--{name}", str(getattr(args, name))]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=600)
    ended, path = time.time(), Path(args.work_dir) / "ranks.json"
    if not path.exists():
        raise UserError(f"the two processes stopped early: {(done.stdout + done.stderr).strip()[-500:]}")
    found = json.loads(path.read_text())
    yield Check("gathering unequal objects", float(not found["gathered"]), 0)
    yield Check("gradients of two halves", found["gradients"], 1e-3, f"on {found['device']}")
    yield Check("loss of two halves", found["loss"], 1e-3)
    took, words = ended - found["failed_at"], f"seconds; exit code {done.returncode}"
    yield Check("a failing rank ends the job", took if done.returncode else math.inf, END_SECONDS, words)


if __name__ == "__main__":
    sys.exit(run_plain_tool(__doc__, main, add_arguments, EXAMPLE))
