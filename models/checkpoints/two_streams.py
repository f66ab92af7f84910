"""What is particular to ViLBERT's files: vilbert_beta's and vilbert-multi-task's, and those of the Paddle port.

Source: docs/reference.md, ViLBERT checkpoints.
"""

import re

import numpy as np

# One file an epoch (of the PyTorch programs and of the port), and the released model of vilbert-multi-task.
FILES = re.compile(r"pytorch_model_\d+\.bin|paddle_model_\d+\.pdparams|pretrained_model\.bin")
WORDS, DECODER = "bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"
_REGION_PART = "bert.v_embeddings."
_PORT_NAMES = {"cls.predictions.decoder.bias": "cls.predictions.bias"}  # in the port -> upstream


def is_two_streams(names):
    """Whether these are the names of a ViLBERT's parameters."""
    return any(name.startswith(_REGION_PART) for name in names)


def is_stored_transposed(name, value):
    """Whether the port's files have a tensor in Paddle's orientation: all matrices but the embedding tables.

    The projections of features and locations are `v_embeddings.*embeddings`, and no tables.
    """
    return value.ndim == 2 and not name.startswith("bert.embeddings.")


def from_port(name, value):
    """Name and value of one of the port's tensors as upstream has them: a gain of weight norm is a scalar there."""
    return _PORT_NAMES.get(name, name), value.reshape(()) if name.endswith(".weight_g") and value.size == 1 else value


def port_name(name):
    """The port's name of an upstream parameter."""
    return {upstream: port for port, upstream in _PORT_NAMES.items()}.get(name, name)


def decoder_for_pytorch(state):
    """The decoder of words that PyTorch's programs must find: the word embeddings, or None if there is no other.

    The port's decoder is a copy that stays as it was when the embeddings are trained. In PyTorch both are one tensor,
    which is read twice: the old copy would come last, and win.
    """
    words, decoder = state.get(WORDS), state.get(DECODER)
    return words if decoder is not None and words is not None and not np.array_equal(words, decoder) else None
