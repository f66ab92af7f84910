"""Captions as results: rows of ids and scores, written by an exported program or by Paddle as it is.

Shape letters: B images of a batch, K captions an image that are being written, N positions of the longest prefix, G
longest caption, V words, A heads, D width of a head.
"""

import logging
import tempfile
import time

import numpy as np
import paddle

from oscar_paddle.config.errors import UserError
from oscar_paddle.datasets.caption_prefix import CaptionPrefix
from oscar_paddle.models.generation import Captions, EagerWriter, Seen, generate
from oscar_paddle.models.packing import check_ids
from oscar_paddle.models.visibility import HIDDEN_BIAS
from oscar_paddle.solvers.runtime import device_name, float32_name
from oscar_paddle.solvers.scoring.backends import AGREES, HALF_AGREES, inference_on_all, planned_backend
from oscar_paddle.solvers.scoring.exported import (
    export_quietly,
    exported_program,
    last_line,
    load_predictor,
    num_threads,
)
from oscar_paddle.solvers.scoring.programs import CAPTION_STATES, CAPTIONS
from oscar_paddle.solvers.scoring.rows import Block, BlockScorer

log = logging.getLogger(__name__)

BLOCK_IMAGES = 64  # what a killed run may lose; several batches
WORTH_EXPORTING = 64  # images: an export takes a second or two, and a BERT-base is written to the disk


# ---- what runs the passes ----


