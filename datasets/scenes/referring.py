"""Referring expressions about *scenes*, in the files that RefCOCOg is published in, made from `scenes_truth.jsonl`.

    <root>/refer/scenes/refs(umd).p, instances.json   expressions and objects; splits train, val (minival) and test
    <root>/refer/proposals.lmdb    the simulated detections, records as vilbert_beta's
    <root>/refer/annotated.lmdb    the true boxes of the training pictures, records as vilbert-multi-task's
    <root>/refer/init/             config.json and vocab.txt of a two-stream model trained from scratch
    <root>/refer/task.json         settings, and how many expressions need a relation

An expression is about one object among several: "the small striped boat left of the red tree". Under the facts it fits
this object and no other, and borderline relations are not said. Most need their relation: without it, several objects
fit.
"""

import base64
import io
import json
from collections import namedtuple
from functools import partial
from itertools import combinations, product
from pathlib import Path

import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.config.progress import tqdm
from oscar_paddle.datasets.formats.pickle_writer import write_pickle
from oscar_paddle.datasets.formats.whole_files import is_kept, whole_folder
from oscar_paddle.datasets.regions.lmdb_store import DETECTOR, KEYS
from oscar_paddle.datasets.regions.values import VISUAL_DIM
from oscar_paddle.datasets.regions.vinvl import RegionFeatures
from oscar_paddle.datasets.scenes.build import SETTINGS_FILE, mapped, read_truth, write_json
from oscar_paddle.datasets.scenes.captions import Words, vocabulary
from oscar_paddle.datasets.scenes.drawing import draw_scene
from oscar_paddle.datasets.scenes.features import region_features
from oscar_paddle.datasets.scenes.world import GRAMMAR, RELATIONS, SHAPES, SPLITS, Mention

VERSION = 1  # raise it whenever the files would change
NAME = "scenes"  # of the data set and of the detector
RELATED = 0.75  # share of expressions that are tried with a relation first
_SPLIT_NAMES = {"train": "train", "minival": "val", "test": "test"}
_ATTRIBUTES = ("shape", "colour", "texture", "size")
_MAP_SIZE = 1 << 36  # bytes of address space, not of the disk
# A small two-stream model: three co-attentions, with a layer of regions behind each.
_MODEL = {
    "hidden_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 192,
    "v_hidden_size": 96,
    "v_num_hidden_layers": 3,
    "v_num_attention_heads": 4,
    "v_intermediate_size": 192,
    "bi_hidden_size": 96,
    "bi_num_attention_heads": 4,
    "v_biattention_id": [0, 1, 2],
    "t_biattention_id": [1, 2, 3],
    "v_feature_size": VISUAL_DIM,
    "v_target_size": 1601,
    "max_position_embeddings": 64,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "v_hidden_act": "gelu",
    "initializer_range": 0.1,
    "v_initializer_range": 0.1,
    **{f"{stream}{kind}_dropout_prob": 0.0 for stream in ("", "v_") for kind in ("hidden", "attention_probs")},
}


# Words about object `target`. `mention` fits it; `relation` and `anchor`, a `Mention` that fits one object, or None.
Expression = namedtuple("Expression", "text target mention relation anchor")


def refer_to(stream, scene, number):
    """At most `number` `Expression`s about a scene with different texts, drawn by a `Words`."""
    found = {}
    for _ in range(4 * number):
        i = stream.below(len(scene.objects))
        made = (stream.chance(RELATED) and _by_relation(stream, scene, i)) or _by_itself(stream, scene, i)
        if made:
            found.setdefault(made.text, made)
        if len(found) == number:
            break
    return list(found.values())


def _by_itself(stream, scene, i):
    """Words that fit object `i` alone; None where it has no such attributes."""
    mentions = [mention for mention in _mentions(scene, i) if scene.count(mention) == 1]
    if mentions:
        mention = stream.choice(mentions)
        return Expression(stream.the([mention]), i, mention, None, None)
    return None


