"""Scores of captions: the toolkit's digits, stored and, with Java, at hand; its traps; document frequencies."""

import json
import random
import shutil
import time
from importlib.util import find_spec

import numpy as np
import pytest

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.captions.frequencies import Frequencies, read_frequencies, write_frequencies
from oscar_paddle.datasets.captions.published import read_captions
from oscar_paddle.solvers.metrics import toolkit
from oscar_paddle.solvers.metrics.bleu import bleu, ngrams
from oscar_paddle.solvers.metrics.captioning import caption_metrics
from oscar_paddle.solvers.metrics.cider import CiderD, reward_text, word_frequencies
from oscar_paddle.solvers.metrics.ptb import tokenize, tokens
from oscar_paddle.solvers.metrics.rouge import rouge_l

needs_java = pytest.mark.skipif(
    not shutil.which("java") or not find_spec("pycocoevalcap"), reason="needs Java and pycocoevalcap"
)


@pytest.fixture(scope="module")
def cases(repository):
    path = repository / "tests" / "golden" / "captioning_scores" / "cases.json"
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def official(repository):
    folder = repository / "tests" / "golden" / "captioning"
    case = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    given = [
        [f"{text.strip().removesuffix('.')} <eos>" for text in own] for own in case["inputs"]["reward_case"]["gt_res"]
    ]
    return folder, case["scst"]["reward_case"] | {"references": given}


# ---- words


def test_words_are_the_toolkits(cases):
    wrong = [(text, words, tokenize(text)) for text, words in cases["words"] if tokenize(text) != words]
    assert not wrong and len(cases["words"]) > 400


@pytest.mark.parametrize(
    "space", ["\r", "\r\n", "\n", "\u2028", "\u2029", "\x0b", "\x0c", "\x1c", "\x85", "\t", "\xa0", "  "]
)
def test_every_white_space_parts_words_and_no_caption(space):
    assert tokenize(f"a{space}dog{space}runs.{space}") == ["a", "dog", "runs"]


def test_brackets_stay_words():
    assert tokenize("A dog (brown).") == ["a", "dog", "-lrb-", "brown", "-rrb-"]


def test_long_odd_texts_take_no_long():
    started = time.process_time()
    for piece in ("a-", "a.", "<a ", "'", "n't", "1,", "a@", "a_", "http://", "é'"):
        tokens(piece * 500)
    assert time.process_time() - started < 20


# ---- scores


