"""`config.json` of a small model that is trained from scratch on *scenes*. Imports nothing heavy: `--help` reads it."""

from oscar_paddle.config.errors import DataError

MODEL = {  # usual value and meaning
    "hidden_size": (128, "width of the encoder"),
    "num_hidden_layers": (3, "layers"),
    "num_attention_heads": (4, "heads per layer; divides hidden_size"),
    "intermediate_size": (512, "width of the feed-forward part"),
    "dropout": (0.1, "of hidden states and attention"),
    "initializer_range": (0.02, "standard deviation of the first weights"),
}


def init_config(vocab_size, **model):
    """The `config.json`, as a dict, of a model with any of `MODEL`; DataError for sizes that no model can have."""
    assert model.keys() <= MODEL.keys(), model
    model = {name: usual for name, (usual, _) in MODEL.items()} | model
    dropout, spread = model.pop("dropout"), model["initializer_range"]
    for name, value in model.items():
        if name != "initializer_range" and value < 1:
            raise DataError(f"scenes: {name} {value}: expected at least 1")
    width, heads = model["hidden_size"], model["num_attention_heads"]
    if width % heads:
        raise DataError(f"scenes: hidden_size {width}: expected a multiple of num_attention_heads, {heads}")
    if not 0 <= dropout < 1 or spread <= 0:
        raise DataError(
            f"scenes: dropout {dropout}, initializer_range {spread}: expected 0 <= dropout < 1 and a positive range"
        )
    return {
        **model,
        "attention_probs_dropout_prob": dropout,
        "hidden_dropout_prob": dropout,
        "vocab_size": vocab_size,
        "classifier": "linear",
        "cls_hidden_scale": 2,
        "finetuning_task": "ir",
        "hidden_act": "gelu",
        "img_feature_dim": 2054,
        "img_feature_type": "frcnn",
        "img_layer_norm_eps": 1e-12,
        "layer_norm_eps": 1e-12,
        "loss_type": "sfmx",
        "max_position_embeddings": 128,
        "num_labels": 2,
        "output_attentions": False,
        "output_hidden_states": False,
        "pruned_heads": {},
        "torchscript": False,
        "type_vocab_size": 2,
        "use_img_layernorm": 1,
    }