def _by_relation(stream, scene, i):
    """Words that fit several objects, of which only object `i` stands in a relation to another one; None where there
    are none."""
    several = [mention for mention in _mentions(scene, i) if scene.count(mention) > 1]
    pairs = [pair for pair in product(RELATIONS, range(len(scene.objects))) if scene.holds(pair[0], i, pair[1])]
    options = list(product(several, pairs))
    for mention, (relation, j) in stream.sample(options, len(options)):
        if scene.related(mention, relation, j) == [i] and (anchors := scene.beside(relation, j)):
            anchor = stream.choice(anchors)
            words = stream.weighted(GRAMMAR["relation"][relation])
            text = f"{stream.the([mention])} {stream.choice(('', '', 'that is '))}{words} {stream.the([anchor])}"
            return Expression(text, i, mention, relation, anchor)
    return None


def _mentions(scene, i):
    """What can be said of object `i`: up to three attributes; nobody says "plain" or "medium"."""
    item = scene.objects[i]
    said = [name for name in _ATTRIBUTES if getattr(item, name) not in ("plain", "medium")]
    return [Mention.of(item, names) for count in range(4) for names in combinations(said, count)]


def write_referring(root, expressions=12, overwrite=False, workers=None):
    """Write `<root>/refer`, or keep it if it was made from the same scenes.

    Args:
        root: folder of `write_scenes`. expressions: at most so many of each picture. workers: as for `write_scenes`.
        overwrite: replace a folder that was made with other settings.
    Returns:
        Path of the folder, which appears complete or not at all.
    Raises:
        DataError: `root` holds no scenes or none to train on, or the folder holds something else.
    """
    root = Path(root)
    path, folder = root / SETTINGS_FILE, root / "refer"
    try:
        scenes = json.loads(path.read_text(encoding="ascii"))
        scenes = {key: scenes[key] for key in ("version", "seed", *(f"num_{split}" for split in SPLITS))}
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"{path}: not there or not readable; write_scenes (tools/make_scenes.py) creates it") from None
    settings = {"name": "refer", "version": VERSION, "scenes": scenes, "expressions": expressions}
    if is_kept(folder, "task.json", settings, "referring expressions", overwrite):
        return folder
    truth = {split: [facts["scene"] for facts in found] for split, found in read_truth(root).items()}
    if not truth["train"]:
        raise DataError(f"{root}: no training scenes; expected at least one")
    refs, needy, total = _refs(truth, scenes["seed"], expressions)
    with whole_folder(folder) as unfinished:
        for name in ("scenes", "init"):
            (unfinished / name).mkdir()
        with open(unfinished / "scenes" / "refs(umd).p", "wb") as file:
            write_pickle(file, refs, protocol=2)
        write_json(unfinished / "scenes" / "instances.json", _instances(truth))
        _write_proposals(unfinished / "proposals.lmdb", root, truth)
        _write_annotated(unfinished / "annotated.lmdb", truth["train"], scenes["seed"], workers)
        words = vocabulary()
        words += [word for word in ("the", "that") if word not in words]
        (unfinished / "init" / "vocab.txt").write_text("\n".join(words) + "\n", encoding="ascii")
        write_json(unfinished / "init" / "config.json", {**_MODEL, "vocab_size": len(words)}, indent=2)
        write_json(unfinished / "task.json", {**settings, "need_a_relation": needy, "all": total}, indent=1)
    return folder


