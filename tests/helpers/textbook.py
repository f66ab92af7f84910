"""The model as a textbook writes it: one padded row, float64, no packing; and dropout as a function of the caller.

Shape letters: N positions of a row, H width, A heads, D width of a head; S draws, where `drop` makes a first dimension.
"""

import math

import numpy as np

_erf = np.vectorize(math.erf)


def gelu(x):
    return x * 0.5 * (1 + _erf(x / np.sqrt(2)))


def layer_norm(x, weight, bias, epsilon):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon) * weight + bias


def keep_all(place, values):
    """Evaluation: nothing is dropped."""
    return values


class Dropping:
    """Dropout as it is defined: `draws` times, each value is 0 with probability p and divided by 1 - p otherwise.

    Args:
        probability: {place: p} with the places "text", "regions", "attention", "attention output", "output", "head".
    """

    def __init__(self, draws, probability, seed=0):
        self.draws, self.probability, self.random = draws, probability, np.random.default_rng(seed)

    def __call__(self, place, values):
        p = self.probability.get(place, 0.0)
        if not p:
            return values
        single = {"text": 2, "regions": 2, "attention": 3, "attention output": 2, "output": 2, "head": 1}[place]
        values = values if values.ndim > single else np.broadcast_to(values, (self.draws, *values.shape))
        return np.where(self.random.random(values.shape) < p, 0.0, values / (1 - p))


class Textbook:
    """A model's weights in float64.

    Args:
        model: OscarForClassification or OscarForImagePairs.
    """

    def __init__(self, model):
        self.config = model.config
        self.weights = {name: p.numpy().astype(np.float64) for name, p in model.named_parameters()}

    def linear(self, x, name):
        return x @ self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def norm(self, x, name, epsilon):
        return layer_norm(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], epsilon)

    def by_head(self, x, name):
        x = self.linear(x, name)
        return x.reshape(*x.shape[:-1], self.config.num_attention_heads, -1).swapaxes(-2, -3)

    def pooled(self, batch, row, drop=keep_all):
        """The pooled vector of a row of named arrays: [H], or [S, H]."""
        config, epsilon = self.config, self.config.layer_norm_eps
        ids, types = batch["input_ids"][row], batch["token_type_ids"][row]
        tables = (("word", ids), ("token_type", types), ("position", np.arange(len(ids))))
        text = sum(self.weights[f"bert.embeddings.{table}_embeddings.weight"][index] for table, index in tables)
        text = drop("text", self.norm(text, "bert.embeddings.LayerNorm", epsilon))
        regions = self.linear(batch["img_feats"][row].astype(np.float64), "bert.img_embedding")
        if config.use_img_layernorm:
            regions = self.norm(regions, "bert.LayerNorm", config.img_layer_norm_eps)
        regions = drop("regions", regions)
        draws = np.broadcast_shapes(text.shape[:-2], regions.shape[:-2])
        x = np.concatenate([np.broadcast_to(part, (*draws, *part.shape[-2:])) for part in (text, regions)], axis=-2)
        mask = batch["attention_mask"][row]
        bias = (1 - (mask if mask.ndim == 2 else np.broadcast_to(mask, (x.shape[-2],) * 2))) * -10000.0
        for layer in range(config.num_hidden_layers):
            name = f"bert.encoder.layer.{layer}"
            q, k, v = (self.by_head(x, f"{name}.attention.self.{part}") for part in ("query", "key", "value"))
            scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]) + bias
            seen = np.exp(scores - scores.max(-1, keepdims=True))
            seen = drop("attention", seen / seen.sum(-1, keepdims=True))
            context = (seen @ v).swapaxes(-2, -3)
            context = self.linear(context.reshape(*context.shape[:-2], -1), f"{name}.attention.output.dense")
            x = self.norm(drop("attention output", context) + x, f"{name}.attention.output.LayerNorm", epsilon)
            inner = self.linear(gelu(self.linear(x, f"{name}.intermediate.dense")), f"{name}.output.dense")
            x = self.norm(drop("output", inner) + x, f"{name}.output.LayerNorm", epsilon)
        return np.tanh(self.linear(x[..., 0, :], "bert.pooler.dense"))

    def logits(self, batch, row, drop=keep_all):
        """Logits of a row under a linear head: [C], or [S, C]."""
        return self.linear(drop("head", self.pooled(batch, row, drop)), "classifier")
