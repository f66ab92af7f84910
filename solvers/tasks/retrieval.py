"""Image-text retrieval for the trainer: batches, loss, and the score on the dev split."""

import hashlib
import logging

import numpy as np
import paddle
from tqdm import tqdm

from oscar_paddle.models.losses import classification_losses
from oscar_paddle.models.packing import pack
from oscar_paddle.solvers.metrics.retrieval import (
    candidate_ranks,
    format_recall_line,
    image_to_text_ranks,
    retrieval_metrics,
    text_to_image_ranks,
)
from oscar_paddle.solvers.scoring.exported import backend_in_training
from oscar_paddle.solvers.scoring.pairs import PairScorer, image_groups, num_columns

log = logging.getLogger(__name__)

FINGERPRINT_IMAGES = 256  # so many images' features tell one feature file from another


class RetrievalTask:
    """Binary classification of (image, caption) pairs, one or more negatives for every positive.

    Args:
        train: RetrievalDataset to train on.
        dev: RetrievalDataset to score while training, or None.
        cfg: the frozen config.
        ranks: Ranks; images of the dev split are divided among them.
    """

    unit = "pairs"

    def __init__(self, train, dev, cfg, ranks):
        self.train, self.dev, self.cfg, self.ranks = train, dev, cfg, ranks
        self.num_examples = train.num_captions
        self.rows_per_example = 1 + cfg.OPTIMIZATION.NEGATIVES

    def fingerprint(self):
        """{what: hex digest} of the data that the numbers of a run depend on, under names for messages."""
        digests = {"the training split (DATASET.TRAIN)": self.train.fingerprint()}
        for name, tokens in (("captions", self.train.caption_tokens), ("tags", self.train.tag_tokens)):
            digests[f"the token ids of the training {name} (vocab.txt)"] = hashlib.blake2b(tokens.ids).hexdigest()[:32]
        sample = self.train.image_ids[:: -(-self.train.num_images // FINGERPRINT_IMAGES)]
        digests["the region features (DATASET.FEAT_FILE)"] = self.train.regions.fingerprint(sample)
        if self.dev is not None:
            digests["the dev split (DATASET.DEV, EVAL.*)"] = self.dev.fingerprint()
        return digests

    def batch(self, examples, epoch):
        """Examples (caption indices) -> (PackedBatch, labels [B]) of positives and negatives."""
        negatives = self.cfg.OPTIMIZATION.NEGATIVES
        images, captions, labels = self.train.training_pairs(examples, self.cfg.MISC.SEED, epoch, negatives)
        return pack(**self.train.batch(images, captions)), labels

    def losses(self, model, batch):
        """Loss of every row, [B] float32."""
        packed, labels = batch
        return classification_losses(model(packed), paddle.to_tensor(labels), self.cfg.OPTIMIZATION.LOSS_TYPE)

    def describe(self, examples):
        """The examples as [image id, caption number] pairs, for messages."""
        return ", ".join(str(list(self.train.caption_ids[i])) for i in examples)

    def evaluate(self, model):
        """(score, metrics) on the dev split: R@1 of text retrieval, or of both directions' mean across images."""
        margins = score_split(model, self.dev, self.cfg.EVAL.BATCH_TOKENS, self.ranks)
        metrics = split_metrics(margins, self.dev)
        for line in recall_lines(metrics):
            log.info("%s: %s", self.cfg.DATASET.DEV, line)
        recalls = [metrics[d]["R@1"] for d in ("i2t_retrieval", "t2i_retrieval") if d in metrics]
        return float(np.mean(recalls)), metrics


def score_split(model, data, batch_tokens, ranks):
    """Margins of a whole split, images divided among ranks; [K, m] float32 on every rank."""
    num_pairs = data.num_images * num_columns(data)
    scorer = PairScorer(backend_in_training(model, num_pairs // ranks.world_size), data, batch_tokens)
    groups = image_groups(data.num_images, scorer.num_columns)
    mine = {}
    with tqdm(
        total=num_pairs,
        desc="scoring",
        unit="pair",
        unit_scale=True,
        leave=False,
        disable=not ranks.is_main,
        dynamic_ncols=True,
    ) as bar:
        for number in range(ranks.rank, len(groups), ranks.world_size):
            parts = [scorer.score(part, lambda n: bar.update(n * ranks.world_size)) for part in groups[number]]
            mine[number] = np.concatenate(parts, axis=1)
    scored = {number: rows for part in ranks.gather(mine) for number, rows in part.items()}
    return np.concatenate([scored[number] for number in range(len(groups))])


def split_metrics(margins, data):
    """Retrieval metrics of a scored split: both directions across images, text retrieval only for candidate lists."""
    if data.candidates is not None:
        return retrieval_metrics(candidate_ranks(margins, data.positives), num_candidates=margins.shape[1])
    caption_image = data.caption_image()
    return retrieval_metrics(image_to_text_ranks(margins, caption_image), text_to_image_ranks(margins, caption_image))


def recall_lines(metrics):
    """The lines that users of these repositories know."""
    names = {"I2T": "i2t_retrieval", "T2I": "t2i_retrieval"}
    return [format_recall_line(name, metrics[key]) for name, key in names.items() if key in metrics]
