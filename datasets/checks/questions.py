"""Checks a data set of questions or statements as a config names it: answers, texts, tags, ids, splits, and the regions
of every picture that is asked about.

The task says where a split lies and what a record means (its `Layout`); this file knows no task. As in dataset.py,
findings are collected and nothing stops at the first.
"""

import time
from array import array
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import numpy as np

from oscar_paddle.config.errors import ConfigError, DataError
from oscar_paddle.datasets.checks.captions import Split
from oscar_paddle.datasets.checks.dataset import check_files, check_images, draw
from oscar_paddle.datasets.checks.figures import Figures, Scope
from oscar_paddle.datasets.checks.findings import Findings, file_and_text
from oscar_paddle.datasets.checks.text import measure, open_tokenizer
from oscar_paddle.datasets.formats.reading import MissingFile
from oscar_paddle.datasets.questions.examples import Examples, feature_file
from oscar_paddle.datasets.questions.records import read_records
from oscar_paddle.datasets.regions.layouts import find_regions, open_regions
from oscar_paddle.datasets.regions.source import image_key

_OF_CAPTIONS = ("no_captions", "bad_list")  # findings in features that say something of captions only


@dataclass(kw_only=True)
class QuestionCheck(Figures):
    """What was found: the figures of all features, and this.

    Attributes:
        findings: Findings.
        sections: [(heading, [(name, value, "")]), ...], the figures for a report.
        images: dict image id -> name of its (first) split. chosen: those that were looked into, or None for all.
        regions: dict image id -> regions it has. seconds: the whole check.
    """

    findings: Findings
    sections: list
    images: dict
    chosen: set | None
    regions: dict
    seconds: float
    splits: tuple = ()
    captions: object = None
    rows: object = None


@dataclass
class _Read:
    """A split as far as it can be read: its Layout and Examples, records in all and those without an answer."""

    name: str
    layout: object
    examples: Examples
    records: int = 0
    unanswered: int = 0
    images: dict = field(default_factory=dict)  # image id -> the first example that asks for it


def check_questions(cfg, task, split_names=None, max_images=0, processes=1, seed=0):
    """Check the splits that a config names. Writes nothing.

    Args:
        cfg: frozen configuration.
        task: has `name`, `layout(cfg, split)` and `choices`, see `QuestionTask`.
        split_names, max_images, processes, seed: as for `check_dataset`.
    Returns:
        QuestionCheck.
    Raises:
        ConfigError: a split that the task does not have.
    """
    start, findings = time.perf_counter(), Findings()
    names, needed = _splits(cfg, task, split_names)
    splits = [read for name in names if (read := _read_split(cfg, task, name, name in needed, findings))]
    images = {}
    for split in splits:
        images.update((key, split.name) for key in split.images if key not in images)
    _check_leaks(splits, findings)
    rng = np.random.default_rng(seed)
    chosen = draw(rng, images, max_images) if 0 < max_images < len(images) else None
    total = _check_features(cfg, splits, images, chosen, processes, findings)
    words = _check_text(cfg, splits, findings)
    regions = {image.key: image.count for image in total.features}
    sections = [(f"{task.name} splits", [_split_row(split) for split in splits])]
    if regions:
        counts = np.array(list(regions.values()))
        shown = f"{counts.mean():.1f} / {counts.min()} / {counts.max()}"
        sections.append(("Regions", [("regions: mean / fewest / most", shown, "")]))
    return QuestionCheck(
        **vars(total),
        findings=findings,
        sections=sections + words,
        images=images,
        chosen=chosen,
        regions=regions,
        seconds=time.perf_counter() - start,
    )


def _splits(cfg, task, split_names):
    """(names of the splits to check, names of those that must be there)."""
    keys = ("DATASET.TRAIN", "DATASET.DEV", "DATASET.TEST")
    known = dict.fromkeys(name for key in keys for name in task.choices[key])
    wrong = [name for name in split_names or () if name not in known]
    if wrong:
        raise ConfigError(f"--splits {wrong[0]}: {task.name} has {', '.join(known)}")
    if split_names:
        return list(dict.fromkeys(split_names)), set(split_names)
    needed = {"DATASET.TRAIN"} if cfg.PRETRAINED.DIR else set()
    if cfg.PRETRAINED.DIR and (cfg.MONITOR.EVAL_FREQ or cfg.MONITOR.EVAL_STEPS):
        needed.add("DATASET.DEV")
    if cfg.EVAL.CHECKPOINT_DIR:
        needed.add("DATASET.TEST")
    named = {key: cfg.DATASET[key.partition(".")[2]] for key in keys}
    for key in needed:
        if named[key] not in task.choices[key]:
            raise ConfigError(f"{key} is {named[key]!r}; {task.name} has {', '.join(task.choices[key])}")
    there = [name for key, name in named.items() if name in task.choices[key]]
    return list(dict.fromkeys(there)), {named[key] for key in needed} or set(there)