@pytest.mark.parametrize("name", ["scenes", "awkward"])
def test_scores_are_the_toolkits(cases, name):
    case = cases[name]
    scores, images = caption_metrics(case["captions"], case["references"])
    assert set(scores) == {"Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "ROUGE_L", "CIDEr"}
    for metric, value in scores.items():
        assert value == pytest.approx(case["scores"][metric], abs=1e-9)
        for image, own in images.items():
            assert own[metric] == pytest.approx(case["images"][image][metric], abs=1e-9)


def test_bleu_takes_the_closest_length_and_of_two_the_shorter():
    candidate, references = ngrams("abcd"), [ngrams("abcde"), ngrams("abc")]
    total, own = bleu([candidate], [references])
    assert total[0] == pytest.approx(1, abs=1e-8)  # against 3 words no penalty; against 5 exp(-1/4)
    assert own.shape == (1, 4)
    assert bleu([ngrams(["a"])], [[ngrams("abc")]])[0][0] == pytest.approx(np.exp(-2), rel=1e-6)


def test_rouge_takes_precision_and_recall_from_different_references():
    words, precise, recalled = list("abcd"), list("abcdefgh"), ["a"]
    assert rouge_l(words, [precise, recalled]) == pytest.approx(1)  # neither reference alone gives 1
    assert max(rouge_l(words, [precise]), rouge_l(words, [recalled])) < 0.8


def test_rouge_of_nothing_is_the_toolkits():
    assert rouge_l([], [[]]) == 1  # "".split(" ") is one empty word
    assert rouge_l([], [["a"]]) == 0 == rouge_l(["a"], [[]])


def test_rouge_of_random_words():
    def longest(left, right):
        lengths = np.zeros((len(left) + 1, len(right) + 1), int)
        for i, a in enumerate(left, 1):
            for j, b in enumerate(right, 1):
                lengths[i, j] = lengths[i - 1, j - 1] + 1 if a == b else max(lengths[i - 1, j], lengths[i, j - 1])
        return lengths[-1, -1]

    rng = random.Random(0)
    for _ in range(200):
        left, right = ([rng.choice("abc") for _ in range(rng.randint(1, 90))] for _ in range(2))
        common = longest(left, right)
        precision, recall = common / len(left), common / len(right)
        wanted = 2.44 * precision * recall / (recall + 1.44 * precision) if common else 0
        assert rouge_l(left, [right]) == pytest.approx(wanted)


def test_cider_of_one_image_is_said_and_not_reported(caplog):
    scores, images = caption_metrics({1: "a dog"}, {1: ["a dog", "a cat"]})
    assert "CIDEr" not in scores and "CIDEr" not in images[1] and scores["Bleu_1"] > 0.99
    assert "over one image it is 0" in caplog.text


@pytest.mark.parametrize(
    ("captions", "references", "message"),
    [
        ({}, {}, "no captions"),
        ({1: "a"}, {1: []}, r"image 1: references \[\]; expected a list of at least one"),
        ({1: "a"}, {2: ["a"]}, "image 1 has a caption and no references"),
        ({1: "a"}, {1: ["a"], 2: ["b"]}, "image 2 has references and no caption"),
        ({"1": "a"}, {1: ["a"]}, "there they are int, 1"),
        ({1: "a"}, {"1": ["a"]}, "there they are str, '1'"),
    ],
)
def test_what_cannot_be_scored(captions, references, message):
    with pytest.raises(DataError, match=message):
        caption_metrics(captions, references)


def test_captions_without_words_score_nothing():
    scores, images = caption_metrics({1: "", 2: "...", 3: "a dog"}, {1: ["a cat"], 2: ["a bird"], 3: ["a dog"]})
    assert images[1]["CIDEr"] == 0 == images[2]["ROUGE_L"] and images[3]["ROUGE_L"] == 1
    assert all(np.isfinite(value) for value in scores.values())


# ---- rewards


def test_rewards_are_the_references(official):
    folder, case = official
    frequencies = read_frequencies(folder / "coco_caption" / "coco-train-words.p")
    assert frequencies.num_images == 8
    rewards = CiderD(*frequencies).rewards(case["wrapped"], [case["references"][k] for k in case["gt_index"]])
    assert rewards.dtype == np.float64
    np.testing.assert_allclose(rewards, case["ciderD_cached"], atol=1e-6, rtol=0)


def test_rewards_in_any_order_and_company_are_the_same():
    references = [["a dog runs <eos>", "a brown dog <eos>"], ["two cats <eos>"]]
    cider = CiderD(*word_frequencies([["a dog runs"], ["two cats"], ["a cat"]]))
    texts = ["a dog <eos>", "two cats <eos>", "", "two dogs <eos>"]
    together = cider.rewards(texts, [references[k % 2] for k in range(4)])
    alone = [float(cider.rewards([text], [references[k % 2]])[0]) for k, text in enumerate(texts)]
    assert together.tolist() == alone and together[1] > 0 and together[2] == 0
    assert cider.rewards([], []).shape == (0,)


def test_weights_are_clipped_as_in_the_toolkit():
    """The paper clips counts; with min(w_c, w_r) * w_r a word said twice counts once, in the candidate's norm twice."""
    cider = CiderD({}, 10)
    assert cider.rewards(["a a"], [["a"]])[0] == pytest.approx(10 / 4 * 0.5 * np.exp(-1 / 72))


def test_an_image_without_references_has_no_reward():
    with pytest.raises(DataError, match="'a dog' has no references"):
        CiderD({}, 2).rewards(["a dog"], [[]])
    with pytest.raises(DataError, match="of 0 images"):
        CiderD({}, 0)


# ---- document frequencies


def test_frequencies_count_images_not_captions():
    found = word_frequencies([["a dog.", "a dog "], ["a cat. ."]])
    assert found.num_images == 2 and found.document_frequency[("a",)] == 2
    assert found.document_frequency[("dog", "<eos>")] == 1 and ("dog.",) not in found.document_frequency
    assert reward_text(" a cat. . ").split() == ["a", "cat.", "<eos>"]
    with pytest.raises(DataError, match="two at least"):
        word_frequencies([["a dog"]])


def test_frequencies_written_and_read(tmp_path):
    import pickle

    found = word_frequencies([["a dog 中"], ["a cat"]])
    write_frequencies(tmp_path / "words.p", found)
    read = read_frequencies(tmp_path / "words.p")
    assert read == Frequencies(dict(found.document_frequency), 2)
    content = pickle.loads((tmp_path / "words.p").read_bytes(), encoding="latin-1")  # as the reference does
    assert content["ref_len"] == 2 and content["document_frequency"][("no", "such")] == 0.0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged"),
        (b"cos\nsystem\n(S'true'\ntR.", "posix|system"),
        (b"\x80\x02}q\x00.", 'expected a dictionary with "document_frequency"'),
        (b"(dS'document_frequency'\n(dS'a'\nI1\nssS'ref_len'\nI2\ns.", "is no tuple of one to four words"),
        (b"(dS'document_frequency'\n(d(S'a'\ntI1\nssS'ref_len'\nI0\ns.", "expected the number of images"),
        (b"(dS'document_frequency'\n(d(S'a'\ntI1\nssS'ref_len'\nFinf\ns.", "expected the number of images"),
        (b"(dS'document_frequency'\n(d(S'a'\ntI-1\nssS'ref_len'\nI2\ns.", "has the frequency '-1'"),
        (b"(dS'document_frequency'\n(d(S'a'\ntFnan\nssS'ref_len'\nI2\ns.", "has the frequency 'nan'"),
        (b"(dS'document_frequency'\n(d(S'a'\ntFinf\nssS'ref_len'\nI2\ns.", "has the frequency 'inf'"),
    ],
)
def test_frequencies_that_are_none(tmp_path, content, message):
    path = tmp_path / "words.p"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        read_frequencies(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_truncated_frequencies(official, tmp_path):
    whole = (official[0] / "coco_caption" / "coco-train-words.p").read_bytes()
    for size in range(1, len(whole), 997):
        (tmp_path / "words.p").write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"words\.p: damaged"):
            read_frequencies(tmp_path / "words.p")
    with pytest.raises(DataError, match="no such file .*caption_frequencies"):
        read_frequencies(tmp_path / "none.p")


