"""One way of tools/bench_refer.py: scores expressions about made-up images, and takes training steps on them.

Shape letters: B expressions, L and R slots of text and regions, V width of regions.
"""

import tempfile
import time

import numpy as np
import paddle
import paddle.nn.functional as F

from oscar_paddle.models.bert import EqualRows
from oscar_paddle.models.config import VilbertConfig
from oscar_paddle.models.stream_packing import pack_streams
from oscar_paddle.models.vilbert import VilbertForReferring
from oscar_paddle.solvers.optimizer import AdamW, clip_gradients
from oscar_paddle.solvers.ranks import Ranks
from oscar_paddle.solvers.runtime import set_up_cpu_kernels
from oscar_paddle.solvers.scoring.region_program import region_backend
from oscar_paddle.solvers.tasks.task import Group, Recipe

TEXT, REGIONS = 20, 100  # slots of the published way
EXPRESSIONS = 6  # about an image: about 7 of RefCOCO+ are
SPECIAL = 2  # [CLS] and [SEP] stand around the word pieces
LR, SCRATCH, DECAY, BOUND = 4e-5, 2.5, 0.01, 1.0  # the port's recipe: rate, its factor for the score, decay, clipping


class Refer:
    """Args: name: of the way. args: of the tool."""

    def __init__(self, name, args):
        paddle.set_device("cpu")
        paddle.seed(1)
        self.model, self.args = VilbertForReferring(_config(args.layers, args.width)), args
        paddle.nn.initializer.Normal(std=0.2)(self.model.vision_logit.weight)  # scores of a few units

    def arrays(self, pieces, rows):
        """What a batch of expressions is made of, see `pack_streams`; the same for every way."""
        rng, count, images = np.random.RandomState(0), self.args.expressions, self.args.expressions // EXPRESSIONS
        length = pieces + SPECIAL
        return {
            "input_ids": rng.randint(1000, self.model.config.vocab_size, count * length),
            "token_type_ids": np.zeros(count * length, np.int64),
            "position_ids": np.tile(np.arange(length), count),
            "text_length": np.full(count, length),
            "img_feats": np.maximum(rng.standard_normal((images * rows, 2048)), 0).astype(np.float32),
            "img_locs": rng.rand(images * rows, 5).astype(np.float32),
            "num_regions": np.full(count, rows),
            "region_start": np.repeat(np.arange(images) * rows, EXPRESSIONS),
            "targets": (rng.rand(count * rows) > 0.8).astype(np.float32),
        }

    def scores(self, pieces, rows):
        """[expressions * rows] float32 of the real regions, as a list."""
        self.model.eval()
        with paddle.no_grad():
            return self.score(self.arrays(pieces, rows)).tolist()

    def scoring(self, pieces, rows):
        """Seconds of scoring all expressions once, from arrays to scores."""
        self.model.eval()
        arrays = self.arrays(pieces, rows)
        started = time.perf_counter()
        with paddle.no_grad():
            self.score(arrays)
        return time.perf_counter() - started

    def training(self, pieces, rows):
        """Seconds of one training step, from arrays to new weights."""
        self.model.train()
        arrays = self.arrays(pieces, rows)
        started = time.perf_counter()
        self.loss(arrays).backward()
        self.update()
        return time.perf_counter() - started


def _config(blocks, width):
    """The published sizes, or some of them smaller."""
    regions = width * 4 // 3
    return VilbertConfig(
        num_hidden_layers=2 * blocks,
        hidden_size=width,
        num_attention_heads=width // 64 if width % 64 == 0 else 1,
        intermediate_size=4 * width,
        v_num_hidden_layers=blocks,
        v_hidden_size=regions,
        v_num_attention_heads=regions // 128,
        v_intermediate_size=regions,
        bi_hidden_size=regions,
        bi_num_attention_heads=regions // 128,
        v_biattention_id=list(range(blocks)),
        t_biattention_id=list(range(blocks, 2 * blocks)),
    )


class Ours(Refer):
    """The exported program for scores, packed rows and the trunk's optimizer for training."""

    def __init__(self, name, args):
        set_up_cpu_kernels()
        super().__init__(name, args)
        self.optimizer = None
        self.programs = tempfile.TemporaryDirectory(dir=args.work_dir)
        options = {"weights": "made up", "programs": self.programs.name, "ranks": Ranks()}
        self.backend = region_backend(self.model, args.backend, "float32", **options)

    def score(self, arrays):
        return np.asarray(self.backend.region_scores(pack_streams(arrays)))

    def loss(self, arrays):
        scores = self.model(pack_streams(arrays))
        targets = paddle.to_tensor(arrays["targets"])
        return F.binary_cross_entropy_with_logits(scores, targets, reduction="sum") / len(arrays["num_regions"])

    def update(self):
        if self.optimizer is None:
            groups = (Group(("vision_logit.bias",), lr=SCRATCH), Group(("vision_logit.",), decays=False, lr=SCRATCH))
            groups += (Group(("bias", "LayerNorm.weight")), Group((), decays=False))
            recipe = Recipe(adamw="corrected", groups=groups, clip="value")
            named = list(self.model.named_parameters())
            self.optimizer = AdamW(named, weight_decay=DECAY, epsilon=1e-8, recipe=recipe)
        clip_gradients([parameter for _, parameter in self.optimizer.named], "value", BOUND, 0.0)
        self.optimizer.update(LR)
        self.optimizer.clear_grad(set_to_zero=False)