def _read_split(cfg, task, name, is_needed, findings):
    """The _Read of a split, or None where a finding says why there is none."""
    try:
        layout = task.layout(cfg, name)
    except DataError as error:
        kind, (path, text) = "missing_file" if isinstance(error, MissingFile) else "bad_labels", file_and_text(error)
        if not findings.counts[kind, path]:  # the splits share it
            findings.add(kind, path, text)
        return None
    split, damaged = _Read(name, layout, Examples()), False
    for path, origin in layout.files:
        ids = array("q")  # hashes: the largest file has 14 to 16 million
        try:
            for number, record in read_records(path, origin):
                where = f"{path} record {number}"
                split.records += 1
                known = len(split.examples.sentences)
                ids.append(hash(str(record.get("q_id", (number,)))))
                try:
                    layout.add(split.examples, path, number, record, where)
                except DataError as error:
                    findings.add("bad_question", path, str(error).removeprefix(f"{path} "))
                    damaged = True
                    continue
                if known == len(split.examples.sentences):
                    split.unanswered += 1
                elif not split.examples.sentences[-1].strip():
                    findings.add("blank_question", path, f"record {number}")
        except DataError as error:
            kind = "missing_file" if isinstance(error, MissingFile) else "unreadable"
            if kind == "missing_file" and not is_needed:
                findings.add("no_check", path, f"no questions of split {name!r}, which this config does not need")
            else:
                findings.add(kind, path, f"split {name!r}: {str(error).removeprefix(f'{path}: ')}")
            damaged = True
        _check_ids(path, np.array(ids), findings)
    path = layout.files[0][0]
    if split.unanswered:
        text = f"{split.unanswered:,} of {split.records:,} questions of split {name!r}"
        findings.add("unanswered", path, text, count=split.unanswered)
    if not split.examples.sentences:
        if not damaged:
            findings.add("no_questions", path, f"split {name!r}: {split.records:,} records")
        return None
    _check_rows(cfg, split, findings)
    return split


def _check_ids(path, ids, findings):
    """Question ids (hashes [records] int64) that stand twice in a file."""
    order = np.argsort(ids, kind="stable")
    for place in np.flatnonzero(ids[order[1:]] == ids[order[:-1]]):
        text = f"record {order[place + 1]}: its question id is also that of record {order[place]}"
        findings.add("repeated_question", path, text)


