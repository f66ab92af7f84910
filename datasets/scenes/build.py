"""*Scenes*: the built-in generated data set of the quick start and the tests.

Drawn pictures of three to five shapes, five captions each, simulated detections, region features computed from the
pixels, in the published file layout:

    <root>/coco_ir/        {train,minival,test}_captions.pt, *_img_keys.tsv, minival_caption_indexs_top20.pt
    <root>/model_0060000/  features.tsv, predictions.tsv (+ .lineidx), imageid2idx.json
    <root>/images/         <image id>.png of minival and test (train on request)
    <root>/init/           config.json and vocab.txt of a model trained from scratch
    <root>/scenes.json, scenes_truth.jsonl   settings; the facts behind every picture, caption and region
    <root>/<task>/         on request: questions and statements, see tasks.py

The parts: world.py, placing.py (facts), drawing.py (picture), captions.py, detector.py (tags), features.py, model.py.
"""

import base64
import json
import multiprocessing
import os
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

from oscar_paddle.config.errors import DataError
from oscar_paddle.config.progress import tqdm
from oscar_paddle.datasets.formats.torch_writer import write_torch_file
from oscar_paddle.datasets.formats.whole_files import is_kept, whole_folder
from oscar_paddle.datasets.scenes.captions import vocabulary, write_captions
from oscar_paddle.datasets.scenes.detector import detect
from oscar_paddle.datasets.scenes.drawing import draw_scene, png_bytes
from oscar_paddle.datasets.scenes.features import region_features, with_box_values
from oscar_paddle.datasets.scenes.model import init_config
from oscar_paddle.datasets.scenes.placing import sample_scene
from oscar_paddle.datasets.scenes.world import SPLITS, VERSION, Stream, object_set, scene_from_dict

SETTINGS_FILE = "scenes.json"
MIN_DEV = 4  # fewer pictures do not have fifteen captions of others for the candidate lists


def write_scenes(root, num_train, num_dev, num_test, seed, train_images=False, workers=None, overwrite=False, model=()):
    """Write the data set, or keep it where it is already there with the same settings.

    The same arguments give the same bytes on every machine, whatever `workers` is. The folder appears complete or not
    at all. A file of `init/` is written where it is not right already, so its time tells when the model last changed.

    Args:
        num_train, num_dev, num_test: pictures per split; num_dev is 0 or at least 4.
        train_images: also write the pictures of the training split.
        workers: processes; None = one per core, 0 = this process only.
        overwrite: replace an older *scenes* folder that has other settings.
        model: dict with any of `MODEL` (model.py).
    Returns:
        Path of the folder.
    Raises:
        DataError: bad sizes of splits or model, or `root` holds something else.
    """
    root, words = Path(root), vocabulary()
    sizes = {"train": num_train, "minival": num_dev, "test": num_test}
    if min(sizes.values()) < 0 or 0 < num_dev < MIN_DEV:
        raise DataError(
            f"scenes: num_train {num_train}, num_dev {num_dev}, num_test {num_test}: "
            f"expected sizes >= 0, and num_dev 0 or at least {MIN_DEV}"
        )
    config = init_config(len(words), **dict(model))  # complains before the work, not after
    settings = {"name": "scenes", "version": VERSION, "seed": seed, **{f"num_{s}": n for s, n in sizes.items()}}
    settings["train_images"] = bool(train_images)
    if not is_kept(root, SETTINGS_FILE, settings, "scenes", overwrite):
        _build(root, settings, sizes, workers)
    (root / "init").mkdir(exist_ok=True)
    config = json.dumps(config, indent=2, sort_keys=True)
    for path, text in ((root / "init/vocab.txt", _lines(*words)), (root / "init/config.json", _lines(config))):
        if not path.is_file() or path.read_bytes() != text:
            path.write_bytes(text)
    return root


def read_truth(root):
    """The facts behind the pictures in a folder of `write_scenes`.

    Returns:
        {split: list of dicts}: `scene` (`Scene`), `captions` and `regions` (dicts with the fields of these).
    Raises:
        DataError: the file is missing.
    """
    path = Path(root) / "scenes_truth.jsonl"
    if not path.is_file():
        raise DataError(f"{path}: no such file; write_scenes (tools/make_scenes.py) creates it")
    truth = {split: [] for split in SPLITS}
    with open(path, encoding="ascii") as lines:
        for record in map(json.loads, lines):
            truth[record["split"]].append({**record, "scene": scene_from_dict(record)})
    return truth