# ---- the toolkit


def test_what_is_missing_is_said_before_anything_is_scored(monkeypatch, tmp_path):
    monkeypatch.setattr(toolkit, "toolkit_folder", lambda: None)
    monkeypatch.setattr(toolkit.shutil, "which", lambda name: None)
    with pytest.raises(DataError, match=r"METEOR cannot be scored: missing java .*; the package pycocoevalcap"):
        toolkit.toolkit_metrics({}, {}, ["METEOR"])
    assert toolkit.missing([]) == []


def test_spice_without_its_jars(monkeypatch, tmp_path):
    monkeypatch.setattr(toolkit, "toolkit_folder", lambda: tmp_path / "package")
    monkeypatch.setattr(toolkit.shutil, "which", lambda name: "/usr/bin/java")
    (lack,) = toolkit.missing(["SPICE"], tmp_path / "jars")
    assert f"{tmp_path}/jars/stanford-corenlp-3.6.0.jar and" in lack and "models.jar" in lack and "--spice_jars" in lack
    for name in ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar"):
        path = tmp_path / "jars" / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert not toolkit.missing(["SPICE"], tmp_path / "jars")


@pytest.mark.slow
@needs_java
def test_meteor_is_the_toolkits(cases):
    case = cases["awkward"]
    scores, images = toolkit.toolkit_metrics(case["captions"], case["references"], ["METEOR"])
    assert scores["METEOR"] == pytest.approx(case["scores"]["METEOR"], abs=1e-9)
    assert images["3"]["METEOR"] == pytest.approx(case["images"]["3"]["METEOR"], abs=1e-9)


@pytest.mark.shared
@needs_java
def test_real_captions_have_the_toolkits_digits(shared, repository):
    import runpy

    make = runpy.run_path(str(repository / "tests" / "golden" / "captioning_scores" / "make_cases.py"))
    found = list(read_captions(shared / "data" / "flickr8k_regions" / "coco_ir", "test").values())
    captions = {str(image): own[0] for image, own in enumerate(found)}
    references = {str(image): own[1:] for image, own in enumerate(found)}
    case = make["official"](captions, references, meteor=False)
    scores, images = caption_metrics(captions, references)
    for metric, value in scores.items():
        assert value == pytest.approx(case["scores"][metric], abs=1e-6)
        assert all(own[metric] == pytest.approx(case["images"][key][metric], abs=1e-6) for key, own in images.items())
