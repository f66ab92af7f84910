"""Selection of constraints and their state machines, against what the reference computed, and bad files."""

import json
import logging
import shutil

import numpy as np
import pytest

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.captions.constraints import Constraints, Machine
from oscar_paddle.datasets.tokenization import build_tokenizer

FILES = {
    "boxes": "boxes.tsv",
    "pieces": "constraint2tokens.tsv",
    "forms": "tokenforms.tsv",
    "hierarchy": "hierarchy.json",
}


@pytest.fixture(scope="module")
def golden(repository):
    return repository / "tests" / "golden" / "captioning"


@pytest.fixture(scope="module")
def tokenizer(golden):
    return build_tokenizer(golden / "checkpoint", True)


@pytest.fixture
def folder(golden, tmp_path):
    """A copy of the constraint files."""
    return shutil.copytree(golden / "coco_caption" / "cbs", tmp_path / "cbs")


@pytest.fixture
def read(folder, tokenizer):
    return lambda: Constraints(**{name: folder / file for name, file in FILES.items()}, tokenizer=tokenizer)


@pytest.fixture(scope="module")
def expected(golden):
    return json.loads((golden / "expected.json").read_text())["cbs"]["images"]


def dense(machine, states, vocabulary):
    """The machine as the reference keeps it: uint8 [from, to, token]."""
    table = np.zeros((states, states, vocabulary), np.uint8)
    for source, edges in machine.edges.items():
        for target, words in edges:
            table[source, target] = words.all_but
            table[source, target, list(words.ids)] = not words.all_but
    return table


def test_constraints_and_machines_are_the_references(golden, expected, read):
    constraints = read()
    arrays = np.load(golden / "expected_arrays.npz")
    shape = tuple(arrays["fsm_shape"])
    for image in expected:
        key, names = image["key"], image["constraints_in_order_used"]
        assert sorted(constraints.of(key)) == sorted(names), "the reference's order comes from a set"
        assert [constraints.word_pieces(name, key) for name in names] == image["word_pieces"]
        machine = constraints.machine(key, names)
        table = dense(machine, shape[0], shape[-1])
        assert (machine.num_states, table.sum(dtype=int)) == (image["states_used"], image["transitions"]), key
        packed = f"fsm_{image['index']}_packed"
        if packed in arrays:
            stored = np.unpackbits(arrays[packed])[: table.size].reshape(shape)
            assert np.array_equal(table, stored), key


def test_the_most_confident_come_first_and_of_equals_the_lower_class(folder, read):
    boxes = [("Cat", 0.5), ("Animal", 0.5), ("Bus", 0.4), ("Bird", 0.9), ("Dog", 0.0), ("Man", 1.0)]
    row = json.dumps([{"class": name, "conf": confidence} for name, confidence in reversed(boxes)])
    (folder / "boxes.tsv").write_text(f"7\t{row}\n")
    assert read().of(7) == ["bird", "cat", "animal"]
    assert read().of("8") == [], "no row, no constraint"


def test_repeated_classes_are_dropped_after_the_cut_to_three(read):
    assert read().of("199827") == ["bus"], "three boxes of a bus, and a train that does not come up"


def test_satisfying_states():
    machine = Machine([[{1}], [{2}], [{3}]])
    assert machine.satisfying(2) == [3, 5, 6, 7]
    assert machine.satisfying(9) == [7]
    assert Machine([]).satisfying(2) == [0]
    assert Machine([[{1}]]).satisfying(2) == [1]


def test_states_that_captions_reach():
    assert Machine([]).num_reached == 1
    assert Machine([[{1}], [{2}, {3}]]).num_reached == 4 + 2, "main states, and one inside the second from each of two"


def test_a_word_that_does_not_go_on_with_a_constraint_leads_back():
    machine = Machine([[{1}, {2, 3}]])
    inside = machine.edges[0][-1][0]
    assert inside >= 8
    assert {target: sorted(words.ids) for target, words in machine.edges[inside] if not words.all_but} == {1: [2, 3]}
    back = dict(machine.edges[inside])[0]
    assert 7 in back and 2 not in back


def test_a_machine_larger_than_the_references_keeps_all_constraints_and_says_so(folder, read, caplog):
    words = {f"w{number}": [f"p{number}{place}" for place in range(5)] for number in range(3)}
    (folder / "constraint2tokens.tsv").write_text("".join(f"{w}\t{','.join(p)}\n" for w, p in words.items()))
    with caplog.at_level(logging.INFO):
        fits = read().machine("5", ["w0", "w1"])
        assert fits.num_states == 32 and "image 5" not in caplog.text
        machine = read().machine("5", ["w0", "w1", "w2"])
    assert machine.num_states == 8 + 3 * 4 * 3, "each of 4 pieces at most"
    assert "image 5: the constraints w0, w1, w2 make a machine of 44 states" in caplog.text


def test_unknown_pieces_are_said_once(folder, read, tokenizer, caplog):
    constraints = read()
    for _ in range(2):
        machine = constraints.machine("500382", ["sandwich"])
    assert tokenizer.unk_id in machine.edges[0][-1][1]
    assert caplog.text.count("'sandwiches' is not in the vocabulary") == 1


@pytest.mark.parametrize(
    "file, text, message",
    [
        ("boxes.tsv", "7\n", r"boxes.tsv row 1 \(image 7\): expected the image, a tab and a JSON list"),
        ("boxes.tsv", '7\t[{"class": "Cat"}]\n', r"boxes.tsv row 1 .*KeyError: 'conf'"),
        ("boxes.tsv", '7\t[{"class": "Cat", "conf"\n', r"boxes.tsv row 1 \(image 7\)"),
        ("boxes.tsv", "7\t[]\n8\t[]\n7\t[]\n", "boxes.tsv: '7' is in row 1 and in row 3"),
        ("boxes.tsv", '7\t[{"class": "Zebra", "conf": 1}]\n', "hierarchy.json: no LabelName .* 'zebra' .*image 7"),
        ("constraint2tokens.tsv", "cat\tcat\ncat\tcat\n", "constraint2tokens.tsv row 2: 'cat' is there twice"),
        ("constraint2tokens.tsv", "cat\n", "constraint2tokens.tsv row 1: expected a word, a tab"),
        ("constraint2tokens.tsv", "cat\tcat,\n", "constraint2tokens.tsv row 1: expected a word, a tab"),
        ("constraint2tokens.tsv", "dog\tdog\n", "constraint2tokens.tsv: no row for the word 'cat' .*image 7"),
        ("tokenforms.tsv", None, r"tokenforms.tsv: no such file \(cbs_tokenforms"),
        ("hierarchy.json", '{"LabelName": 3}', "hierarchy.json: expected a tree"),
        ("hierarchy.json", '{"LabelName": "Cat", "Subcategory": ["Dog"]}', "hierarchy.json: expected a tree"),
        ("hierarchy.json", "{", "hierarchy.json: malformed JSON"),
    ],
)
def test_bad_files_are_named(folder, read, file, text, message):
    (folder / "boxes.tsv").write_text('7\t[{"class": "Cat", "conf": 1}]\n')
    (folder / file).unlink() if text is None else (folder / file).write_text(text)
    with pytest.raises(DataError, match=message):
        constraints = read()
        for name in constraints.of("7"):
            constraints.word_pieces(name, "7")