def _build(root, settings, sizes, workers):
    jobs = [(split, index) for split in SPLITS for index in range(sizes[split])]
    scenes, captions = {split: [] for split in SPLITS}, {split: {} for split in SPLITS}
    with whole_folder(root) as folder:
        coco, vinvl, images = (folder / name for name in ("coco_ir", "model_0060000", "images"))
        for path in (coco, vinvl, images):
            path.mkdir()
        with (
            open(folder / "scenes_truth.jsonl", "wb") as truth,
            _tsv_writer(vinvl / "features.tsv") as write_features,
            _tsv_writer(vinvl / "predictions.tsv") as write_predictions,
            mapped(workers, len(jobs)) as mapper,
        ):
            made = mapper(partial(_make_scene, settings["seed"]), jobs)
            for scene, record, features, predictions, png in tqdm(made, "scenes", len(jobs), unit="picture"):
                scenes[scene.split].append(scene)
                captions[scene.split][scene.image_id] = json.dumps([c["text"] for c in record["captions"]])
                write_features(scene.image_id, len(record["regions"]), features)
                write_predictions(scene.image_id, predictions)
                truth.write(_lines(json.dumps(record)))
                if scene.split != "train" or settings["train_images"]:
                    (images / f"{scene.image_id}.png").write_bytes(png)
        rows = {str(image_id): row for row, image_id in enumerate(i for split in SPLITS for i in captions[split])}
        (vinvl / "imageid2idx.json").write_bytes(json.dumps(rows).encode())
        for split in SPLITS:
            write_torch_file(coco / f"{split}_captions.pt", captions[split])
            (coco / f"{split}_img_keys.tsv").write_bytes(_lines(*captions[split]))
        candidates = candidate_lists(scenes["minival"], settings["seed"])
        write_torch_file(coco / "minival_caption_indexs_top20.pt", candidates)
        write_json(folder / SETTINGS_FILE, settings, indent=2)


def _make_scene(seed, job):
    """Everything the files hold about one picture (runs in a worker process)."""
    scene = sample_scene(seed, *job)
    image, captions, regions = draw_scene(scene, seed), write_captions(scene, seed), detect(scene, seed)
    record = {
        **asdict(scene),
        "captions": [{**c._asdict(), "mentions": [asdict(m) for m in c.mentions]} for c in captions],
        "regions": [region._asdict() for region in regions],
    }
    boxes = [region.box for region in regions]
    features = with_box_values(region_features(image, boxes), boxes, scene.width, scene.height)
    found = [{"class": r.tag, "conf": r.conf, "rect": [float(edge) for edge in r.box]} for r in regions]
    predictions = {"image_h": scene.height, "image_w": scene.width, "num_boxes": len(regions), "objects": found}
    text = base64.b64encode(features.astype("<f4").tobytes()).decode("ascii")
    return scene, record, text, json.dumps(predictions), png_bytes(image)


@contextmanager
def mapped(workers, num_jobs):
    """An ordered `map` over processes; over this process alone for `workers` 0 or a handful of pictures."""
    workers = os.cpu_count() if workers is None else workers
    if workers <= 1 or num_jobs < 64:
        yield map
        return
    # Fresh processes, not forks: the caller may hold threads (Paddle does). One thread for the matrix products of each;
    # they read that when NumPy comes, with the first picture.
    with multiprocessing.get_context("spawn").Pool(workers, os.putenv, ("OMP_NUM_THREADS", "1")) as pool:
        yield partial(pool.imap, chunksize=16)


@contextmanager
def _tsv_writer(path):
    """A function that writes a row's columns to a `.tsv`, and its byte offset to the `.lineidx` beside it."""
    with open(path, "wb") as rows, open(path.with_suffix(".lineidx"), "wb") as offsets:

        def write(*columns):
            offsets.write(_lines(rows.tell()))
            rows.write(_lines("\t".join(map(str, columns))))

        yield write


def write_json(path, value, indent=None):
    path.write_bytes(_lines(json.dumps(value, indent=indent)))


def _lines(*items):
    return "".join(f"{item}\n" for item in items).encode("ascii")


def candidate_lists(scenes, seed):
    """For every dev image the 20 captions it is ranked against, in random order: five are its own, eight belong to the
    pictures that share most with it, seven to pictures drawn at random. There are four `Scene`s at least, or none.

    Returns:
        dict image id -> JSON text of 20 pairs [image id, caption index].
    """
    lists = {}
    for scene in scenes:
        stream = Stream(seed, scene.image_id, "candidates")
        others = [other for other in stream.sample(scenes, len(scenes)) if other is not scene]
        alike = sorted(others, key=lambda other: -_likeness(scene, other))[:8]
        pairs = [[scene.image_id, k] for k in range(5)] + [[other.image_id, stream.below(5)] for other in alike]
        while len(pairs) < 20:
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
