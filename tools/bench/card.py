"""One side of tools/check_gpu.py, a card or the CPU it is compared with: the same model, data and batches on both."""

import os
import time
from pathlib import Path

import numpy as np
import paddle
from safetensors.numpy import load_file, save_file

from oscar_paddle.config.default import get_cfg_defaults
from oscar_paddle.models.bert import BertSelfAttention
from oscar_paddle.models.checkpoints.weights import load_into, write_model
from oscar_paddle.solvers.checkpoint import read_training_state, restore_checkpoint, save_checkpoint
from oscar_paddle.solvers.machine import tf32
from oscar_paddle.solvers.optimizer import build_optimizer
from oscar_paddle.solvers.ranks import Ranks
from oscar_paddle.solvers.runtime import device_name, on_gpu, set_device
from oscar_paddle.solvers.scoring.backends import EagerBackend
from oscar_paddle.solvers.scoring.fused import fused_attention_works
from oscar_paddle.solvers.scoring.pairs import PairScorer
from oscar_paddle.solvers.scoring.rows import Block
from oscar_paddle.solvers.tasks.retrieval import RetrievalTask
from oscar_paddle.solvers.trainer import Trainer
from oscar_paddle.tools.bench.made_up import made_up_data, made_up_model

STEPS, OVERFLOW = 20, 10  # of a run in mixed precision; the step whose gradient is made infinite
LR = 1e-4
MODEL, GRADIENTS, WEIGHTS = "model.safetensors", "gradients", "weights"


