"""The one training loop.

A task (see `solvers.tasks.task`) says what an example is; the loop owns autocast, accumulation, the division of the
loss, clipping, schedule, checkpoints and reports. Everything random is a function of (seed, epoch, index) or (seed,
step, rank), so a run that is killed and started again repeats itself exactly.
"""

import contextlib
import functools
import logging
import math
import time
from pathlib import Path

import numpy as np
import paddle

from oscar_paddle.config.errors import TrainingError
from oscar_paddle.datasets.sampling import epoch_order, update_slices, updates_per_epoch
from oscar_paddle.models.checkpoints.input_settings import check_meaning, vocabulary_digest
from oscar_paddle.solvers.checkpoint import newest_checkpoint, read_training_state, restore_checkpoint, save_checkpoint
from oscar_paddle.solvers.loss_scaler import LossScaler
from oscar_paddle.solvers.monitor import Monitor
from oscar_paddle.solvers.optimizer import clip_gradients, global_norm
from oscar_paddle.solvers.prefetch import prefetch
from oscar_paddle.solvers.resume import check_resumable, resumed_lead, settings_for_resume
from oscar_paddle.solvers.run_folder import dump_config
from oscar_paddle.solvers.runtime import device_name
from oscar_paddle.solvers.scheduler import learning_rate
from oscar_paddle.solvers.scoring.evaluation import evaluate_in_training

log = logging.getLogger(__name__)

AUTOCAST = {"bf16": "bfloat16", "fp16": "float16"}


