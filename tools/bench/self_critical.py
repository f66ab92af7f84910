"""Speed of self-critical training steps, a part of the benchmark of captions.

A step draws captions of some images in training mode, writes the greedy one in evaluation mode, rewards all of them and
updates the weights. The words that are drawn are given and none is [SEP], so every way writes all positions:
  published            the published code's way: hidden states of all layers are kept, their keys and values computed
                       anew in every step for every caption, tags and regions once a caption; Paddle's own AdamW
  ours                 the task's way, with dropout of its own for every caption
  ours_shared_prefix   the same with CAPTION.SCST_SHARED_PREFIX: tags and regions once an image
"""

import sys
from contextlib import ExitStack

from oscar_paddle.tools.bench.worker import OUR_MATH_PATH, OURS, Worker

MODES = {
    "published": ("self_critical_work.Published", OUR_MATH_PATH),
    "ours": ("self_critical_work.Ours", OURS),
    "ours_shared_prefix": ("self_critical_work.SharedPrefix", OURS),
}


def add_self_critical_arguments(parser):
    images = "images of a self-critical training step (default 2; published 16); 0 = do not measure it"
    parser.add_argument("--scst_images", type=int, default=2, help=images)
    parser.add_argument("--scst_samples", type=int, default=5, help="captions drawn of each (default 5, as published)")
    parser.add_argument("--scst_rounds", type=int, default=2, help="measured steps, after one to warm up (default 2)")


def self_critical_speed(args):
    """Take steps in turns, one process a way; the fastest step of each counts.

    Args:
        args: those of `add_self_critical_arguments`, and hidden, layers and threads as of the tool.
    Returns:
        dict for the tool's JSON: seconds a step, ratios to the published way, the reward's share of our step, and how
        far the losses without dropout are apart.
    """
    with ExitStack() as stack:
        workers = {
            mode: stack.enter_context(Worker(work, mode, args, threads=args.threads, machine=machine))
            for mode, (work, machine) in MODES.items()
        }
        losses = {mode: worker.ask("loss") for mode, worker in workers.items()}
        steps = {mode: [] for mode in MODES}
        for number in range(args.scst_rounds + 1):
            for mode, worker in workers.items():
                taken = worker.ask("step")
                print(f"step {number} of {args.scst_rounds}, {mode}: {taken[0]:.2f} s", file=sys.stderr, flush=True)
                if number > 0:  # the first one prepares what the others use
                    steps[mode].append(taken)
    fastest = {mode: min(taken) for mode, taken in steps.items()}
    seconds = {mode: taken for mode, (taken, _) in fastest.items()}
    return {
        "images": args.scst_images,
        "samples": args.scst_images * args.scst_samples,
        "seconds_per_step": seconds,
        "ratio": {mode: seconds["published"] / seconds[mode] for mode in MODES if mode != "published"},
        "reward_share": {mode: reward / taken for mode, (taken, reward) in fastest.items() if mode != "published"},
        "loss": losses["ours"],
        "loss_difference": max(abs(loss - losses["ours"]) for loss in losses.values()),
    }
