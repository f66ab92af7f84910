"""What a person sees of a training run: progress bar, log lines, metrics.jsonl, VisualDL scalars, curves.png."""

import logging
import time

from oscar_paddle.config.errors import UserError
from oscar_paddle.config.progress import tqdm
from oscar_paddle.solvers.curves import curve_values, draw_run

log = logging.getLogger(__name__)


class Monitor:
    """Reports of one run; does nothing on ranks other than the main one.

    Args:
        run_folder: RunFolder.
        total_steps: optimizer updates of the whole run.
        first_step: updates already done (resumed runs).
        options: the config section MONITOR.
        active: whether this is the main rank.
        unit: what an example is called.
    """

    def __init__(self, run_folder, *, total_steps, first_step, options, active, unit="pairs"):
        self.run_folder, self.options, self.active, self.unit = run_folder, options, active, unit
        self.total_steps = total_steps
        self.started = time.monotonic()
        self.pairs = 0
        self.recent = []  # (record, pairs, seconds, seconds of waiting) since the last log line
        self.bar = tqdm(
            total=total_steps,
            initial=first_step,
            desc="training",
            unit="step",
            disable=not active,
            dynamic_ncols=True,
            mininterval=0.5,
        )
        self.scalars = _visualdl_writer(run_folder, first_step) if options.VISUALDL and active else None

    def step(self, record, num_pairs, seconds, waited=0.0):
        """One optimizer update.

        Args:
            record: dict with step, epoch, loss, lr, grad_norm, and perhaps losses and figures by name.
            num_pairs: pairs of all ranks in this update.
            seconds: wall time of this update, waiting for data included.
            waited: seconds of it that were spent waiting for data.
        """
        if not self.active:
            return
        speed = {"pairs_per_s": round(num_pairs / seconds, 2), "waited_s": round(waited, 4)}
        self.run_folder.append_metrics({**record, **speed})
        self.pairs += num_pairs
        self.recent.append((record, num_pairs, seconds, waited))
        records, pairs, times, waits = zip(*self.recent, strict=True)
        loss, rate = sum(r["loss"] for r in records) / len(records), sum(pairs) / sum(times)
        shown = {"loss": f"{loss:.4f}", "lr": f"{record['lr']:.2e}", f"{self.unit}/s": f"{rate:.1f}"}
        self.bar.set_postfix(shown, refresh=False)
        self.bar.update(1)
        if record["step"] % self.options.PRINT_STEP == 0 or record["step"] == self.total_steps:
            log.info(
                "step %d of %d, epoch %d: loss %.4f (mean of the last %d)%s, lr %.3e, gradient norm %s, %.1f %s/s, "
                "%.1f %% of the time waiting for data",
                record["step"],
                self.total_steps,
                record["epoch"],
                loss,
                len(records),
                "".join(f", {name} {value:.4f}" for name, value in _means(records).items()),
                record["lr"],
                "overflow, update skipped" if record["grad_norm"] is None else f"{record['grad_norm']:.3f}",
                rate,
                self.unit,
                100 * sum(waits) / sum(times),
            )
            self.recent = []
        if self.scalars:
            for name in ("loss", "lr", "grad_norm"):
                if record[name] is not None:
                    self.scalars.add_scalar(tag=f"train/{name}", step=record["step"], value=record[name])
            for name, value in _means([record]).items():
                self.scalars.add_scalar(tag=f"train/{name}", step=record["step"], value=value)

    def evaluation(self, record):
        """One evaluation: a dict with step, epoch, score, best_score and the metrics."""
        if not self.active:
            return
        self.run_folder.append_metrics(record)
        if self.scalars:
            for name, value in {"score": record["score"], **curve_values(record["metrics"])}.items():
                self.scalars.add_scalar(tag=f"dev/{name}", step=record["step"], value=value)
        try:
            draw_curves(self.run_folder)
        except OSError as error:  # a picture less is no reason to stop
            log.warning("%s/curves.png: cannot be drawn: %s", self.run_folder.path, error)

    def summary(self, outcome):
        """The line at the end of a run."""
        self.bar.close()
        if self.active:
            seconds = max(time.monotonic() - self.started, 1e-9)
            speed = f"{self.pairs} {self.unit} in {seconds:.0f} s ({self.pairs / seconds:.1f} {self.unit}/s)"
            log.info("%s; %s; %s", outcome, speed if self.pairs else "nothing left to do", self.run_folder.path)

    def close(self):
        """Clear away the bar and finish the files, whatever ended the run."""
        self.bar.close()
        if self.scalars:
            self.scalars.close()


def _means(records):
    """{name: mean} of the named losses and figures of some updates."""
    parts = [{**record.get("losses", {}), **record.get("figures", {})} for record in records]
    return {name: sum(part[name] for part in parts) / len(parts) for name in parts[0]}


def draw_curves(run_folder):
    """Loss, learning rate and dev scores by step, into `curves.png` of the run folder."""
    temporary = run_folder.path / ".tmp-curves.png"
    draw_run(run_folder.read_metrics(), run_folder.path.name).savefig(temporary, dpi=100)
    temporary.replace(run_folder.path / "curves.png")


def _visualdl_writer(run_folder, first_step):
    """A new file for every start of the run; VisualDL shows the files of a folder as one."""
    try:
        from visualdl import LogWriter
    except ModuleNotFoundError:
        raise UserError("MONITOR.VISUALDL needs the package visualdl: pip install 'oscar-paddle[visualdl]'") from None
    return LogWriter(logdir=str(run_folder.path / "visualdl"), file_name=f"vdlrecords.from-step-{first_step}.log")
