"""A generated pre-training corpus of any size, and what opening and using it costs; for tools/bench_corpus.py.

`python -m oscar_paddle.tools.bench.corpus FOLDER first|second` runs one start in a process of its own.
"""

import base64
import json
import logging
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from oscar_paddle.config.default import get_cfg_defaults
from oscar_paddle.config.progress import tqdm
from oscar_paddle.datasets.corpus.definition import IN_CHUNKS, IN_ONE_PIECE
from oscar_paddle.datasets.corpus.prepare import Table
from oscar_paddle.datasets.pretraining_dataset import build_pretraining_data
from oscar_paddle.datasets.tokenization import SPECIAL_TOKENS, build_tokenizer

# Thousands of images, captions and questions: Oscar+'s large corpus (docs/reference.md, corpus files).
SIZES = dict(zip(IN_ONE_PIECE, ((112, 559, 545), (29, 145, 0), (79, 0, 1957)), strict=True))
SIZES |= {"oi": (1670, 1670, 0), "googlecc": (2885, 3100, 0), "sbu": (875, 875, 0)}
FULL = sum(captions + questions for _, captions, questions in SIZES.values()) * 1000
CHUNK_IMAGES, VALUES, WORDS, POOL = 100_000, 16, 20_000, 5_000
LENGTHS = {"caption": 11, "question": 7, "answer": 1, "objects": 12}  # words, mean; detections with one or two words
BATCH, BATCHES, THREADS, READERS = 64, 500, 4, 2


def generate(folder, rows, seed=0):
    """Lay a corpus of about `rows` rows into a folder, with a vocabulary beside it: the number of its images."""
    rng, scale = np.random.default_rng(seed), rows / FULL
    words = _vocabulary(folder, rng)
    texts = {kind: _texts(rng, words, mean) for kind, mean in LENGTHS.items() if kind != "objects"}
    labels = [_objects(rng, words) for _ in range(POOL)]
    features = [_regions(rng) for _ in range(POOL)]
    (folder / "corpus").mkdir(parents=True, exist_ok=True)
    images_in_all = 0
    with open(folder / "corpus" / "corpus.tsv", "w", encoding="ascii") as corpus:
        for name, thousands in SIZES.items():
            images, captions, questions = (max(1, round(1000 * n * scale)) if n else 0 for n in thousands)
            images_in_all += images
            ids = [f"{number:08d}" for number in rng.permutation(10 * images)[:images].tolist()]
            _write_labels(folder / "corpus" / f"labels_{name}", ids, labels, questions, texts["answer"], rng)
            in_chunks = name in IN_CHUNKS
            for chunk, start in enumerate(range(0, images, CHUNK_IMAGES if in_chunks else images)):
                part = folder / "features" / name / (str(chunk) if in_chunks else "")
                _write_features(part, ids[start : start + CHUNK_IMAGES] if in_chunks else ids, features, rng)
            for kind, count in (("caption", captions), ("question", questions)):
                drawn = rng.integers(POOL, size=(count, 2)).tolist()
                for row, pair in enumerate(tqdm(drawn, desc=f"{name} {kind}s", unit=" rows", delay=2)):
                    image = row * images // count
                    place = f"{name}_{image // CHUNK_IMAGES}" if in_chunks else name
                    label = f"{name}_qa_{ids[image]}_{row}" if kind == "question" else f"{name}_{ids[image]}"
                    text = " ".join(texts[kind][each] for each in pair)
                    corpus.write(f"{place}_{ids[image]}\t{label}\t{text} {words[row % WORDS]}.\n")
    lines = [f"corpus: {'_'.join(SIZES)}", "corpus_file: corpus.tsv"]
    for key, place in (("image_label_path", "labels_{}"), ("image_feature_path", "features/{}")):
        lines += [f"{key}:", *(f"  {name}: {place.format(name)}" for name in SIZES)]
    (folder / "corpus" / "corpus.yaml").write_text("\n".join(lines) + "\n")
    return images_in_all


