"""A corpus on disk: made block by block, killed and gone on with, kept, stale, and what it says of wrong files."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from corpora import ANSWERS, REGIONS, ROWS, TAGS, write_corpus
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.corpus import blocks, building
from oscar_paddle.datasets.corpus.blocks import read_blocks


def texts(data):
    """[(image key, caption's ids, text_b's ids), ...] of all documents."""
    corpus = data.corpus
    tokens = corpus.tokens

    def ids(text):
        start = tokens.starts(text)
        return tokens.ids[start : start + tokens.lengths(text)].tolist()

    return [(corpus.columns(d)[0], ids(d), ids(corpus.text_b(d))) for d in range(len(corpus))]


def expected(tokenizer, rows=ROWS):
    words = {f"{name}_{key}": tags for name, found in TAGS.items() for key, tags in found.items()}
    words.update({f"{name}_{key}": found for name, each in ANSWERS.items() for key, found in each.items()})
    encode = tokenizer.encode

    def label(key):
        fields = key.split("_")
        return " ".join(words[f"{fields[0]}_{fields[-1]}"])

    return [(image, encode(text)[:10], encode(label(key))[:10]) for image, key, text in rows]


def cache(folder):
    return folder / ".oscar_cache"


# ---- blocks of lines

lines = st.lists(
    st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"").replace(b"\xef", b"")), min_size=1, max_size=12
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines, st.integers(1, 40), st.booleans())
def test_blocks_of_any_size_hold_every_line_once(tmp_path, found, block_bytes, ends):
    (tmp_path / "a.tsv").write_bytes(b"\n".join(found) + b"\n" * ends)
    while found and not found[-1].strip():
        found.pop()
    seen = []

    def read_row(rows):
        here = list(rows)
        seen.extend(here)
        return {"kept": np.array([line.startswith(b"a") for line in here], bool)}

    folder = tmp_path / "blocks"
    shutil.rmtree(folder, ignore_errors=True)
    if not found:
        with pytest.raises(DataError, match="no rows"):
            read_blocks(tmp_path / "a.tsv", read_row, folder, block_bytes)
        return
    made = read_blocks(tmp_path / "a.tsv", read_row, folder, block_bytes)
    data = (tmp_path / "a.tsv").read_bytes()
    assert seen == found
    numbers, before = [], 0
    for path in made:
        row, start, count = blocks.load(path, "row", "start", "lines")
        for at in start.tolist():
            assert data[at : at + 1] == b"a" and (at == 0 or data[at - 1 : at] == b"\n")
        numbers += (row + before).tolist()
        before += int(count)
    assert numbers == [number for number, line in enumerate(found, start=1) if line.startswith(b"a")]


def test_what_is_there_is_not_read_again_and_damage_is(folder):
    path, made = folder / "corpus" / "corpus.tsv", []

    def read_row(rows):
        made.extend(rows)
        return {"kept": np.ones(0, bool)}

    place = folder / "blocks"
    read_blocks(path, read_row, place, 64)
    assert len(made) == len(ROWS)
    made.clear()
    files = sorted(place.glob("*.npz"))
    files[0].write_bytes(files[0].read_bytes()[:50])
    read_blocks(path, read_row, place, 64)
    assert 0 < len(made) < len(ROWS)
    made.clear()
    read_blocks(path, read_row, place, 65)  # blocks of another size are others
    assert len(made) == len(ROWS)


# ---- the whole


def test_documents_texts_and_numbers(build, tokenizer):
    data = build()
    assert texts(data) == expected(tokenizer)
    assert data.corpus.questions.tolist() == [3, 4]
    assert [data.corpus.is_question(d) for d in range(8)] == [False] * 3 + [True] * 2 + [False] * 3
    assert data.corpus.images_differ(0, 3) and not data.corpus.images_differ(0, 1)  # coco_7 is not gqa_7
    values = [float(data.regions[int(image)][0, 0]) for image in data.corpus.image]
    assert values == [1, 1, 2, 3, 4, 4, 5, 6]
    assert data.describe([3]).endswith("corpus.tsv row 4 (image gqa_7)")


def test_a_second_start_reads_no_text(build, tokenizer, monkeypatch, folder):
    first = build()
    monkeypatch.setattr(building, "read_blocks", None)
    again = build()
    assert texts(again) == expected(tokenizer) and again.fingerprint() == first.fingerprint()
    assert not list(cache(folder).rglob("*.npz")) and not list(cache(folder).rglob("*probe*"))


def test_a_copy_is_opened_and_an_edit_is_read(build, folder, tokenizer, monkeypatch):
    """What belongs to the files is told by their content, not by their dates."""
    before = build().fingerprint()
    path = folder / "corpus" / "corpus.tsv"
    os.utime(path, (1, 1))
    with monkeypatch.context() as patched:
        patched.setattr(building, "read_blocks", None)
        assert build().fingerprint() == before
    path.write_text(path.read_text().replace("A man.", "A boy."))  # of the same length
    os.utime(path, (2, 2))
    assert texts(build())[2][1] == tokenizer.encode("A boy.")
    labels = folder / "corpus" / "labels_coco" / "predictions_gt.tsv"
    labels.write_text(labels.read_text().replace("man", "girl"))
    found = build()
    assert texts(found)[2][2] == tokenizer.encode("girl") and found.fingerprint() != before


def test_a_cut_off_array_is_made_again(build, folder, tokenizer):
    build()
    for path in cache(folder).rglob("*.npy"):
        path.write_bytes(path.read_bytes()[:-1])
        assert texts(build()) == expected(tokenizer)


def test_killed_while_it_is_made(folder, repository, build, tokenizer, monkeypatch):
    """kill -9 in the middle of a file; the next start goes on behind the last whole block."""
    rows = [(f"coco_{n % 2 + 7}", f"coco_{n % 2 + 7}", f"A dog and {'a cat ' * (n % 5)}.") for n in range(300)]
    write_corpus(folder, rows)
    code = f"""
        import os, signal
        from oscar_paddle.config.loader import load_config
        from oscar_paddle.datasets.corpus import blocks, texts
        from oscar_paddle.datasets.pretraining_dataset import build_pretraining_data
        from oscar_paddle.datasets.tokenization import build_tokenizer
        blocks.BLOCK_BYTES = 2000
        tokenizer, left = build_tokenizer({str(repository / "tests/golden/pretraining/checkpoint")!r}, True), 150
        encode = tokenizer.encode
        def count(text):
            global left
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            return encode(text)
        tokenizer.encode = count
        words = ["DATASET.DATA_DIR", {str(folder)!r}, "INPUT.MAX_SEQ_LEN", "12", "INPUT.IMG_FEATURE_DIM", "4"]
        build_pretraining_data(load_config({str(folder / "run.yaml")!r}, words), tokenizer, "corpus/corpus.yaml")
    """
    (folder / "run.yaml").write_text("{}")
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    kept = list(cache(folder).rglob("*.npz"))
    assert 2 <= len(kept) <= 6 and not list(cache(folder).rglob("corpus.json"))
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 2000)
    asked = []
    encode = tokenizer.encode
    tokenizer.encode = lambda text: asked.append(text) or encode(text)
    try:
        data = build()
    finally:
        del tokenizer.encode
    assert texts(data) == expected(tokenizer, rows)
    assert len(asked) < 300 + len(TAGS["coco"])
    assert not list(cache(folder).rglob("*.npz"))


def test_files_from_windows_and_a_last_line_without_an_end(build, folder, tokenizer):
    path = folder / "corpus" / "corpus.tsv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n").rstrip())
    data = build()
    assert texts(data) == expected(tokenizer) and "row 1 (image coco_7)" in data.describe([0])


def test_text_that_is_no_text_and_words_that_are_unknown(build, folder, caplog):
    path = folder / "corpus" / "corpus.tsv"
    path.write_text(path.read_text().replace("A dog and a cat.", "鮫 鯨 鮭 鯖 鱒 鮫 鯨 鮭 鯖 鱒"))
    build()
    assert "of the word pieces are [UNK]; is this the right vocab.txt?" in caplog.text
    path.write_bytes(path.read_bytes().replace(b"A man.", b"A \xff man."))
    with pytest.raises(DataError, match=r"corpus.tsv row 3: not UTF-8 text \(invalid start byte at byte 2"):
        build()


def test_a_missing_chunk_is_told_before_labels_are_read(build, folder, monkeypatch):
    (folder / "features" / "oi" / "2" / "features.tsv").unlink()
    monkeypatch.setattr(building, "read_label_rows", None)
    with pytest.raises(DataError, match="asks for chunk 2 of the features"):
        build()


def test_a_file_that_changes_while_it_is_read(build, folder, tokenizer, monkeypatch):
    path, encode = folder / "corpus" / "corpus.tsv", tokenizer.encode
    monkeypatch.setattr(tokenizer, "encode", lambda text: path.touch() or encode(text))
    with pytest.raises(DataError, match="corpus.tsv: changed while it was being read; start again"):
        build()


def test_settings_have_indexes_of_their_own(build, tokenizer):
    assert texts(build("INPUT.MAX_SEQ_LEN", 5))[0][1] == tokenizer.encode(ROWS[0][2])[:3]
    assert texts(build()) == expected(tokenizer)
    chunk = build("CORPUS.CHUNK_START_ID", 1, "CORPUS.CHUNK_END_ID", 3)
    assert texts(chunk) == [each for each in expected(tokenizer) if each[0] != "oi_0_a1"]
    assert [float(chunk.regions[int(image)][0, 0]) for image in chunk.corpus.image] == [1, 1, 2, 3, 4, 4, 6]


def test_a_read_only_data_folder(build, folder, tokenizer, monkeypatch, tmp_path_factory):
    (folder / ".oscar_cache").write_text("a file in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("home")))
    assert texts(build()) == expected(tokenizer)


def test_regions_may_be_used_elsewhere(build):
    data = build()
    regions, packed = data.regions, pickle.dumps(data)
    again = pickle.loads(pickle.dumps(regions))
    assert len(packed) < 10_000  # arrays are mapped again
    assert texts(pickle.loads(packed)) == texts(data)
    assert again[3].tolist() == regions[3].tolist() and regions.number_of_regions(0) == len(regions[0])
    assert 3 in regions and 99 not in regions and "image" in regions.missing(99)


# ---- wrong files


def damage(folder, name, before, after):
    path = folder / name
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))


@pytest.mark.parametrize(
    ("name", "before", "after", "said"),
    [
        ("corpus.tsv", "\tA man.", "", "corpus.tsv row 3: 2 columns; expected image key, label key and text"),
        ("corpus.tsv", "A man.", " ", "corpus.tsv row 3: the text of 'coco_8' is empty"),
        ("corpus.tsv", "coco_8\tcoco_8", "vg_8\tvg_8", "corpus.tsv row 3: unknown data set 'vg'"),
        ("corpus.tsv", "coco_8\tcoco_8", "coco_8\tcoco_88", "no row for the label coco_88, which"),
        ("corpus.tsv", "gqa_qa_9_12", "gqa_qa_9_13", "no row for the label gqa_qa_9_13, which"),
        ("corpus.tsv", "coco_8\tcoco_8", "coco_88\tcoco_8", "no row for the image of"),
        ("corpus.tsv", "oi_2_b2", "oi_3_b2", "asks for chunk 3 of the features; add the file, or choose chunks"),
        ("corpus.yaml", "coco_gqa_oi", "coco_gqa_vg", "corpus: unknown data set 'vg' has no folder in"),
        ("corpus.yaml", "coco_gqa_oi", "coco_gqa_sbu", "corpus: data set 'sbu' has no folder in"),
        ("corpus.yaml", "corpus_file: corpus.tsv", "", "corpus_file is None; expected text"),
        ("corpus.yaml", "corpus_file: corpus.tsv", "corpus_file: other.tsv", "other.tsv: no such file"),
        ("corpus.yaml", "  coco: labels_coco", "  coco: 3", "image_label_path: coco is 3; expected a folder"),
        ("corpus.yaml", "corpus: ", "corpus: [", "not YAML"),
        ("labels_coco/predictions_gt.tsv", '"man"', '""', "no text for the label coco_8, which"),
        ("labels_coco/predictions_gt.tsv", '"man"', "3", "predictions_gt.tsv row 2: image '8': an object of 'objects'"),
        ("labels_gqa/QA_fileB.tsv", '["red"]', '"red"', "QA_fileB.tsv row 1: answer '11': 'labels' is a str"),
    ],
)
def test_wrong_files_are_named(folder, build, name, before, after, said):
    damage(folder / "corpus", name, before, after)
    with pytest.raises(DataError) as error:
        build()
    assert said in str(error.value) and str(folder) in str(error.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("corpus/labels_coco/predictions_gt.tsv", "it holds the tags of data set 'coco'"),
        ("corpus/labels_gqa/QA_fileB.tsv", "corpus.tsv row 4 asks for a label in it"),
        ("features/oi/2/features.tsv", "row 8 (image oi_2_b2) asks for chunk 2 of the features"),
        ("features/gqa/features.tsv", "row 4 (image gqa_7) asks for the features"),
        ("corpus/corpus.tsv", "it holds the rows of the corpus"),
        ("corpus/corpus.yaml", "it describes the corpus (CORPUS.DATASET_FILE)"),
    ],
)
def test_missing_files_are_named(folder, build, name, said):
    (folder / name).unlink()
    with pytest.raises(DataError) as error:
        build()
    assert f"{folder / name}: no such file" in str(error.value) and said in str(error.value)


def test_of_equal_ids_the_last_counts_and_others_that_are_missing_are_counted(folder, build, tokenizer):
    labels, corpus = folder / "corpus" / "labels_coco" / "predictions_gt.tsv", folder / "corpus" / "corpus.tsv"
    labels.write_text(labels.read_text() + '8\t{"objects": [{"class": "girl"}]}\n')
    assert texts(build())[2][2] == tokenizer.encode("girl")
    corpus.write_text(corpus.read_text().replace("\tcoco_7\t", "\tcoco_77\t").replace("\tcoco_8\t", "\tcoco_88\t"))
    with pytest.raises(DataError, match="the label coco_77, which .*corpus.tsv row 1 asks for, and 2 others"):
        build()


def test_features_that_change(folder, build, monkeypatch):
    data = build()
    path = folder / "features" / "coco" / "features.tsv"
    rows = path.read_text().splitlines(keepends=True)
    path.write_text(rows[1] + rows[0])  # while a run reads it
    with pytest.raises(DataError, match=r"features.tsv byte .* \(image coco_7\): the row begins with"):
        data.regions[int(data.corpus.image[0])]
    (folder / "features" / "coco" / "features.lineidx").unlink()
    again = build()  # the map is that of the old order: the rows' own ids count
    assert [float(again.regions[int(image)][0, 0]) for image in again.corpus.image[:3]] == [1, 1, 2]


def test_a_corpus_behind_a_link(folder, build):
    """Its features lie beside the link, not beside what it points to; paths are told without detours."""
    (folder / "corpus").rename(folder / "features" / "elsewhere")
    (folder / "corpus").symlink_to(folder / "features" / "elsewhere")
    for data in (build(), build()):
        assert float(data.regions[int(data.corpus.image[3])][0, 0]) == 3
    path = folder / "features" / "coco" / "features.tsv"
    path.write_text(path.read_text().replace("7\t", "8\t", 1))
    with pytest.raises(DataError) as error:
        data.regions[int(data.corpus.image[0])]
    assert str(error.value).startswith(f"{path} byte 0")


def test_a_corpus_that_loses_images_over_the_same_features(folder, build):
    before = build()
    values = [float(before.regions[int(image)][0, 0]) for image in before.corpus.image]
    path = folder / "corpus" / "corpus.tsv"
    rows = path.read_text().splitlines(keepends=True)
    path.write_text("".join(rows[2:]))
    after = build()
    assert [float(after.regions[int(image)][0, 0]) for image in after.corpus.image] == values[2:]


@pytest.mark.parametrize("content", ["{", '{"7": "0"}', '{"7": 5, "8": 0}', '{"7": 0}', '["7"]'])
def test_a_wrong_map_of_ids_is_not_used(folder, build, content):
    (folder / "features" / "coco" / "imageid2idx.json").write_text(content)
    data = build()
    assert [float(data.regions[int(image)][0, 0]) for image in data.corpus.image[:3]] == [1, 1, 2]


def test_leading_zeros_tell_images_apart(folder, build):
    rows = [("coco_7", "coco_7", "A dog."), ("coco_007", "coco_7", "A cat.")]
    write_corpus(folder, rows, regions={**REGIONS, "coco": {"": ["7", "8", "007"]}})
    data = build()
    assert [float(data.regions[int(image)][0, 0]) for image in data.corpus.image] == [1, 3]


def test_an_image_in_which_nothing_was_detected(folder, build):
    path = folder / "features" / "coco" / "features.tsv"
    path.write_text("7\t0\t\n8\t0\t\n")
    data = build()
    with pytest.raises(DataError, match="number of boxes is 0"):
        data.batch([0], 0)
    assert build("DATASET.EMPTY_IMAGES", "skip").batch([0], 0)["num_regions"].tolist() == [1]


def test_the_manifest_is_small(folder, build):
    build()
    manifest = json.loads(next(cache(folder).rglob("corpus.json")).read_text())
    assert set(manifest) == {"settings", "first_answer", "files"} and str(folder) not in json.dumps(manifest)
