"""One variant of tools/bench_captioning.py: writes captions of made-up images, and counts what it did."""

import time

import numpy as np
import paddle

from oscar_paddle.datasets.caption_prefix import CaptionPrefix
from oscar_paddle.models.captioning import OscarForCaptioning
from oscar_paddle.models.config import BertConfig
from oscar_paddle.models.decoding import Decoding, Specials, search
from oscar_paddle.models.visibility import HIDDEN_BIAS
from oscar_paddle.solvers.ranks import Ranks
from oscar_paddle.solvers.scoring.captions import CaptionBackend, CaptionScorer, build_writer, split_captions
from oscar_paddle.solvers.scoring.rows import Block
from oscar_paddle.tools.bench.published import padded_layer
from oscar_paddle.tools.bench.scoring import matrix_product_rates
from oscar_paddle.tools.bench.worker import peak_memory_gib

SPECIALS = Specials(cls=1, sep=2, pad=0, mask=3)
TAGS, REGIONS, FIRST_TAG = 30, 50, 40  # of every image: 50 text slots with the 20 of the caption


class Writing:
    """A way of writing captions ("published...", or backend and precision), with its time and arithmetic.

    Everything is random, so no caption ends before the longest length, and every step has all beams.
    """

    def __init__(self, name, args):
        paddle.set_device("cpu")
        paddle.seed(0)
        sizes = {"hidden_size": args.hidden, "num_attention_heads": max(1, args.hidden // 64), "tie_weights": True}
        sizes |= {"intermediate_size": 4 * args.hidden, "num_hidden_layers": args.layers, "use_img_layernorm": 1}
        self.model = OscarForCaptioning(BertConfig(**sizes))
        self.model.eval()
        self.decoding = Decoding(num_beams=args.beams, max_length=args.max_length)
        self.images, self.published = range(args.images), name.startswith("published")
        self.data = MadeUpImages(args.images, self.model.config)
        if self.published:
            self.images = self.images[: args.published_images]
        else:
            backend, precision = name.split("-")
            where = {"weights": "random weights", "programs": args.work_dir, "ranks": Ranks()}
            writer = build_writer(self.model, backend, precision, **where)
            backend = CaptionBackend(writer, SPECIALS, self.decoding)
            self.scorer = CaptionScorer(backend, self.data, args.batch_tokens)
            self.write()  # prepares what later runs use
        self.seconds, self.rates = [], []

    def run(self):
        """Write the captions of all images of this variant."""
        self.rates.append(matrix_product_rates()[0])
        started = time.perf_counter()
        self.ids, self.scores = self.write()
        self.seconds.append(time.perf_counter() - started)
        self.rates.append(matrix_product_rates()[0])

    @paddle.no_grad()
    def write(self):
        """(ids [images, max_length], scores [images])."""
        if self.published:
            captions = PublishedCaptions(self.model, self.data.prefix(np.array(self.images)))
            ids, scores = search(captions, SPECIALS, self.decoding)
        else:
            found = self.scorer.score(Block(self.images, range(self.scorer.backend.columns)))
            ids, scores = split_captions(found, self.decoding.max_length)
        return ids[:, 0], scores[:, 0]

    def report(self):
        """What all runs together came to, and the captions."""
        operations = useful_operations(self.model.config, self.decoding) * len(self.images)
        rate, each = float(np.median(self.rates)), sum(self.seconds) / len(self.seconds)
        return {
            "images": len(self.images),
            "runs": len(self.seconds),
            "seconds_an_image": each / len(self.images),
            "useful_gflop_an_image": operations / len(self.images) / 1e9,
            "useful_gflops": operations / each / 1e9,
            "matrix_product_gflops": rate,
            "peak_memory_gib": peak_memory_gib(),
            "ids": self.ids.tolist(),
            "scores": self.scores.tolist(),
        }


def useful_operations(config, decoding):
    """Multiplications and additions that the captions of an image need.

    Tags and regions once, of which the last layer needs keys and values only; of every step and beam two positions
    over the prefix and the beam's own words, of which the last layer needs one; the vocabulary for that one.
    """
    width, inner, prefix = config.hidden_size, config.intermediate_size, TAGS + REGIONS
    layers, position = config.num_hidden_layers, 8 * width**2 + 4 * width * inner
    total = (layers - 1) * prefix * (position + 4 * prefix * width) + prefix * 4 * width**2
    for length in range(1, decoding.max_length):
        seen = prefix + length  # by the last word; one more by [MASK]
        two = 2 * position + 4 * (2 * seen + 1) * width
        one = position + 4 * width**2 + 4 * (seen + 1) * width
        beams = decoding.num_beams if length > 1 else 1
        total += beams * ((layers - 1) * two + one + 2 * width**2 + 2 * width * config.vocab_size)
    return float(total)


class MadeUpImages:
    """Images with TAGS positions of tags and REGIONS regions each."""

    def __init__(self, images, config):
        self.image_ids, rng = list(range(images)), np.random.RandomState(0)
        self.ids = rng.randint(4, config.vocab_size, (images, TAGS))
        self.features = np.maximum(rng.standard_normal((images, REGIONS, config.img_feature_dim)), 0).astype(np.float32)

    def prefix(self, images):
        count = len(images)
        return CaptionPrefix(
            input_ids=self.ids[images].ravel(),
            token_type_ids=np.ones(count * TAGS, np.int64),
            position_ids=np.tile(FIRST_TAG + np.arange(TAGS), count),
            text_length=np.full(count, TAGS),
            img_feats=self.features[images].reshape(count * REGIONS, -1),
            num_regions=np.full(count, REGIONS),
        )


class PublishedCaptions:
    """Captions as the published code writes them: every step encodes all of caption, tags and regions of every beam.

    Source: docs/reference.md, generation.

    What `models.decoding.search` asks for; see `models.generation.Captions`.
    """

    def __init__(self, model, prefix):
        self.model, self.prefix = model, prefix
        self.images = np.arange(len(prefix.text_length))
        self.ids = np.zeros((len(self.images), 1, 0), np.int64)

    def advance(self, tokens, parents=None):
        """As `Captions.advance`; returns an array."""
        if parents is not None:
            self.ids = np.take_along_axis(self.ids, parents[:, :, None], axis=1)
        self.ids = np.concatenate([self.ids, tokens[:, :, None]], axis=2)
        images, captions, length = self.ids.shape
        rows = images * captions
        written = np.concatenate([self.ids.reshape(rows, length), np.full((rows, 1), SPECIALS.mask)], axis=1)
        tags, regions = (
            part.reshape(images, -1, *part.shape[1:]).repeat(captions, axis=0)
            for part in (self.prefix.input_ids, self.prefix.img_feats)
        )
        ids = np.concatenate([written, tags], axis=1)
        types = np.repeat([0, 1], [length + 1, TAGS])[None].repeat(rows, axis=0)
        places = np.concatenate([np.arange(length + 1), FIRST_TAG + np.arange(TAGS)])[None].repeat(rows, axis=0)
        hidden = self._encode(*map(paddle.to_tensor, (ids, types, places, regions)), length + 1)
        logits = self.model.word_logits(hidden[:, : length + 1 + TAGS])  # of all text, though only [MASK]'s are read
        return logits[:, length].numpy().reshape(images, captions, -1)

    def _encode(self, ids, types, places, regions, written):
        """[rows, positions, H], the last states of whole rows."""
        bert = self.model.bert
        hidden = paddle.concat([bert.embeddings(ids, types, places), bert.embed_regions(regions)], axis=1)
        seen = np.ones((hidden.shape[1], hidden.shape[1]), np.float32)
        seen[:, :written] = 0
        seen[:written, :written] = np.tri(written)
        bias = paddle.to_tensor(((1 - seen) * HIDDEN_BIAS).astype(np.float32)[None, None])
        for layer in bert.encoder.layer:
            hidden = padded_layer(layer, hidden, bias)
        return hidden

    @staticmethod
    def worth_leaving(going):
        return False