def _refs(truth, seed, number):
    """(the list of refs(umd).p, {split: expressions that need their relation}, {split: all})."""
    refs, needy, total, sent_id = (
        [],
        dict.fromkeys(_SPLIT_NAMES.values(), 0),
        dict.fromkeys(_SPLIT_NAMES.values(), 0),
        0,
    )
    for split, scenes in truth.items():
        name = _SPLIT_NAMES[split]
        for scene in tqdm(scenes, f"expressions of {name}", unit="picture"):
            by_object = {}
            for made in refer_to(Words(seed, scene.image_id, "refer"), scene, number):
                by_object.setdefault(made.target, []).append(made)
            for target, made in sorted(by_object.items()):
                sentences = []
                for each in made:
                    words = {"raw": each.text, "sent": each.text, "tokens": each.text.split()}
                    sentences.append({**words, "sent_id": sent_id})
                    sent_id += 1
                    needy[name] += each.relation is not None
                    total[name] += 1
                refs.append(
                    {
                        "ref_id": len(refs),
                        "ann_id": _ann_id(scene, target),
                        "image_id": scene.image_id,
                        "category_id": SHAPES.index(scene.objects[target].shape) + 1,
                        "file_name": f"{scene.image_id}.png",
                        "split": name,
                        "sent_ids": [sentence["sent_id"] for sentence in sentences],
                        "sentences": sentences,
                    }
                )
    return refs, needy, total


def _ann_id(scene, number):
    return 10 * scene.image_id + number


def _instances(truth):
    """The content of instances.json: all objects of all pictures."""
    images, annotations = [], []
    for scene in (scene for scenes in truth.values() for scene in scenes):
        size = {"width": scene.width, "height": scene.height}
        images.append({"id": scene.image_id, "file_name": f"{scene.image_id}.png", **size})
        for number, item in enumerate(scene.objects):
            x1, y1, x2, y2 = item.box
            where = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0}
            kind = SHAPES.index(item.shape) + 1
            annotations.append({"id": _ann_id(scene, number), "image_id": scene.image_id, "category_id": kind, **where})
    categories = [{"id": number + 1, "name": shape} for number, shape in enumerate(SHAPES)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _write_proposals(path, root, truth):
    """The detections of all pictures, as vilbert_beta keeps them: base64 text, numbers as text."""
    source = RegionFeatures(root / "model_0060000" / "features.tsv", cache_bytes=0)

    def records():
        for scene in (scene for scenes in truth.values() for scene in scenes):
            regions, size = source.complete(scene.image_id), np.array([scene.width, scene.height] * 2)
            boxes = (regions[:, VISUAL_DIM : VISUAL_DIM + 4] * size).round()  # they were whole pixels
            numbers = {"image_w": scene.width, "image_h": scene.height, "num_boxes": len(regions)}
            arrays = {"boxes": boxes, "features": regions[:, :VISUAL_DIM]}
            text = {name: base64.b64encode(values.astype("<f4").tobytes()).decode() for name, values in arrays.items()}
            yield scene.image_id, {name: str(number) for name, number in numbers.items()} | text

    write_store(path, records())


def _write_annotated(path, scenes, seed, workers):
    """The true boxes of pictures, as vilbert-multi-task keeps them: arrays and whole numbers."""
    with mapped(workers, len(scenes)) as mapper:
        features = tqdm(mapper(partial(_true_regions, seed), scenes), "true boxes", len(scenes), unit="picture")
        write_store(path, ((s.image_id, _raw_record(s, found)) for s, found in zip(scenes, features, strict=True)))


def _raw_record(scene, features):
    boxes = np.array([item.box for item in scene.objects], np.float32)
    size = {"image_w": scene.width, "image_h": scene.height, "num_boxes": len(boxes)}
    return {**size, "boxes": boxes, "features": features}


def _true_regions(seed, scene):
    """[objects, 2048] float32 of the true boxes (runs in a worker process)."""
    return region_features(draw_scene(scene, seed), [item.box for item in scene.objects])


def write_store(path, records, detector=NAME):
    """Write an LMDB store of (image id, record): a pickle for each image, the list of keys, and what detected them."""
    import lmdb

    with lmdb.open(str(path), map_size=_MAP_SIZE) as environment, environment.begin(write=True) as transaction:
        keys = []
        for image_id, record in records:
            keys.append(str(image_id).encode())
            transaction.put(keys[-1], _pickled({"image_id": str(image_id), **record}))
        transaction.put(KEYS, _pickled(keys))
        transaction.put(DETECTOR, detector.encode())


def _pickled(value):
    file = io.BytesIO()
    write_pickle(file, value, protocol=3)
    return file.getvalue()
