"""*Scenes*: the built-in generated data set of the quick start and the tests.

Drawn pictures of three to five shapes, five captions each, simulated detections, region features computed from the
pixels, in the published file layout:

    <root>/coco_ir/        {train,minival,test}_captions.pt, *_img_keys.tsv, minival_caption_indexs_top20.pt
    <root>/model_0060000/  features.tsv, predictions.tsv (+ .lineidx), imageid2idx.json
    <root>/images/         <image id>.png of minival and test (train on request)
    <root>/init/           config.json and vocab.txt of a model trained from scratch
    <root>/scenes.json, scenes_truth.jsonl   settings; the facts behind every picture, caption and region
    <root>/<task>/         on request: questions and statements, see tasks.py

The parts: world.py (facts), drawing.py (picture), captions.py (text), detector.py (regions and tags), features.py (2048
values), files.py (layout).
"""

import json
import multiprocessing
import os
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

from tqdm import tqdm

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.formats.torch_writer import write_torch_file
from oscar_paddle.datasets.formats.whole_files import is_kept, whole_folder
from oscar_paddle.datasets.scenes import files
from oscar_paddle.datasets.scenes.captions import caption_from_dict, write_captions
from oscar_paddle.datasets.scenes.detector import detect
from oscar_paddle.datasets.scenes.drawing import draw_scene, png_bytes
from oscar_paddle.datasets.scenes.features import region_features, with_box_values
from oscar_paddle.datasets.scenes.world import SPLITS, VERSION, sample_scene, scene_from_dict

SETTINGS_FILE = "scenes.json"
MIN_DEV = 4  # fewer pictures do not have fifteen captions of others for the candidate lists


def write_scenes(root, num_train, num_dev, num_test, seed, train_images=False, workers=None, overwrite=False, model=()):
    """Write the data set, or keep it where it is already there with the same settings.

    The same arguments give the same bytes on every machine, whatever `workers` is. The folder appears complete or
    not at all. `init/` is written at every call.

    Args:
        root: folder to create.
        num_train, num_dev, num_test: pictures per split; num_dev is 0 or at least 4.
        seed: any int.
        train_images: also write the pictures of the training split.
        workers: processes; None = one per core, 0 = this process only.
        overwrite: replace an older *scenes* folder that has other settings.
        model: keyword arguments of `files.init_config`, as a dict.
    Returns:
        Path of the folder.
    Raises:
        DataError: bad sizes of splits or model, or `root` holds something else.
    """
    root = Path(root)
    sizes = {"train": num_train, "minival": num_dev, "test": num_test}
    if min(sizes.values()) < 0 or 0 < num_dev < MIN_DEV:
        raise DataError(
            f"scenes: num_train {num_train}, num_dev {num_dev}, num_test {num_test}: "
            f"expected sizes >= 0, and num_dev 0 or at least {MIN_DEV}"
        )
    files.init_config(**dict(model))  # complains before the work, not after
    settings = {"name": "scenes", "version": VERSION, "seed": seed, **{f"num_{s}": n for s, n in sizes.items()}}
    settings["train_images"] = bool(train_images)
    if not is_kept(root, SETTINGS_FILE, settings, "scenes", overwrite):
        _build(root, settings, sizes, workers)
    files.write_init_folder(root, **dict(model))
    return root


def read_truth(root, split=None):
    """The facts behind the pictures.

    Args:
        root: folder of `write_scenes`.
        split: "train", "minival" or "test"; None = all.
    Returns:
        list of dicts with `scene` (`Scene`), `captions` (list of `Caption`) and `regions` (list of dicts with `box`,
        `tag`, `conf`, `shows`: object index or None, `kind`), in file order.
    Raises:
        DataError: the file is missing.
    """
    path = Path(root) / "scenes_truth.jsonl"
    if not path.is_file():
        raise DataError(f"{path}: no such file; write_scenes (tools/make_scenes.py) creates it")
    records = []
    with open(path, encoding="ascii") as lines:
        for line in lines:
            record = json.loads(line)
            if split in (None, record["split"]):
                captions = [caption_from_dict(caption) for caption in record["captions"]]
                records.append({"scene": scene_from_dict(record), "captions": captions, "regions": record["regions"]})
    return records


def _build(root, settings, sizes, workers):
    jobs = [(split, index) for split in SPLITS for index in range(sizes[split])]
    scenes, captions = {split: [] for split in SPLITS}, {split: {} for split in SPLITS}
    with whole_folder(root) as folder:
        coco, vinvl, images = (folder / name for name in ("coco_ir", "model_0060000", "images"))
        for path in (coco, vinvl, images):
            path.mkdir()
        with (
            open(folder / "scenes_truth.jsonl", "wb") as truth,
            files.TsvWriter(vinvl / "features.tsv") as features,
            files.TsvWriter(vinvl / "predictions.tsv") as predictions,
            _mapper(workers, len(jobs)) as mapper,
        ):
            made = mapper(partial(_make_scene, settings["seed"]), jobs)
            for scene, texts, record, columns, tags, png in tqdm(made, "scenes", len(jobs), unit="picture"):
                scenes[scene.split].append(scene)
                captions[scene.split][scene.image_id] = json.dumps(texts)
                features.write(scene.image_id, *columns)
                predictions.write(scene.image_id, tags)
                truth.write(json.dumps(record).encode() + b"\n")
                if scene.split != "train" or settings["train_images"]:
                    (images / f"{scene.image_id}.png").write_bytes(png)
        image_ids = [image_id for split in SPLITS for image_id in captions[split]]
        rows = {str(image_id): row for row, image_id in enumerate(image_ids)}
        (vinvl / "imageid2idx.json").write_bytes(json.dumps(rows).encode())
        for split in SPLITS:
            write_torch_file(coco / f"{split}_captions.pt", captions[split])
            (coco / f"{split}_img_keys.tsv").write_bytes("".join(f"{key}\n" for key in captions[split]).encode())
        candidates = files.candidate_lists(scenes["minival"], settings["seed"])
        write_torch_file(coco / "minival_caption_indexs_top20.pt", candidates)
        (folder / SETTINGS_FILE).write_bytes((json.dumps(settings, indent=2) + "\n").encode())


def _make_scene(seed, job):
    """Everything the files hold about one picture (runs in a worker process)."""
    scene = sample_scene(seed, *job)
    image = draw_scene(scene, seed)
    captions, regions = write_captions(scene, seed), detect(scene, seed)
    boxes = [region.box for region in regions]
    features = with_box_values(region_features(image, boxes), boxes, scene.width, scene.height)
    facts = {"captions": [asdict(caption) for caption in captions], "regions": [asdict(region) for region in regions]}
    columns, tags = files.feature_columns(features), files.detections_json(scene, regions)
    return scene, [c.text for c in captions], {**asdict(scene), **facts}, columns, tags, png_bytes(image)


@contextmanager
def _mapper(workers, num_jobs):
    """An ordered `map` over processes; over this process alone for `workers` 0 or a handful of pictures."""
    workers = os.cpu_count() if workers is None else workers
    if workers <= 1 or num_jobs < 64:
        yield map
        return
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # for the matrix products of each process
    before = {name: os.environ[name] for name in one_thread if name in os.environ}
    os.environ.update(one_thread)
    try:
        # Fresh processes, not forks: the caller may hold threads (Paddle does).
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            yield partial(pool.imap, chunksize=16)
    finally:
        for name in one_thread:
            os.environ.pop(name)
        os.environ.update(before)
