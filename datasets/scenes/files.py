"""Writers for the published layout, as used by *scenes*: `.tsv` with byte offsets, candidate lists, and the start
folder (`config.json`, `vocab.txt`) of a model trained from scratch."""

import base64
import json
import string
from pathlib import Path

import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.scenes.captions import grammar_words
from oscar_paddle.datasets.scenes.detector import tag_words
from oscar_paddle.datasets.scenes.world import Stream, object_set

CANDIDATES = 20  # per dev image: its five captions and fifteen others
HARD_CANDIDATES = 8  # of the fifteen: captions of the pictures most like it

MODEL = {  # of a model trained from scratch: usual value and meaning
    "hidden_size": (128, "width of the encoder"),
    "num_hidden_layers": (3, "layers"),
    "num_attention_heads": (4, "heads per layer; divides hidden_size"),
    "intermediate_size": (512, "width of the feed-forward part"),
    "dropout": (0.1, "of hidden states and attention"),
    "initializer_range": (0.02, "standard deviation of the first weights"),
}
_PUBLISHED = {  # what every model here has in common
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


class TsvWriter:
    """A `.tsv` file and its `.lineidx` (byte offset of every row), written row by row.

    Args:
        path: the `.tsv` file; the offsets go beside it.
    """

    def __init__(self, path):
        self.path, self.offset, self.offsets = Path(path), 0, []

    def __enter__(self):
        self.file = open(self.path, "wb")
        return self

    def __exit__(self, *error):
        self.file.close()
        self.path.with_suffix(".lineidx").write_bytes("".join(f"{offset}\n" for offset in self.offsets).encode())

    def write(self, *columns):
        row = "\t".join(str(column) for column in columns).encode("ascii") + b"\n"
        self.offsets.append(self.offset)
        self.offset += self.file.write(row)


def feature_columns(features):
    """Number of regions and base64 text of a float32 [R, 2054] matrix, little-endian, row by row."""
    return len(features), base64.b64encode(np.ascontiguousarray(features, dtype="<f4").tobytes()).decode("ascii")


def detections_json(scene, regions):
    """The second column of a `predictions.tsv` row."""
    objects = [{"class": r.tag, "conf": r.conf, "rect": [float(edge) for edge in r.box]} for r in regions]
    record = {"image_h": scene.height, "image_w": scene.width, "num_boxes": len(regions), "objects": objects}
    return json.dumps(record)


def candidate_lists(scenes, seed):
    """For every dev image the 20 captions it is ranked against, in random order.

    Args:
        scenes: list of `Scene`s, at least four (fifteen captions of other pictures are needed).
        seed: seed of the data set.
    Returns:
        dict image id -> JSON text of `CANDIDATES` pairs [image id, caption index]; five are the image's own, eight
        belong to the pictures that share most with it, seven to pictures drawn at random.
    """
    lists = {}
    for scene in scenes:
        stream = Stream(seed, scene.image_id, "candidates")
        others = [other for other in stream.sample(scenes, len(scenes)) if other is not scene]
        alike = sorted(others, key=lambda other: -_likeness(scene, other))[:HARD_CANDIDATES]
        pairs = [[scene.image_id, k] for k in range(5)] + [[other.image_id, stream.below(5)] for other in alike]
        while len(pairs) < CANDIDATES:
            pair = [stream.choice(others).image_id, stream.below(5)]
            if pair not in pairs:
                pairs.append(pair)
        lists[scene.image_id] = json.dumps(stream.sample(pairs, len(pairs)))
    return lists


def _likeness(scene, other):
    """Shared (shape, colour) pairs count most, then shared shapes and colours."""
    mine, theirs = set(object_set(scene.objects)), set(object_set(other.objects))
    words = {word for pair in mine for word in pair} & {word for pair in theirs for word in pair}
    return 4 * len(mine & theirs) + len(words)


def write_init_folder(root, **model):
    """Write `<root>/init/config.json` and `vocab.txt`: where a model trained from scratch starts. A file that is
    already right is not touched, so its time tells when the model last changed.

    Args:
        root: folder of the data set.
        **model: arguments of `init_config`.
    Returns:
        Path of the folder.
    Raises:
        DataError: sizes that no model can have.
    """
    config = json.dumps(init_config(**model), indent=2, sort_keys=True) + "\n"
    folder = Path(root) / "init"
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"vocab.txt": "".join(f"{word}\n" for word in vocabulary()), "config.json": config}
    for name, text in texts.items():
        if not (folder / name).is_file() or (folder / name).read_bytes() != text.encode():
            (folder / name).write_bytes(text.encode())
    return folder


def init_config(**model):
    """The `config.json` of a small model, with the keys of the published ones.

    Args:
        **model: any of `MODEL`.
    Returns:
        dict.
    Raises:
        DataError: sizes that no model can have.
    """
    assert model.keys() <= MODEL.keys(), model
    model = {name: model.get(name, default) for name, (default, _) in MODEL.items()}
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
    dropouts = {"attention_probs_dropout_prob": dropout, "hidden_dropout_prob": dropout}
    return {**_PUBLISHED, **model, **dropouts, "vocab_size": len(vocabulary())}


def vocabulary():
    """Special tokens, every word of captions and tags, and single characters with their `##` forms, so that a text
    outside the grammar still has pieces."""
    characters = string.ascii_lowercase + string.digits
    pieces = [*characters, *string.punctuation, *("##" + character for character in characters)]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted({*grammar_words(), *tag_words()}), *pieces]
    return list(dict.fromkeys(words))
