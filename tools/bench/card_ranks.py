"""Two ranks of tools/check_gpu.py: what they say to each other, one gradient of two halves, and a rank that fails."""

import json
import sys
import time
from pathlib import Path

from oscar_paddle.config.errors import UserError
from oscar_paddle.solvers.machine import prepare
from oscar_paddle.tools.shell.command_line import run_plain_tool


def add_arguments(parser):
    for name in ("device", "work_dir"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("layers", "width", "pairs"):
        parser.add_argument(f"--{name}", type=int, required=True)


def main(args):
    prepare(exact=True)
    import numpy as np
    import paddle

    from oscar_paddle.tools.bench.card import Side
    from oscar_paddle.tools.bench.compare import relative

    side, half = Side("card", args), args.pairs // 2
    ranks, model, task = side.ranks, side.model, side.trainer(model=side.model).task
    sent = [{"rank": rank, "words": "x" * (1 + 99_999 * rank)} for rank in range(ranks.world_size)]
    gathered = ranks.gather(sent[ranks.rank]) == sent

    def gradients(examples):
        model.clear_gradients()
        model.train()
        loss = task.losses(model, task.batch(examples, 0))["match"] / (4 * half)
        loss.backward()
        return loss

    loss = gradients(np.arange(half) + half * ranks.rank).reshape([1]).detach()
    ranks.sum_gradients([p for p in model.parameters() if not p.stop_gradient], loss)
    found = {name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}
    whole = gradients(np.arange(2 * half)).item()
    wanted = {name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}
    result = {
        "gathered": gathered,
        "gradients": relative(found, wanted),
        "loss": abs(loss.item() - whole) / abs(whole),
        "device": paddle.get_device(),
        "failed_at": time.time(),
    }
    ranks.gather(None)
    if ranks.is_main:
        (Path(args.work_dir) / "ranks.json").write_text(json.dumps(result))
    else:
        raise UserError("this rank was told to fail")
    ranks.gather(None)  # with nobody


if __name__ == "__main__":
    sys.exit(run_plain_tool(__doc__, main, add_arguments, "python tools/check_gpu.py"))
