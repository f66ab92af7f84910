"""From pictures to regions: the detector that a configuration names, and its work through many pictures.

An extraction keeps what is done in blocks of BLOCK pictures, so a run that was stopped goes on; results depend on the
picture alone, so any number of processes, stopped or not, leaves the same bytes.
"""

import hashlib
import json
import logging
from pathlib import Path

from oscar_paddle.config.errors import ConfigError, DataError
from oscar_paddle.config.progress import tqdm
from oscar_paddle.datasets.formats.whole_files import whole_file
from oscar_paddle.datasets.regions.detections import Detection, read_block, write_block, write_layout
from oscar_paddle.datasets.regions.label_map import LabelMap, find_label_map
from oscar_paddle.models.checkpoints.weights import file_hash
from oscar_paddle.models.detector.detector import DetectorRules
from oscar_paddle.models.detector.pictures import InputRules
from oscar_paddle.models.detector.proposals import ProposalRules
from oscar_paddle.models.detector.selection import SelectionRules
from oscar_paddle.models.detector.weights import load_detector
from oscar_paddle.solvers.ranks import together
from oscar_paddle.solvers.scoring.code_version import code_version

log = logging.getLogger(__name__)

BLOCK = 16  # pictures: what a killed run may lose on each process
BLOCKS, SETTINGS, SKIPPED = ".blocks", "extraction.json", "skipped.jsonl"


class PictureReader:
    """What a detector says of a picture, with the names of what it sees.

    Args:
        model: Detector. names: LabelMap. rules: DetectorRules.
    """

    def __init__(self, model, names, rules):
        self.model, self.names, self.rules = model, names, rules

    def read(self, key, image):
        """A PIL image -> Detection."""
        found = self.model.detect(image, self.rules)
        objects = []
        for number, (box, label, score) in enumerate(zip(found.boxes, found.labels, found.scores, strict=True)):
            item = {"class": self.names.classes[label], "conf": float(score), "rect": [float(edge) for edge in box]}
            if found.attributes and self.names.attributes:
                labels, scores = (part[number] for part in found.attributes)
                item["attributes"] = [self.names.attributes[each] for each in labels[scores > 0]]
                item["attr_scores"] = [float(each) for each in scores[scores > 0]]
            objects.append(item)
        facts = {"image_w": image.width, "image_h": image.height, "num_boxes": len(objects), "objects": objects}
        return Detection(key, facts, found.features)


def rules_of(cfg):
    """DetectorRules of the section DETECTOR."""
    options = cfg.DETECTOR
    if options.MAX_BOXES < options.MIN_BOXES:
        found = f"DETECTOR.MIN_BOXES is {options.MIN_BOXES} and MAX_BOXES {options.MAX_BOXES}"
        raise ConfigError(f"{found}; expected the first to be no larger")
    return DetectorRules(
        input=InputRules(options.SHORT_SIDE, options.LONG_SIDE),
        proposals=ProposalRules(options.PROPOSALS_BEFORE, options.PROPOSALS),
        selection=SelectionRules(
            options.FILTER, options.SCORE_THRESHOLD, options.MIN_BOXES, options.MAX_BOXES, options.OVERLAP
        ),
        regress=options.REGRESSION,
    )


def build_reader(cfg):
    """PictureReader of a configuration.

    Raises:
        ConfigError: DETECTOR names no weights. WeightsError, DataError: they or the label map cannot be used.
    """
    weights = cfg.DETECTOR.WEIGHTS
    if not weights:
        raise ConfigError(
            "DETECTOR.WEIGHTS is not set; expected the detector's weights (download_dataset.sh --what detector)"
        )
    rules = rules_of(cfg)
    names = LabelMap(cfg.DETECTOR.LABEL_MAP or find_label_map(weights))
    model = load_detector(weights)
    names.check(model.shape.classes, model.shape.attributes, weights)
    return PictureReader(model, names, rules)


def extract(cfg, pictures, folder, *, layouts, ranks, skip_damaged=False, name="images"):
    """Write the regions of pictures into a folder, going on with what an earlier run has left.

    Args:
        pictures: Pictures. folder: Path. layouts: names among `detections.LAYOUTS`.
        ranks: Ranks; every so many blocks belong to one.
        skip_damaged: name pictures that cannot be read in skipped.jsonl and leave them out, rather than stop.
        name: see `write_layout`.
    Returns:
        list of Paths written, on the main rank.
    Raises:
        UserError: what went wrong on any rank; what was done is kept.
    """
    blocks = Path(folder) / BLOCKS
    reader = together(ranks, lambda: build_reader(cfg))
    together(ranks, lambda: ranks.rank or _claim(cfg, pictures, Path(folder), skip_damaged))
    together(ranks, lambda: _work(reader, pictures, blocks, ranks, skip_damaged))
    return ranks.on_main(lambda: _finish(pictures, Path(folder), blocks, layouts, name))


def _claim(cfg, pictures, folder, skip_damaged):
    """Make the folder this extraction's, or see that it is."""
    wanted = {
        "weights": file_hash(cfg.DETECTOR.WEIGHTS),
        "pictures": hashlib.blake2b("\n".join(pictures.keys).encode(), digest_size=16).hexdigest(),
        "detector": dict(cfg.DETECTOR),
        "skip_damaged": skip_damaged,
        "code": code_version(),
    }
    (folder / BLOCKS).mkdir(parents=True, exist_ok=True)
    path = folder / SETTINGS
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        differ = [key for key in wanted if found.get(key) != wanted[key]]
        if differ:
            raise DataError(f"{folder}: was begun with other {' and '.join(differ)}; choose another --output_dir")
        return
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")


def _block_path(blocks, number):
    return blocks / f"{number:06d}.tsv"


def _work(reader, pictures, blocks, ranks, skip_damaged):
    """Read this rank's pictures, block by block."""
    starts = range(0, len(pictures), BLOCK)
    mine = [n for n in range(len(starts)) if n % ranks.world_size == ranks.rank]
    todo = [n for n in mine if not _block_path(blocks, n).is_file()]
    sizes = {n: min(BLOCK, len(pictures) - starts[n]) for n in mine}
    total = sum(sizes.values())
    done = total - sum(sizes[n] for n in todo)
    with tqdm(total=total, initial=done, desc="looking", unit=" pictures", disable=not ranks.is_main) as bar:
        for number in todo:
            found = []
            for place in range(starts[number], starts[number] + sizes[number]):
                found.append(_look(reader, pictures, place, skip_damaged))
                bar.update(1)
            write_block(_block_path(blocks, number), found)


def _look(reader, pictures, place, skip_damaged):
    try:
        image = pictures.open(place, reader.rules.input.long)
    except DataError as error:
        if not skip_damaged:
            raise
        log.warning("skipped: %s", error)
        return Detection(pictures.keys[place], {"skipped": str(error)}, None)
    return reader.read(pictures.keys[place], image)


def _finish(pictures, folder, blocks, layouts, name):
    count = -(-len(pictures) // BLOCK)

    def all_found():
        for number in range(count):
            yield from read_block(_block_path(blocks, number))

    paths = [path for layout in layouts for path in write_layout(layout, folder, all_found(), name)]
    skipped = [{"picture": found.key, "why": found.facts["skipped"]} for found in all_found() if found.features is None]
    if skipped:
        with whole_file(folder / SKIPPED) as temporary:
            temporary.write_text("".join(json.dumps(each) + "\n" for each in skipped), encoding="utf-8")
        paths.append(folder / SKIPPED)
    return paths
