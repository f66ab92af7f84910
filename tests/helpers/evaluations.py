"""What tests of evaluations share: settings for the golden data, and a backend that counts and stops."""

from oscar_paddle.config.errors import UserError


def golden_settings(golden, cache):
    """Words for --opts: the golden retrieval data and checkpoint, with token tables kept in `cache`."""
    return (
        f"INPUT.MAX_SEQ_LEN 40 INPUT.MAX_REGION 12 DATASET.DATA_DIR {golden}/coco_ir DATASET.CACHE_DIR {cache} "
        f"EVAL.CHECKPOINT_DIR {golden}/checkpoint EVAL.EVAL_CROSS_IMAGE True EVAL.EVAL_IMG_KEYS_FILE test_img_keys.tsv "
        "EVAL.BATCH_TOKENS 600"
    ).split()


class Limited:
    """A backend that counts pairs and fails after some batches."""

    def __init__(self, backend, batches=10**9, error="the lights went out"):
        self.backend, self.name, self.left, self.error, self.pairs = backend, backend.name, batches, error, 0
        self.embed_regions = backend.embed_regions

    def margins(self, batch, regions):
        self.left -= 1
        if self.left < 0:
            raise UserError(self.error)
        self.pairs += len(batch.order)
        return self.backend.margins(batch, regions)