def _check_rows(cfg, split, findings):
    """Tags and pictures of the encoder rows; fills `split.images`."""
    examples, path = split.examples, split.layout.files[0][0]
    rows = len(examples.images) // len(examples.sentences)
    for row, image_ids in enumerate(examples.images):
        for image_id in image_ids:
            split.images.setdefault(image_key(image_id), row // rows)
    for example in range(len(examples.sentences)):
        pictures = [key for row in examples.images[example * rows : (example + 1) * rows] for key in row]
        if len(pictures) == 2 and pictures[0] == pictures[1]:
            findings.add("same_pictures", path, f"{_place(examples, example)}: image {pictures[0]}")
    untagged = sum(not tags.strip() for tags in examples.tags) if cfg.INPUT.ADD_OD_LABEL else 0
    if untagged:
        text = f"{untagged:,} of {len(examples.tags):,} rows of split {split.name!r} (INPUT.ADD_OD_LABEL is True)"
        findings.add("no_question_tags", path, text, count=untagged)


def _place(examples, example):
    return f"record {examples.numbers[example]}"


def _check_leaks(splits, findings):
    """The same image in two splits, or a split that is a part of another."""
    for number, second in enumerate(splits):
        for first in splits[:number]:
            is_part = second.name in first.name.split("+") or first.name in second.name.split("+")
            kind = "shared_id" if is_part else "leak_id"
            for key in (key for key in second.images if key in first.images):
                findings.add(kind, second.layout.files[0][0], f"image {key} is in {first.name} and in {second.name}")


def _check_features(cfg, splits, images, chosen, processes, findings):
    """Figures of the regions of all images; those without any are findings that name the record that asks for them."""
    found, groups = Findings(), defaultdict(lambda: defaultdict(dict))
    for split in splits:
        for name, keys in _by_features(cfg, split).items():
            groups[feature_file(cfg, name)][name].update(dict.fromkeys(keys, ()))
    files = []
    for feat_file, names in groups.items():
        own = cfg.clone()
        own.defrost()
        own.DATASET.FEAT_FILE, own.INPUT.ADD_OD_LABEL = feat_file, False  # tags come from the question files
        scope = Scope(own, found, processes, chosen, set())
        files += check_files(scope, [Split(name, name, 0, captions) for name, captions in names.items()])
    check_images(files, images, cfg.INPUT.MAX_REGION, found)
    for key in [key for key in found.counts if key[0] in _OF_CAPTIONS]:
        del found.counts[key], found.examples[key]
    for kind, path in found.examples:
        if kind == "no_features":
            found.examples[kind, path] = [_who_asks(example, splits) for example in found.examples[kind, path]]
    findings.merge(found)
    total = Figures()
    for _, figures in files:
        total += figures
    return total


def _who_asks(example, splits):
    """A finding "image 7 of split ..." with the record in place of the split."""
    key = image_key(example.text.removeprefix("image ").rpartition(" of split ")[0])
    for split in splits:
        if key in split.images:
            return example._replace(text=f"image {key}, which {split.examples.where(split.images[key])} asks for")
    return example


def _by_features(cfg, split):
    """{name of a feature file: image ids that it should have} of a split; see `Layout.features`."""
    joined, *halves = split.layout.features
    if not halves or _is_there(cfg, joined):
        return {joined: list(split.images)}
    by_name, rest = {}, list(split.images)
    for name in halves[:-1]:
        if not _is_there(cfg, name):
            continue
        place = cfg.DATASET.DATA_DIR, name, feature_file(cfg, name), cfg.INPUT.IMG_FEATURE_TYPE, "off"
        source = open_regions(*place, feature_dim=cfg.INPUT.IMG_FEATURE_DIM)
        by_name[name] = [key for key in rest if key in source]
        rest = [key for key in rest if key not in source]
    return {**by_name, halves[-1]: rest}


def _is_there(cfg, name):
    try:
        find_regions(cfg.DATASET.DATA_DIR, name, feature_file(cfg, name), cfg.INPUT.IMG_FEATURE_TYPE)
    except DataError:
        return False
    return True


def _check_text(cfg, splits, findings):
    """Sections of figures; word pieces that are unknown, and what does not fit into INPUT.MAX_SEQ_LEN."""
    tokenizer = open_tokenizer(cfg, findings, "questions and tags") if splits else None
    sections = []
    for split in splits if tokenizer else ():
        examples, path, lengths, rows = split.examples, split.layout.files[0][0], {}, []
        for name, texts in (("questions", examples.sentences), ("tags", examples.tags)):
            found = measure({text: [text] for text in dict.fromkeys(texts)}, tokenizer, name, path, findings)
            lengths[name] = np.array([found.lengths[text][0] for text in texts], np.int64)
            if found.pieces:
                share = f"{found.unknown:,} of {found.pieces:,}"
                rows.append((f"unknown pieces of different {name}", share, ""))
                rows.append(
                    (f"word pieces, {name}: mean / most", f"{lengths[name].mean():.1f} / {lengths[name].max()}", "")
                )
        each = len(examples.images) // len(examples.sentences)
        sentences, has_tags = np.repeat(lengths["questions"], each), np.array(examples.has_tags)
        builder = split.layout.builder(0, 0, cfg.INPUT.MAX_SEQ_LEN)
        kept, tags_kept, _ = builder.row_lengths(sentences, lengths["tags"], has_tags)
        for row in np.flatnonzero(kept < sentences):
            text = f"{_place(examples, row // each)}: {sentences[row]} word pieces, {kept[row]} are kept"
            findings.add("question_cut", path, f"{text} (INPUT.MAX_SEQ_LEN {cfg.INPUT.MAX_SEQ_LEN})")
        cut = int((np.maximum(tags_kept, 0) < lengths["tags"] * has_tags).sum())
        if cut:
            findings.add("question_tags_cut", path, f"{cut:,} of {len(kept):,} rows of split {split.name!r}", count=cut)
        sections.append((f"Words of {split.name}", rows))
    return sections


def _split_row(split):
    answers = Counter(split.examples.classes).most_common(1)
    text = f"{len(split.examples.sentences):,} / {len(split.images):,}"
    if answers and split.layout.labels:
        text += f"; commonest answer {split.layout.labels.answers[answers[0][0]]!r}, {answers[0][1]:,} times"
    return f"{split.name}: questions / images", text, ""