class ExportedWriter(EagerWriter):
    """Runs passes with an exported program on the CPU; see `EagerWriter`.

    What was prepared for a shape stays in memory, so widths of prefixes and room for words come in few sizes.

    Args:
        model: with `bert` and `word_logits`, for the regions and, in half precision, for the head.
        folder: where the program was exported. precision: "float32" or "bfloat16".
    Raises:
        UserError: the program cannot be loaded.
    """

    multiple = 16

    def __init__(self, model, folder, precision="float32"):
        super().__init__(model)
        self.precision, self.threads = precision, num_threads()
        self.name = f"Paddle Inference with oneDNN, {precision}, on {device_name()}"
        self.predictor = load_predictor(folder, precision)
        self.inputs = self.predictor.get_input_names()

    @paddle.no_grad()
    def embed_regions(self, img_feats):
        return super().embed_regions(img_feats)

    @paddle.no_grad()
    def run(self, new, seen, logits=True):
        layers, images, width = self.config.num_hidden_layers, *new.order.shape
        seen = [*seen, *[self._nothing(images, width)] * (2 - len(seen))]
        # A bias that is the same for all images takes oneDNN's slowest way, a hundred times the matrix product.
        bias = np.repeat(new.bias, images, axis=0) if len(new.bias) < images else new.bias
        given = new._replace(bias=bias)._asdict()
        for what, part in zip(("prefix", "words"), seen, strict=True):
            given[f"{what}_bias"] = part.bias
            for field in ("keys", "values"):
                given |= {f"{what}_{field}_{number}": one for number, one in enumerate(getattr(part, field))}
        found = self.predictor.run([_tensor(given[name]) for name in self.inputs])
        paddle.base.core.set_num_threads(self.threads)  # a run leaves 1 behind, for all of this process
        states, keys, values = found[0], found[1 : 1 + layers], found[1 + layers :]
        if logits and self.precision != "float32":
            states = self.model.word_logits(states)
        return states if logits else None, keys, values

    def join(self, words, count, keys, values):
        images, heads, new, width = keys[0].shape
        if words is None or words.keys[0].shape[2] < count + new:
            some = max(16, 4 * new)
            room = [images, heads, -(-(count + new) // some) * some, width]
            roomy = [[paddle.zeros(room) for _ in keys] for _ in range(2)]
            for old, parts in zip(words[:2] if words else ((), ()), roomy, strict=True):
                for part, own in zip(parts, old, strict=False):
                    part[:, :, :count] = own[:, :, :count]
            words = Seen(*roomy, None)
        for parts, own in zip(words[:2], (keys, values), strict=True):
            for part, one in zip(parts, own, strict=True):
                part[:, :, count : count + new] = one
        return words

    def _nothing(self, images, width):
        """Where there are no earlier positions: one that nobody sees."""
        heads = self.config.num_attention_heads
        one = paddle.zeros([images, heads, 1, self.config.hidden_size // heads])
        bias = np.full((images, 1, width, 1), HIDDEN_BIAS, np.float32)
        return Seen(*[[one] * self.config.num_hidden_layers] * 2, bias)


def _tensor(value):
    """What the program takes; it reads a slice's memory as if it were a whole tensor's."""
    return value.contiguous() if isinstance(value, paddle.Tensor) else paddle.to_tensor(value)


def build_writer(model, backend, precision, *, weights, programs, ranks):
    """What the settings ask for; with "auto" the fastest exact way that works here.

    Args:
        model: with `bert` and `word_logits`; it is put into evaluation mode.
        backend, precision: EVAL.BACKEND and EVAL.PRECISION.
        weights: hash of the weights. programs: folder of exported programs. ranks: Ranks.
    Returns:
        EagerWriter or ExportedWriter, with a `name` for people.
    Raises:
        ConfigError: see `planned_backend`. UserError: Paddle Inference was asked for and does not work here.
    """
    if planned_backend(backend, precision) == "eager":
        return eager_writer(model, precision)
    output = CAPTIONS if precision == "float32" else CAPTION_STATES

    def export():
        return exported_program(model, weights, programs, output)

    def attempt():
        folder = ranks.on_main(export)
        if not folder.is_dir():  # a rank on another machine
            folder = export()
        return _checked(model, folder, precision)

    must = backend == "inference" or precision != "float32"
    return inference_on_all(attempt, ranks, must) or eager_writer(model)


def writer_in_training(model, num_images):
    """The float32 writer for weights that will change again; an export is worth its seconds for many images only."""
    if num_images < WORTH_EXPORTING or planned_backend("auto", "float32") == "eager":
        return eager_writer(model)
    try:
        with tempfile.TemporaryDirectory() as folder:
            export_quietly(model, folder, CAPTIONS)
            return _checked(model, folder, "float32")  # reads all of it
    except (UserError, OSError) as error:
        log.warning("Paddle Inference does not work here, using eager Paddle: %s", error)
        return eager_writer(model)


def eager_writer(model, precision="float32"):
    """An EagerWriter of the model in evaluation mode, with a name."""
    model.eval()
    writer = EagerWriter(model, precision)
    writer.name = f"eager Paddle, {float32_name() if precision == 'float32' else precision}, on {device_name()}"
    return writer


def _checked(model, folder, precision):
    """ExportedWriter; UserError: it fails, or does not give what the model gives."""
    eager = eager_writer(model)
    writer = ExportedWriter(model, folder, precision)
    wanted = _probe(eager)
    try:
        found = _probe(writer)
    except Exception as error:  # whatever C++ raises becomes some Python type
        raise UserError(f"{writer.name} fails: {last_line(error)}") from None
    most = (AGREES if precision == "float32" else HALF_AGREES) * max(1.0, float(np.abs(wanted).max()))
    difference = np.abs(found - wanted).max()
    if not np.isfinite(found).all() or difference > most:
        raise UserError(f"{writer.name} gives scores of words that differ from the model's by {difference:g}")
    return writer


@paddle.no_grad()
def _probe(writer):
    """Scores of words after two steps with two captions of two made-up images."""
    rng = np.random.RandomState(0)
    prefix = CaptionPrefix(
        input_ids=rng.randint(0, writer.config.vocab_size, 3),
        token_type_ids=np.zeros(3, np.int64),
        position_ids=np.arange(3) % writer.config.max_position_embeddings,
        text_length=np.array([3, 0]),
        img_feats=rng.rand(5, writer.config.img_feature_dim).astype(np.float32),
        num_regions=np.array([2, 3]),
    )
    captions = Captions(writer, prefix, mask_id=0)
    first = captions.advance(np.zeros((2, 1), np.int64))
    words = rng.randint(0, writer.config.vocab_size, (2, 2))
    second = captions.advance(words, np.zeros((2, 2), np.int64))
    return np.concatenate([np.asarray(first), np.asarray(second)], axis=1)


# ---- captions of a data set ----


class CaptionBackend:
    """What `CaptionScorer` runs: a writer, and how captions are made.

    Args:
        writer: EagerWriter or ExportedWriter. specials, decoding: see `models.decoding`.
        draws: function of the numbers of images [B] -> draws for samples, see `models.decoding.search`.
    """

    def __init__(self, writer, specials, decoding, draws=lambda images: None):
        self.writer, self.config, self.name = writer, writer.config, writer.name
        self.specials, self.decoding, self.draws = specials, decoding, draws

    @property
    def columns(self):
        """Of an image's results: for each caption its ids and its score."""
        return self.decoding.keep * (self.decoding.max_length + 1)

    @property
    def written(self):
        """At most so many words of an image have their keys and values in memory."""
        return max(self.decoding.num_beams, self.decoding.keep) * self.decoding.max_length

    def captions(self, prefix, images):
        """CaptionPrefix of the images with these numbers [B] -> [B, columns] float32."""
        ids, scores = generate(self.writer, prefix, self.specials, self.decoding, self.draws(images))
        return np.concatenate([ids, scores[:, :, None]], axis=2).astype(np.float32).reshape(len(ids), -1)


def caption_groups(num_images, columns):
    """All images as Blocks, whatever the number of ranks; each is a group of its own, see `score_blocks`."""
    starts = range(0, num_images, BLOCK_IMAGES)
    return [[Block(range(start, min(start + BLOCK_IMAGES, num_images)), range(columns))] for start in starts]


def split_captions(results, longest):
    """Results [images, keep * (longest + 1)] float32 -> (ids [images, keep, longest] int64, scores [images, keep])."""
    parts = results.reshape(len(results), -1, longest + 1)
    return parts[:, :, :longest].astype(np.int64), parts[:, :, longest]


class CaptionScorer(BlockScorer):
    """Writes captions for the images of a data set; `backend` is a CaptionBackend.

    `batch_tokens` bounds the positions of a batch whose keys and values are in memory. The data set has `image_ids` and
    `prefix(images)`, see CaptionPrefix.
    """

    unit, output, layout = "images", "captions", {"block_images": BLOCK_IMAGES}

    @property
    def title(self):
        return f"captions of {len(self.data.image_ids):,} images"

    def amount(self, block):
        return len(block.rows)

    def block_batches(self, block):
        """Yields (which of the block's rows [B], CaptionPrefix), those with the longest prefix first."""
        prefix = self.data.prefix(np.array(block.rows))
        check_ids(prefix._asdict(), self.backend.config, lambda row: f"image {self.data.image_ids[block.rows[row]]}")
        lengths = prefix.text_length + prefix.num_regions
        order = np.argsort(-lengths, kind="stable")
        while len(order):
            count = max(1, self.batch_tokens // (int(lengths[order[0]]) + self.backend.written))
            yield order[:count], prefix.take(order[:count])
            order = order[count:]

    def score(self, block, on_done=lambda units: None):
        found = np.zeros((len(block.rows), self.backend.columns), np.float32)
        for rows, prefix in self.block_batches(block):
            found[rows] = self.run(prefix, np.array(block.rows)[rows])
            on_done(len(rows))
        return found

    def speed(self, block, seconds=1.0):
        """Images a second, measured on the first few, twice: the first run also prepares what the later ones use."""
        rows, prefix = next(self.block_batches(block))
        few = np.arange(min(len(rows), 4))
        for _ in range(2):
            started = time.perf_counter()
            self.run(prefix.take(few), np.array(block.rows)[rows[few]])
        return len(few) / (time.perf_counter() - started)