class Side:
    """Every method is one question of the tool; arrays that are large go into files of args.work_dir.

    Args:
        name: "card" runs on args.device, anything else on the CPU.
        args: the tool's arguments, and work_dir.
    """

    def __init__(self, name, args):
        cfg = get_cfg_defaults()
        cfg.MISC.DEVICE = args.device if name == "card" else "cpu"
        set_device(cfg)
        self.name, self.args, self.ranks = name, args, Ranks()
        self.data = made_up_data(args.work_dir, 8 * args.pairs, 8 * args.pairs)
        self.model = self.new_model()
        self.scored = Block(range(args.pairs), range(8 * args.pairs))

    def new_model(self):
        """Without dropout; weights from NumPy, as Paddle draws other numbers on every kind of device."""
        off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        model = made_up_model(self.args.width, self.args.layers, use_img_layernorm=1, **off)
        random = np.random.default_rng(0)
        for name, parameter in model.named_parameters():
            values = 0.05 * random.standard_normal(parameter.shape) + name.endswith("LayerNorm.weight")
            parameter.set_value(values.astype(np.float32))
        return model

    def trainer(self, amp="off", model=None, batch=None):
        cfg = get_cfg_defaults()
        words = {"BATCH_SIZE": batch or self.args.pairs, "MAX_STEPS": STEPS, "LR": LR, "AMP": amp}
        cfg.merge_from_list([word for key, value in words.items() for word in (f"OPTIMIZATION.{key}", value)])
        task, model = RetrievalTask(cfg, train=self.data), model or self.new_model()
        optimizer = build_optimizer(model, cfg.OPTIMIZATION, task.recipe)
        return Trainer(model, optimizer, task, tokenizer=NoWords(), cfg=cfg, ranks=self.ranks, run_folder=None)

    # ---- what is here

    def facts(self):
        """{name: text} for people."""
        found = {"device": device_name(), "Paddle": f"{paddle.__version__}, CUDA {paddle.version.cuda()}"}
        if on_gpu():
            found["cuDNN"] = str(paddle.get_cudnn_version())
            found["compute capability"] = ".".join(map(str, paddle.device.cuda.get_device_capability()))
            found["cards"] = str(paddle.device.cuda.device_count())
            found["memory"] = f"{paddle.device.cuda.get_device_properties().total_memory / 2**30:.1f} GiB"
        left, right = np.random.default_rng(0).standard_normal((2, 256, 256)).astype(np.float32)
        exact = left.astype(np.float64) @ right
        error = np.abs(paddle.matmul(paddle.to_tensor(left), paddle.to_tensor(right)).numpy() - exact).max()
        allowed = "allowed" if tf32() else "switched off (NVIDIA_TF32_OVERRIDE=0)"
        found["TF32"] = f"{allowed}; a product of float32 matrices is off by {error / np.abs(exact).max():.1g}"
        return found

    def has(self, precision):
        """Whether mixed precision is to be had here; a CPU takes part in float32 whatever is asked for."""
        return not on_gpu() or precision != "bfloat16" or paddle.amp.is_bfloat16_supported()

    def attention(self, precision):
        """(whether the probe of fused attention accepts it, {length: what Paddle chooses for it})."""
        attention, chosen = self.model.bert.encoder.layer[0].attention.self, {}
        self.model.eval()
        for length in (93, 96):
            shape = [2, length, attention.num_heads, attention.head_width]
            values = paddle.ones(shape).astype(precision)
            with _Chosen() as kernel, paddle.no_grad():
                attention._fused_attention(values, values, values, paddle.zeros([2, 1, 1, length]).astype(precision))
            chosen[length] = kernel.name
        return fused_attention_works(attention, precision), chosen

    # ---- scoring

    def margins(self, precision="float32", fused=False, masked=True):
        """[pairs x captions] float32; in large batches, where rows are padded."""
        attend = BertSelfAttention._fused_attention
        if not masked:
            BertSelfAttention._fused_attention = lambda self, q, k, v, bias: attend(self, q, k, v, bias * 0)
        try:
            backend = EagerBackend(self.model, precision, fused)
            return PairScorer(backend, self.data, 2**20).score(self.scored).ravel()
        finally:
            BertSelfAttention._fused_attention = attend

    # ---- training

    def gradients(self, recompute=False):
        """(loss, file of the gradients of a batch)."""
        trainer = self.trainer(model=self.model)
        self.model.bert.encoder.recompute = recompute
        self.model.train()
        batch = trainer.task.batch(np.arange(self.args.pairs), 0)
        (total,) = trainer.task.losses(self.model, batch).values()
        loss = total / trainer.task.counts(batch)["match"]
        loss.backward()
        found = {name: p.grad.numpy() for name, p in self.model.named_parameters() if p.grad is not None}
        self.model.bert.encoder.recompute = False
        self.model.clear_gradients()
        return loss.item(), self._write(f"{GRADIENTS}{'-recompute' * recompute}", found)

    def updates(self, gradients):
        """(file of the weights after three updates from the gradients of a file, largest beta power)."""
        trainer, values = self.trainer(), load_file(gradients)
        optimizer = trainer.optimizer
        for _ in range(3):
            for name, parameter in trainer.model.named_parameters():
                if name in values:
                    parameter.grad = paddle.to_tensor(values[name])
            optimizer.update(LR)
        powers = [
            optimizer._get_accumulator(kind, p).item()
            for kind in (optimizer._beta1_pow_acc_str, optimizer._beta2_pow_acc_str)
            for _, p in optimizer.named
        ]
        return self._write(WEIGHTS, {n: p.numpy() for n, p in trainer.model.named_parameters()}), max(map(abs, powers))

    def steps(self, amp):
        """Losses of a short run; in fp16 with an overflow, and then (scale before, after, whether weights moved)."""
        trainer, losses, overflow = self.trainer(amp), [], None
        for step in range(STEPS):
            injected = amp == "fp16" and step == OVERFLOW
            before = trainer.scaler.scale, [p.numpy() for p in trainer.model.parameters()] if injected else None
            trainer.ranks = _Overflowing() if injected else self.ranks
            losses.append(trainer.update(*trainer.prepare(0))["loss"])
            if injected:
                kept = zip(before[1], trainer.model.parameters(), strict=True)
                overflow = before[0], trainer.scaler.scale, any((old != p.numpy()).any() for old, p in kept)
        return losses, overflow

    def resumed(self):
        """Largest difference of the weights of a run that was saved, read and continued to those of an unbroken one."""
        whole, first = self.trainer(), self.trainer()
        folder = os.path.join(self.args.work_dir, f"{self.name}-checkpoint")
        for step in range(6):
            whole.update(*whole.prepare(step))
            if step < 3:
                first.update(*first.prepare(step))
        save_checkpoint(Path(folder), first.model, first.optimizer, NoWords(), {"step": 3})
        second = self.trainer()
        state = read_training_state(folder)
        restore_checkpoint(folder, second.model, second.optimizer, state)
        second.step, second.optimizer.updates = state["step"], state["optimizer_updates"]
        for step in range(3, 6):
            second.update(*second.prepare(step))
        pairs = zip(whole.model.parameters(), second.model.parameters(), strict=True)
        return max(float(np.abs(a.numpy() - b.numpy()).max()) for a, b in pairs)

    # ---- files

    def save(self):
        """Folder of the model as this side writes it."""
        folder = Path(self.args.work_dir) / "saved"
        folder.mkdir()
        write_model(folder, self.model)
        return str(folder)

    def read(self, folder):
        """Read that folder; margins in float32."""
        load_into(self.model, load_file(os.path.join(folder, MODEL)), folder)
        return self.margins()

    # ---- speed

    def speed(self, batch, precision):
        """Rates and the most memory of training steps (`batch` positives), and of scoring."""
        trainer = self.trainer({"float32": "off", "bfloat16": "bf16", "float16": "fp16"}[precision], batch=batch)
        prepared = trainer.prepare(0)
        if on_gpu():
            paddle.device.cuda.reset_max_memory_allocated()
        seconds = []
        for _ in range(4):
            started = time.perf_counter()
            trainer.update(*prepared)
            seconds.append(time.perf_counter() - started)
        scorer = PairScorer(EagerBackend(self.model, precision), self.data, 16384 if on_gpu() else 4096)
        memory = paddle.device.cuda.max_memory_allocated() / 2**30 if on_gpu() else 0.0
        return {
            "batch": batch,
            "precision": precision,
            "trained pairs/s": 2 * batch / min(seconds[1:]),
            "scored pairs/s": scorer.speed(self.scored),
            "training memory GiB": memory,
        }

    def _write(self, name, arrays):
        path = os.path.join(self.args.work_dir, f"{self.name}-{name}.safetensors")
        save_file({key: np.ascontiguousarray(value) for key, value in arrays.items()}, path)
        return path


class NoWords:
    """The tokenizer of made-up data."""

    def save(self, folder):
        pass


class _Overflowing(Ranks):
    """A rank whose gradients overflow."""

    @paddle.no_grad()
    def sum_gradients(self, parameters, passengers):
        parameters[0].grad.scale_(float("inf"))


class _Chosen:
    """Which attention Paddle chooses meanwhile, as the function that chooses it answers."""

    def __enter__(self):
        from paddle.nn.functional import sdpa

        self.module, self.select, self.name = sdpa, sdpa.select_sdp_for_sdpa, "?"

        def select(parameters):
            self.name = self.select(parameters)
            return self.name

        sdpa.select_sdp_for_sdpa = select
        return self

    def __exit__(self, *_):
        self.module.select_sdp_for_sdpa = self.select