class Published(Refer):
    """Padded slots, every region of an image for every expression, all layers and heads, Paddle's own AdamW."""

    def __init__(self, name, args):
        super().__init__(name, args)
        self.optimizers = None
        for parameter in self.model.parameters():
            parameter.stop_gradient = False

    def score(self, arrays):
        inside = np.arange(REGIONS) < arrays["num_regions"][:, None]
        return self._logits(arrays).numpy()[inside]

    def loss(self, arrays):
        logits = self._logits(arrays)
        targets = np.zeros(logits.shape, np.float32)
        targets[np.arange(REGIONS) < arrays["num_regions"][:, None]] = arrays["targets"]
        return F.binary_cross_entropy_with_logits(logits, paddle.to_tensor(targets)) * REGIONS

    def update(self):
        if self.optimizers is None:
            self.optimizers = [self._adamw(True, LR * SCRATCH), self._adamw(False, LR)]
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.clear_grad(set_to_zero=False)

    def _adamw(self, from_scratch, lr):
        scratch = ("vil_prediction", "vil_logit", "vision_logit")
        named = [(n, p) for n, p in self.model.named_parameters() if any(s in n for s in scratch) == from_scratch]
        decayed = {p.name for n, p in named if "bias" in n or "LayerNorm.weight" in n}
        return paddle.optimizer.AdamW(
            lr,
            epsilon=1e-8,
            weight_decay=DECAY,
            apply_decay_param_fun=lambda name: name in decayed,
            parameters=[parameter for _, parameter in named],
            grad_clip=paddle.nn.ClipGradByValue(BOUND),
        )

    def _logits(self, arrays):
        """[B, REGIONS], hidden ones near -10000."""
        rows, count = arrays["num_regions"], len(arrays["num_regions"])
        text, seen = (np.arange(slots) < n[:, None] for slots, n in ((TEXT, arrays["text_length"]), (REGIONS, rows)))
        ids = np.zeros(text.shape, np.int64)
        ids[text] = arrays["input_ids"]
        features, locations = (np.zeros((count, REGIONS, width), np.float32) for width in (2048, 5))
        order = (arrays["region_start"][:, None] + np.arange(REGIONS))[seen]
        features[seen], locations[seen] = arrays["img_feats"][order], arrays["img_locs"][order]
        masks = (text.astype(np.float32), seen.astype(np.float32))
        return self._forward(*map(paddle.to_tensor, (ids, features, locations, *masks)))

    def _forward(self, ids, features, locations, text_mask, region_mask):
        model, bert, encoder = self.model, self.model.bert, self.model.bert.encoder
        text_rows, region_rows = (EqualRows(((1.0 - m) * -10000.0).unsqueeze([1, 2])) for m in (text_mask, region_mask))
        text = bert.embeddings(ids, paddle.zeros_like(ids), paddle.arange(TEXT).expand_as(ids))
        regions = bert.dropout(bert.v_embeddings(features, locations))
        done_regions = done_text = 0
        for block, (v_stop, t_stop) in zip(encoder.c_layer, encoder.stops, strict=True):
            for layer in encoder.v_layer[done_regions:v_stop]:
                regions = layer(regions, region_rows)
            for layer in encoder.layer[done_text:t_stop]:
                text = layer(text, text_rows)
            regions, text = block(regions, text, region_rows, text_rows)
            done_regions, done_text = v_stop, t_stop
        for layer in encoder.v_layer[done_regions:]:
            regions = layer(regions, region_rows)
        for layer in encoder.layer[done_text:]:
            text = layer(text, text_rows)
        self._other_heads(text, regions)
        logits = model.vision_logit(model.dropout(regions)).squeeze(-1)
        return logits + (1.0 - region_mask) * -10000.0

    def _other_heads(self, text, regions):
        model, bert = self.model, self.model.bert
        pooled = F.relu(bert.t_pooler.dense(text[:, 0])) * F.relu(bert.v_pooler.dense(regions[:, 0]))
        words, image = model.cls.predictions, model.cls.imagePredictions
        hidden = words.transform.LayerNorm(F.gelu(words.transform.dense(text)))
        scores = paddle.matmul(hidden, bert.embeddings.word_embeddings.weight, transpose_y=True) + words.bias
        classes = image.decoder(image.transform.LayerNorm(F.gelu(image.transform.dense(regions))))
        answers = model.vil_logit(pooled), model.cls.bi_seq_relationship(pooled), model.linguisic_logit(text)
        first, last = (getattr(model.vil_prediction.main, number) for number in ("0", "3"))
        for layer in (first, last):
            weight = layer.weight_v * (layer.weight_g / paddle.linalg.norm(layer.weight_v))
            pooled = F.relu(paddle.matmul(pooled, weight, transpose_y=True) + layer.bias)
        return scores, classes, answers, pooled