class Trainer:
    """Trains a model on a task.

    Args:
        model: layer with upstream parameter names and a `config`; called by the task only.
        optimizer: AdamW over the model's parameters.
        task: Task with its data.
        tokenizer: saved with every checkpoint.
        cfg: the frozen config.
        ranks: Ranks of this run.
        run_folder: RunFolder.
    """

    def __init__(self, model, optimizer, task, *, tokenizer, cfg, ranks, run_folder):
        self.model, self.optimizer, self.task, self.tokenizer = model, optimizer, task, tokenizer
        self.cfg, self.options, self.ranks, self.run_folder = cfg, cfg.OPTIMIZATION, ranks, run_folder
        task.model_config = model.config
        self.parameters = [p for p in model.parameters() if not p.stop_gradient]
        self.share = (self.options.BATCH_SIZE, ranks.world_size, self.options.GRADIENT_ACCUMULATION_STEPS)
        self.epoch_steps = updates_per_epoch(task.num_examples, *self.share)
        self.scaler = LossScaler(self.options.AMP == "fp16")
        self.step = self.lead = 0  # lead: how far the place in the data is ahead, after RESUME_INEXACT
        self.best_score, self.best_step, self.poor_evaluations = -math.inf, 0, 0

    @property
    def place(self):
        """Updates of the present size that lead to this place in the epochs."""
        return self.step + self.lead

    @property
    def total_steps(self):
        return self.options.MAX_STEPS or self.epoch_steps * self.options.EPOCHS - self.lead

    def run(self):
        """Train to the end, or until dev stops improving (OPTIMIZATION.EARLY_STOP_PATIENCE)."""
        self.resume()
        monitor = Monitor(
            self.run_folder,
            total_steps=self.total_steps,
            first_step=self.step,
            options=self.cfg.MONITOR,
            active=self.ranks.is_main,
            unit=self.task.unit,
        )
        steps = range(self.step, self.step if self.stops_early() else self.total_steps)
        batches = prefetch(self.prepare, steps, self.cfg.MISC.NUM_WORKERS)
        started = time.monotonic()
        with contextlib.closing(monitor), contextlib.closing(batches):
            for examples, micro_batches in batches:
                waited = time.monotonic() - started
                record = self.update(examples, micro_batches)
                now = time.monotonic()
                monitor.step(record, len(examples) * self.task.rows_per_example, now - started, waited)
                if self.evaluation_is_due():
                    monitor.evaluation(self.evaluate())
                if self.checkpoint_is_due():
                    self.save()
                if self.stops_early():
                    break
                started = time.monotonic()
            monitor.summary(self.outcome())

    def prepare(self, step):
        """Examples of the update that follows `step`, and this rank's batches of it; runs ahead, in a thread."""
        epoch, position = divmod(step + self.lead, self.epoch_steps)
        order = epoch_order(self.cfg.MISC.SEED, epoch, self.task.num_examples)
        shares = update_slices(order, position, *self.share)
        examples = np.concatenate([part for micro in shares for part in micro])
        mine = [micro[self.ranks.rank] for micro in shares]
        return examples, [self.task.batch(part, epoch) if len(part) else None for part in mine]

    def update(self, examples, micro_batches):
        """One optimizer update: the gradient of the loss over all ranks and micro-batches.

        Args:
            examples: [M] int, of all ranks.
            micro_batches: this rank's batches, from `task.batch`; None where the end of an epoch left it nothing.
        Returns:
            dict: step, epoch, loss, lr, grad_norm (before clipping; None when float16 overflowed).
        Raises:
            TrainingError: the loss or the gradient is not finite.
        """
        task, scale = self.task, self.scaler.scale
        lr = learning_rate(self.place + 1, self.options, task.recipe, self.total_steps + self.lead)
        factors = self.factors(micro_batches)
        self.model.train()
        zero = paddle.zeros([])
        shares = {name: [zero] * len(micro_batches) for name in task.terms}  # of the loss
        for number, batch in enumerate(micro_batches):
            if batch is None:
                continue
            paddle.seed(self.dropout_seed(number))
            task.forward = self.step * len(micro_batches) + number + 1
            with self.autocast():
                sums = task.losses(self.model, batch)
            parts = {name: sums[name] / divisors[number] * weight for name, (divisors, weight) in factors.items()}
            for name, part in parts.items():
                shares[name][number] = part.detach()
            (sum(part for name, part in parts.items() if task.terms[name].is_loss) * scale).backward()
        # All of a step runs without waiting for the device but twice: here, and in `factors` when ranks compare counts.
        sums = paddle.stack([part for parts in shares.values() for part in parts])
        self.ranks.sum_gradients(self.parameters, sums)
        *sums, norm = paddle.concat([sums, global_norm(self.parameters).reshape([1])]).tolist()
        values = zip(shares, np.reshape(sums, (len(shares), -1)), strict=True)
        losses, figures = {}, {}
        for name, parts in values:
            (losses if task.terms[name].is_loss else figures)[name] = math.fsum(parts)
        loss, norm = math.fsum(losses.values()), norm / scale
        finite = math.isfinite(norm)
        if not math.isfinite(loss) or not (finite or self.scaler.may_overflow):
            self.stop_on_non_finite(loss, norm, lr, examples)
        if finite:
            self.unscale_gradients()
            clip_gradients(self.parameters, task.recipe.clip, self.options.CLIP_MAX_NORM, norm)
            self.optimizer.update(lr)
        self.optimizer.clear_grad(set_to_zero=False)
        self.scaler.after_update(finite)
        epoch = self.place // self.epoch_steps + 1
        self.step += 1
        record = {"step": self.step, "epoch": epoch, "loss": loss, "lr": lr, "grad_norm": norm if finite else None}
        named = {"losses": losses if len(losses) > 1 else {}, "figures": figures}
        return {**record, **{what: parts for what, parts in named.items() if parts}}

    def factors(self, micro_batches):
        """{name of a term: (what each micro-batch's sum is divided by, weight of the quotients)} of one update.

        Counts are those of all micro-batches and ranks, so that any division of the same examples gives the same loss;
        a term per batch is divided by each batch's own, and counts as the mean over all batches of all ranks.
        """
        counts = []
        for number, batch in enumerate(micro_batches):
            self.task.forward = self.step * len(micro_batches) + number + 1
            counts.append({} if batch is None else self.task.counts(batch))
        mine = [sum(count.get(name, 0) for count in counts) for name in self.task.terms]
        *totals, batches = map(int, self.ranks.sum([*mine, sum(map(bool, counts))]))
        factors = {}
        for (name, term), total in zip(self.task.terms.items(), totals, strict=True):
            divisors = [count.get(name, 0) if term.per_batch else total for count in counts]
            weight = term.weight / max(1, batches) if term.per_batch else term.weight
            factors[name] = [max(1, divisor) for divisor in divisors], weight
        return factors

    @paddle.no_grad()
    def unscale_gradients(self):
        if self.scaler.enabled:
            for parameter in self.parameters:
                if parameter.grad is not None:
                    parameter.grad.scale_(1.0 / self.scaler.scale)

    def autocast(self):
        if self.options.AMP == "off":
            return contextlib.nullcontext()
        return paddle.amp.auto_cast(dtype=AUTOCAST[self.options.AMP], level="O1")

    def dropout_seed(self, micro_batch):
        words = [self.cfg.MISC.SEED, self.step, micro_batch, self.ranks.rank]
        return int(np.random.SeedSequence(words).generate_state(1)[0] >> 1)

    def stop_on_non_finite(self, loss, norm, lr, examples):
        raise TrainingError(
            f"step {self.step + 1}: loss {loss}, gradient norm {norm} at learning rate {lr:.3e}; nothing was saved "
            f"over the last checkpoint; the batch: {self.task.describe(examples)}"
        )

    def evaluation_is_due(self):
        monitor = self.cfg.MONITOR
        if not monitor.EVAL_FREQ and not monitor.EVAL_STEPS:
            return False
        return self._is_due(monitor.EVAL_FREQ, monitor.EVAL_STEPS)

    def checkpoint_is_due(self):
        new_best = self.best_step == self.step
        return new_best or self.stops_early() or self._is_due(self.cfg.OUTPUT.SAVE_FREQ, self.cfg.OUTPUT.SAVE_STEPS)

    def _is_due(self, epochs, steps):
        at_epoch = epochs and self.place % (epochs * self.epoch_steps) == 0
        at_step = steps and self.step % steps == 0
        return bool(at_epoch or at_step or self.step == self.total_steps)

    def stops_early(self):
        return 0 < self.options.EARLY_STOP_PATIENCE <= self.poor_evaluations

    def evaluate(self):
        """Score the dev split with all ranks; a better score makes this step the best one."""
        self.model.eval()
        dev = self.task.dev
        metrics = evaluate_in_training(self.model, dev, self.cfg, self.ranks)
        for line in dev.lines(metrics):
            log.info("%s", line)
        score = dev.best_by(metrics)
        if score > self.best_score:
            self.best_score, self.best_step, self.poor_evaluations = score, self.step, 0
        else:
            self.poor_evaluations += 1
        log.info("dev after step %d: score %.4f (best %.4f at %d)", self.step, score, self.best_score, self.best_step)
        epoch = -(-self.place // self.epoch_steps)
        return {"step": self.step, "epoch": epoch, "score": score, "best_score": self.best_score, "metrics": metrics}

    def outcome(self):
        """How the run ended, for the summary line."""
        words = "training is complete"
        if self.stops_early():
            words = f"stopped after {self.poor_evaluations} evaluations without a better score"
        words += f" at step {self.step} of {self.total_steps}"
        if self.best_step:
            words += f"; best dev score {self.best_score:.4f} at step {self.best_step}"
        if self.scaler.skipped_updates:
            words += f"; {self.scaler.skipped_updates} updates skipped by float16 loss scaling"
        return words

    def save(self):
        """Write checkpoint-<step> and move `last` (and `best`); the main rank only, the others wait."""
        self.ranks.on_main(self._save)

    def _save(self):
        self.run_folder.flush_metrics()
        folder = self.run_folder.checkpoint(self.step)
        save_checkpoint(folder, self.model, self.optimizer, self.tokenizer, self.state())
        self.run_folder.point("last", self.step)
        if self.best_step == self.step:
            self.run_folder.point("best", self.step)
        self.run_folder.prune(self.cfg.OUTPUT.KEEP, self.best_step)

    def state(self):
        epoch, position = divmod(self.place, self.epoch_steps)
        return {
            "step": self.step,
            "lead": self.lead,
            "epoch": epoch,
            "position_in_epoch": position,
            "best_score": self.best_score if self.best_step else None,
            "best_step": self.best_step,
            "poor_evaluations": self.poor_evaluations,
            "scheduler": {"name": self.options.LR_SCHEDULER, "step": self.step, "total_steps": self.total_steps},
            "loss_scaler": self.scaler.state(),
            "random_state": {"seed": self.cfg.MISC.SEED, "rule": "draws depend on seed, epoch, index, step, rank"},
            "settings": self.settings,
            "answers": self.task.answers,
            "vocabulary": vocabulary_digest(self.tokenizer.vocab),
            "config": {section: dict(keys) for section, keys in self.cfg.items()},
        }

    @functools.cached_property
    def settings(self):
        has_dropout = self.task.draws or any(getattr(layer, "p", 0) for layer in self.model.sublayers())
        model_config, data = self.model.config.to_dict(), self.task.fingerprint()
        world_size, device = self.ranks.world_size, device_name()
        return settings_for_resume(self.cfg, world_size, model_config, has_dropout, data, device)

    def resume(self):
        """Continue from PRETRAINED.RESUME, where it names a checkpoint or "auto" finds one; else start at step 0."""
        state = self.ranks.on_main(self._restore)
        if state:
            self.step, self.optimizer.updates = state["step"], state["optimizer_updates"]
            self.lead = state["lead"]
            self.scaler.restore(state["loss_scaler"])
            self.poor_evaluations = state["poor_evaluations"]
            if state["best_step"]:
                self.best_score, self.best_step = state["best_score"], state["best_step"]
            self.ranks.copy_from_main(self.optimizer.moments().values())
        self.ranks.copy_from_main(self.model.parameters())

    def _restore(self):
        """The state to continue from, or None; loads the tensors and brings the run folder to that step."""
        wanted = self.cfg.PRETRAINED.RESUME
        self.run_folder.claim()
        folder = state = None
        if wanted == "auto":
            folder, state = newest_checkpoint(self.run_folder)
        elif wanted:
            folder = Path(wanted).resolve()
            state = read_training_state(folder)
        elif self.run_folder.checkpoints():
            raise TrainingError(
                f"{self.run_folder.path}: holds checkpoints of an earlier run; set PRETRAINED.RESUME to auto to "
                "continue it, or another OUTPUT.SAVE_NAME"
            )
        if state:
            check_meaning(folder, self.tokenizer.vocab, self.task.answers)
            exact = check_resumable(state["settings"], self.settings, folder, self.cfg.PRETRAINED.RESUME_INEXACT)
            lead = state.get("lead", 0) if exact else resumed_lead(state, self.settings, self.epoch_steps)
            self.lead = state["lead"] = lead
            restore_checkpoint(folder, self.model, self.optimizer, state)
            log.info("resuming from %s: step %d of %d", folder, state["step"], self.total_steps)
        self.run_folder.return_to(state["step"] if state else 0, state["best_step"] if state else 0)
        dump_config(self.cfg, self.run_folder.path / "config.yaml")
        return state
