"""Models and batches small enough to compute by hand."""

import paddle

from oscar_paddle.models.config import BertConfig
from oscar_paddle.models.oscar import OscarForClassification
from oscar_paddle.tools.bench.made_up import Lengths

TINY = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 20,
    "img_feature_dim": 7,
    "use_img_layernorm": 1,
    "initializer_range": 0.3,  # logits that differ, or comparisons would show nothing
}


# For scoring: a model, and the lengths of made-up data that fit it.
SCORED = {"vocab_size": 90, "hidden_size": 24, "num_attention_heads": 3, "intermediate_size": 40, "img_feature_dim": 11}
LENGTHS = Lengths(
    caption=(5, 2, 1, 12), tags=(6, 3, 1, 14), regions=(4, 2, 1, 9), max_text=16, max_region=7, feature_dim=11, words=90
)


def tiny_model(model_class=OscarForClassification, seed=3, **settings):
    """An untrained model, in evaluation mode.

    Args:
        settings: keys of config.json that differ from TINY.
    """
    paddle.seed(seed)
    model = model_class(BertConfig(**{**TINY, **settings}))
    model.eval()
    return model
