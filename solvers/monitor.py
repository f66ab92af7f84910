"""What a person sees of a training run: progress bar, log lines, metrics.jsonl, VisualDL scalars, curves.png."""

import logging
import time

from tqdm import tqdm

log = logging.getLogger(__name__)


class Monitor:
    """Reports of one run; does nothing on ranks other than the main one.

    Args:
        run_folder: RunFolder.
        total_steps: optimizer updates of the whole run.
        first_step: updates already done (resumed runs).
        options: the config section MONITOR.
        active: whether this is the main rank.
    """

    def __init__(self, run_folder, total_steps, first_step, options, active):
        self.run_folder, self.options, self.active = run_folder, options, active
        self.total_steps = total_steps
        self.started = time.monotonic()
        self.pairs = 0
        self.losses = []
        self.bar = tqdm(
            total=total_steps, initial=first_step, desc="training", unit="step", disable=not active, dynamic_ncols=True
        )
        self.scalars = _visualdl_writer(run_folder) if options.VISUALDL and active else None

    def step(self, record, num_pairs, seconds):
        """One optimizer update.

        Args:
            record: dict with step, epoch, loss, lr, grad_norm.
            num_pairs: pairs of all ranks in this update.
            seconds: wall time of this update, waiting for data included.
        """
        if not self.active:
            return
        rate = num_pairs / seconds
        self.run_folder.append_metrics({**record, "pairs_per_s": round(rate, 2)})
        self.bar.update(1)
        self.bar.set_postfix(
            loss=f"{record['loss']:.4f}", lr=f"{record['lr']:.2e}", pairs=f"{rate:.1f}/s", refresh=False
        )
        self.pairs += num_pairs
        self.losses.append(record["loss"])
        if record["step"] % self.options.PRINT_STEP == 0:
            log.info(
                "step %d of %d, epoch %d: loss %.4f (mean of the last %d), lr %.3e, gradient norm %s, %.1f pairs/s",
                record["step"], self.total_steps, record["epoch"], sum(self.losses) / len(self.losses),
                len(self.losses), record["lr"], record["grad_norm"], rate,
            )  # fmt: skip
            self.losses = []
        if self.scalars:
            for name in ("loss", "lr", "grad_norm"):
                if record[name] is not None:
                    self.scalars.add_scalar(tag=f"train/{name}", step=record["step"], value=record[name])

    def evaluation(self, record):
        """One evaluation: a dict with step, epoch, score, best_score and the metrics."""
        if not self.active:
            return
        self.run_folder.append_metrics(record)
        if self.scalars:
            self.scalars.add_scalar(tag="dev/score", step=record["step"], value=record["score"])
        draw_curves(self.run_folder)

    def close(self, reason):
        """The summary line at the end of a run."""
        self.bar.close()
        if self.scalars:
            self.scalars.close()
        if self.active:
            seconds = max(time.monotonic() - self.started, 1e-9)
            log.info("%s: %d pairs in %.0f s (%.1f pairs/s)", reason, self.pairs, seconds, self.pairs / seconds)


def draw_curves(run_folder):
    """Loss, learning rate and dev score by step, into `curves.png` of the run folder."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    records = run_folder.read_metrics()
    steps = [record for record in records if "loss" in record]
    scores = [record for record in records if "score" in record]
    figure, axes = pyplot.subplots(3, 1, figsize=(8, 9), sharex=True, layout="constrained")
    axes[0].plot([r["step"] for r in steps], [r["loss"] for r in steps], color="0.8", label="each step")
    window = max(1, len(steps) // 50)
    smooth = [sum(r["loss"] for r in steps[i - window : i]) / window for i in range(window, len(steps) + 1)]
    axes[0].plot([r["step"] for r in steps][window - 1 :], smooth, label=f"mean of {window}")
    axes[0].set_ylabel("loss")
    axes[0].legend()
    axes[1].plot([r["step"] for r in steps], [r["lr"] for r in steps])
    axes[1].set_ylabel("learning rate")
    for direction, label in (("i2t_retrieval", "text retrieval R@1"), ("t2i_retrieval", "image retrieval R@1")):
        points = [(r["step"], 100 * r["metrics"][direction]["R@1"]) for r in scores if direction in r["metrics"]]
        if points:
            axes[2].plot(*zip(*points, strict=True), marker="o", label=label)
    axes[2].set_ylabel("dev, %")
    axes[2].set_xlabel("optimizer step")
    if scores:
        axes[2].legend()
    temporary = run_folder.path / ".tmp-curves.png"
    figure.savefig(temporary, dpi=100)
    pyplot.close(figure)
    temporary.replace(run_folder.path / "curves.png")


def _visualdl_writer(run_folder):
    from visualdl import LogWriter

    return LogWriter(logdir=str(run_folder.path / "visualdl"))