def _vocabulary(folder, rng):
    """WORDS made-up words; a vocabulary of BERT's size with most of them whole, the others in pieces."""
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = list(dict.fromkeys("".join(rng.choice(letters, size=n)) for n in rng.integers(3, 9, size=2 * WORDS)))[
        :WORDS
    ]
    pieces = [*SPECIAL_TOKENS, ".", *letters, *(f"##{letter}" for letter in letters), *words[: WORDS * 9 // 10]]
    pieces = list(dict.fromkeys(pieces))
    pieces += [f"[unused{number}]" for number in range(30522 - len(pieces))]
    (folder / "vocab").mkdir(parents=True, exist_ok=True)
    (folder / "vocab" / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces))
    return words


def _texts(rng, words, mean):
    """POOL half texts; two and a word make one."""
    draw = (rng.zipf(1.3, size=(POOL, mean)) % WORDS).tolist()
    counts = rng.integers(max(1, mean // 4), max(2, 3 * mean // 4), size=POOL).tolist()
    return [" ".join(words[word] for word in row[:count]) for row, count in zip(draw, counts, strict=True)]


def _objects(rng, words):
    count = int(rng.integers(LENGTHS["objects"] // 2, 3 * LENGTHS["objects"] // 2))
    draw = (rng.zipf(1.3, size=(count, 2)) % WORDS).tolist()
    objects = [{"class": " ".join(words[w] for w in pair[: 1 + (pair[0] % 3 == 0)]), "conf": 0.5} for pair in draw]
    return json.dumps({"image_h": 480, "image_w": 640, "objects": objects})


def _regions(rng):
    count = int(rng.integers(1, 3))
    return f"{count}\t{base64.b64encode(rng.random((count, VALUES), np.float32).tobytes()).decode()}"


def _write_rows(path, names, values):
    """A .tsv file of names and values, its .lineidx."""
    with Table(path) as table:
        for name, value in zip(names, values, strict=True):
            table.write(name, value)


def _write_map(path, names):
    path.write_text(json.dumps({name: row for row, name in enumerate(names)}))


def _write_labels(folder, ids, labels, questions, answers, rng):
    _write_rows(
        folder / "predictions_gt.tsv", ids, (labels[each] for each in rng.integers(POOL, size=len(ids)).tolist())
    )
    _write_map(folder / "imageid2idx.json", ids)
    if questions:
        draw = rng.integers(POOL, size=questions).tolist()
        names = [str(number) for number in range(questions)]
        _write_rows(folder / "QA_fileB.tsv", names, (json.dumps({"labels": [answers[each]]}) for each in draw))
        _write_map(folder / "QA_qaid2idx.json", names)


def _write_features(folder, ids, features, rng):
    _write_rows(folder / "features.tsv", ids, (features[each] for each in rng.integers(POOL, size=len(ids)).tolist()))
    _write_map(folder / "imageid2idx.json", ids)


# ---- one start, in a process of its own


def configured(folder):
    cfg = get_cfg_defaults()
    cfg.DATASET.DATA_DIR, cfg.CORPUS.DATASET_FILE = str(folder), "corpus/corpus.yaml"
    cfg.INPUT.IMG_FEATURE_DIM, cfg.INPUT.MAX_REGION, cfg.INPUT.MAX_SEQ_LEN = VALUES, 50, 35
    cfg.INPUT.FEATURE_CACHE_MB = 64
    cfg.CORPUS.TEXTB_SAMPLE_MODE, cfg.CORPUS.TEXTA_FALSE_PROB = 1, 0.25
    cfg.freeze()
    return cfg


def open_once(folder):
    """(the data set, seconds, resident MiB before)."""
    cfg, tokenizer = configured(folder), build_tokenizer(str(folder / "vocab"), True)
    before, began = resident_mib(), time.perf_counter()
    data = build_pretraining_data(cfg, tokenizer, cfg.CORPUS.DATASET_FILE)
    return data, time.perf_counter() - began, before


def first_start(folder):
    """Make or go on making what a first start makes: dict for JSON."""
    data, seconds, before = open_once(folder)
    texts, tokenise = _tokenising(folder)
    return {
        "seconds": seconds,
        "documents": len(data.corpus),
        "images": len(data.corpus.regions.ids),
        "peak_mib": resident_mib("VmHWM"),
        "mib_before": before,
        "tokenising_alone_texts_per_s": texts / tokenise,
    }


def _tokenising(folder, rows=200_000):
    """(texts, seconds) of tokenising the first texts of the corpus and of a label file, and nothing else."""
    tokenizer, texts = build_tokenizer(str(folder / "vocab"), True), []
    with open(folder / "corpus" / "corpus.tsv", encoding="ascii") as file:
        texts += [line.split("\t")[2] for line, _ in zip(file, range(rows), strict=False)]
    with open(folder / "corpus" / "labels_sbu" / "predictions_gt.tsv", encoding="ascii") as file:
        objects = (json.loads(line.split("\t")[1])["objects"] for line, _ in zip(file, range(rows), strict=False))
        texts += [" ".join(each["class"] for each in found) for found in objects]
    began = time.perf_counter()
    for text in texts:
        tokenizer.encode(text)
    return len(texts), time.perf_counter() - began


def second_start(folder):
    """Open what is there, use it with threads, with further processes, and then all of it: dict for JSON."""
    data, seconds, before = open_once(folder)
    opened = resident_mib()
    rng = np.random.default_rng(1)
    wanted = rng.integers(data.num_examples, size=(min(BATCHES, data.num_examples // BATCH), BATCH))
    began = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        rows = sum(len(batch["contrast_labels"]) for batch in pool.map(lambda rows: data.batch(rows, 0), wanted))
    rate, used = rows / (time.perf_counter() - began), resident_mib()
    anonymous, readers = resident_mib("RssAnon"), [_reader(data, wanted, number) for number in range(READERS)]
    private = [float(os.read(pipe, 32)) for pipe, _ in readers]
    for _, child in readers:
        os.waitpid(child, 0)
    for name in ("ids", "_offsets"):
        np.add.reduce(getattr(data.corpus.tokens, name), dtype=np.int64)
    for values in (data.corpus.image, data.corpus._label, data.corpus._row, data.corpus._start):
        values.max()
    for values in vars(data.regions._places_of).values():
        if isinstance(values, np.ndarray):
            values.max()
    return {
        "seconds": seconds,
        "mib_before": before,
        "mib_added_when_open": opened - before,
        f"mib_added_after_{rows}_rows": used - before,
        "mib_added_with_every_page_used": resident_mib() - before,
        "of_these_not_shared": anonymous,
        "mib_private_to_each_further_reader": private,
        "rows_per_s_of_batches": rate,
    }


def _reader(data, wanted, number):
    """(pipe, process) of a forked process that reads batches and tells how much memory is its own, in MiB."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return reading, child
    for rows in wanted[number :: 2 * READERS]:
        data.batch(rows, 1)
    with open("/proc/self/smaps_rollup") as file:
        own = sum(int(line.split()[1]) for line in file if line.startswith("Private_Dirty"))
    os.write(writing, b"%.1f" % (own / 1024))
    os._exit(0)


def resident_mib(name="VmRSS"):
    """A figure of this process from /proc/self/status, MiB."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(f"{name}:"))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    print(json.dumps({"first": first_start, "second": second_start}[sys.argv[2]](Path(sys.argv[1]))))
