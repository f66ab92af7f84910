"""What a caption of NoCaps must say: objects that a detector found, as words that constrained search has to use.

Per image up to three classes are chosen among the detector's boxes. Each is a chain of word pieces, and the chains of
an image make one finite-state machine over the tokens of a caption (`Machine`).

Source: docs/reference.md, constrained captions; Anderson et al. (EMNLP 2017), arXiv 1612.00576.
"""

import json
import logging
from typing import NamedTuple

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.formats.reading import read_json, read_text
from oscar_paddle.datasets.formats.tsv_file import TsvFile

log = logging.getLogger(__name__)

MAX_CONSTRAINTS, MAX_PIECES = 3, 4
MAIN_STATES = 2**MAX_CONSTRAINTS  # the bits of a main state say which constraints are satisfied
UPSTREAM_STATES = MAIN_STATES * MAX_PIECES  # what the reference's machine has room for

# Classes that are too general to be said, or parts of something that is; lower case, as classes are compared.
_NOT_SAID = frozenset(
    """auto part, bathroom accessory, bicycle wheel, boy, building, clothing, door handle, fashion accessory, footwear,
    girl, hiking equipment, human arm, human beard, human body, human ear, human eye, human face, human foot,
    human hair, human hand, human head, human leg, human mouth, human nose, land vehicle, mammal, man, person,
    personal care, plant, plumbing fixture, seat belt, skull, sports equipment, tire, tree,
    vehicle registration plate, wheel, woman, __background__""".replace("\n   ", "").split(", ")
)
_SAID_AS = {
    "band-aid": "bandaid",
    "wood-burning stove": "wood burning stove",
    "kitchen & dining room table": "table",
    "salt and pepper shakers": "salt and pepper",
    "power plugs and sockets": "power plugs",
    "luggage and bags": "luggage",
}


class Words(NamedTuple):
    """The tokens that take a machine from one state to another: these ids, or all but these."""

    ids: frozenset
    all_but: bool = False

    def __contains__(self, token):
        return (token in self.ids) != self.all_but

    def __or__(self, ids):
        return self._replace(ids=self.ids - ids if self.all_but else self.ids | ids)


class Machine:
    """The finite-state machine of one image's constraints.

    States 0..7 are main states, whose bit k says that constraint k is satisfied; 0 is where a caption starts. The
    others stand inside a constraint of several pieces, and a token that does not go on with it leads back.

    Upstream: a loop of a main state on an earlier constraint's words, once taken away, comes back with the next
    constraint, so a caption may say these words without counting them.

    Args:
        chains: for each constraint the list of its pieces, each a set of ids: the forms that count as this piece.
    Attributes:
        edges: {state: [(state, Words), ...]}, every state with at least one; num_constraints, num_states: int.
        num_reached: how many states captions can reach.
        chains: as given, the ids of each piece in ascending order.
    """

    def __init__(self, chains):
        self.chains = [[sorted(forms) for forms in chain] for chain in chains]
        edges = {(state, state): Words(frozenset(), all_but=True) for state in range(MAIN_STATES)}
        states = MAIN_STATES
        for number, chain in enumerate(chains):
            bit = 1 << number
            for start in range(MAIN_STATES):
                if start & bit:
                    continue
                source = start
                for place, forms in enumerate(chain, start=1):
                    forms = frozenset(forms)
                    last = place == len(chain)
                    target = start + bit if last else states
                    states += not last
                    edges[source, target] = edges.get((source, target), Words(frozenset())) | forms
                    edges[source, start] = Words(forms, all_but=True)  # for source = start, the loop is made anew
                    source = target
        self.num_constraints, self.num_states = len(chains), states
        self.edges = {}
        for (source, target), words in edges.items():
            self.edges.setdefault(source, []).append((target, words))
        reached = {0}
        while more := {target for state in reached for target, _ in self.edges[state]} - reached:
            reached |= more
        self.num_reached = len(reached)

    def satisfying(self, wanted):
        """The main states in which at least so many constraints, or all there are, are satisfied: list of int."""
        wanted = min(wanted, self.num_constraints)
        return [state for state in range(1 << self.num_constraints) if state.bit_count() >= wanted]


class Constraints:
    """The constraint files of a split (the cbs_* keys of its YAML).

    Args:
        boxes: TSV of image key and JSON list of {"class", "conf", ...}: what a detector found (cbs_box).
        pieces: TSV of a word and its word pieces, divided by commas (cbs_constraint).
        forms: TSV of a word piece and the forms that count as it, divided by commas (cbs_tokenforms).
        hierarchy: JSON tree of classes: nodes with "LabelName" and, above others, "Subcategory" (cbs_hierarchy).
        tokenizer: Tokenizer of the model.
    Raises:
        DataError: a file is missing or malformed, or has a key twice.
    """

    def __init__(self, *, boxes, pieces, forms, hierarchy, tokenizer):
        self.boxes, self.pieces_path, self.hierarchy_path = TsvFile(boxes), str(pieces), str(hierarchy)
        self._rows = _unique(enumerate(self.boxes.first_fields()), boxes)
        self._pieces, self._forms = _read_lists(pieces, "cbs_constraint"), _read_lists(forms, "cbs_tokenforms")
        self._heights = _read_heights(hierarchy)
        self._height_of = {}  # class -> height, as it is asked again and again
        self.tokenizer, self._unknown = tokenizer, set()

    def of(self, image_id):
        """The constraints of an image, at most three class names, the most confident first; [] without a box.

        Of equally confident boxes the class that stands lower in the hierarchy comes first, then the earlier one.

        Upstream: a filter by overlap (of a class and one above it) comes before; as the boxes are visited from the
        leaves upwards it never drops one, and only the order is left of it. Repeated classes are dropped after the
        cut to three, so three boxes of one class leave one constraint. Their order is any in the reference.
        """
        found = [box for box in self._boxes_of(image_id) if box[1] > 0 and box[0] not in _NOT_SAID]
        found.sort(key=lambda box: (-box[1], self._height(box[0], image_id)))
        names = [_SAID_AS.get(name, name) for name, _ in found[:MAX_CONSTRAINTS]]
        return list(dict.fromkeys(names))

    def word_pieces(self, constraint, image_id):
        """The pieces of a constraint, at most MAX_PIECES (list of str): those of its words, one after the other."""
        pieces = []
        for word in constraint.split():
            if word not in self._pieces:
                raise DataError(
                    f"{self.pieces_path}: no row for the word {word!r} of the constraint {constraint!r} (image "
                    f"{image_id} of {self.boxes.path}); expected a row of {word!r}, a tab and its word pieces"
                )
            pieces += self._pieces[word]
        return pieces[:MAX_PIECES]

    def machine(self, image_id, constraints=None):
        """Machine of an image, for `constraints` (class names, in the order of their bits) or those of `of`.

        Where a machine needs more states than the reference's has, which ends with an index error there, it has them;
        a log line says so.
        """
        constraints = self.of(image_id) if constraints is None else constraints
        chains = [[self._ids(piece) for piece in self.word_pieces(name, image_id)] for name in constraints]
        machine = Machine(chains)
        if machine.num_states > UPSTREAM_STATES:
            log.info(
                "image %s: the constraints %s make a machine of %d states; the reference stops above %d, here they "
                "all count",
                image_id,
                ", ".join(constraints),
                machine.num_states,
                UPSTREAM_STATES,
            )
        return machine

    def _boxes_of(self, image_id):
        """[(class in lower case, confidence)] of an image, in file order."""
        number = self._rows.get(str(image_id))
        if number is None:
            return []
        where = f"{self.boxes.path} row {number + 1} (image {image_id})"
        try:
            boxes = json.loads(self.boxes.row(number)[1])
            return [(box["class"].lower(), float(box["conf"])) for box in boxes]
        except (IndexError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise DataError(
                f'{where}: expected the image, a tab and a JSON list of {{"class": text, "conf": number}} '
                f"({type(error).__name__}: {error})"
            ) from None

    def _height(self, name, image_id):
        """How far the class is above its deepest leaf: that of the first node whose name is a part of the class's."""
        if name not in self._height_of:
            found = (height for label, height in self._heights if label in name)
            self._height_of[name] = next(found, None)
        if self._height_of[name] is None:
            raise DataError(
                f"{self.hierarchy_path}: no LabelName is the class {name!r} or a part of it (image {image_id} of "
                f"{self.boxes.path}); the boxes and the hierarchy must be of the same detector"
            )
        return self._height_of[name]

    def _ids(self, piece):
        """Ids of the forms of a piece. Upstream: one that the vocabulary lacks is [UNK], which then satisfies it."""
        forms, vocab = self._forms.get(piece, [piece]), self.tokenizer.vocab
        for form in forms:
            if form not in vocab and form not in self._unknown:
                self._unknown.add(form)
                log.warning("%s: %r is not in the vocabulary: [UNK] counts as it", self.pieces_path, form)
        return {vocab.get(form, self.tokenizer.unk_id) for form in forms}


def _unique(numbered_keys, path):
    """{key: number} of (number from 0, key)."""
    rows = {}
    for number, key in numbered_keys:
        first = rows.setdefault(key, number)
        if first != number:
            raise DataError(f"{path}: {key!r} is in row {first + 1} and in row {number + 1}; expected it once")
    return rows


def _read_lists(path, key):
    """{first field: list of the second, divided by commas} of a TSV file."""
    lists = {}
    text = read_text(path, f" ({key} of the split's YAML file)")
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        word, *rest = (field.strip() for field in line.split("\t"))
        pieces = [piece.strip() for piece in rest[0].split(",")] if rest else []
        if not word or not all(pieces) or not pieces:
            raise DataError(
                f"{path} row {number}: expected a word, a tab and word pieces divided by commas, found {line[:60]!r}"
            )
        if word in lists:
            raise DataError(f"{path} row {number}: {word!r} is there twice; expected it once")
        lists[word] = pieces
    return lists


def _read_heights(path):
    """[(name of a class in lower case, height above its deepest leaf)] of the tree, each node before those below it."""
    heights = []

    def visit(node):
        place = len(heights)
        heights.append((node["LabelName"].lower(), 0))
        height = max((visit(child) + 1 for child in node.get("Subcategory", [])), default=0)
        heights[place] = heights[place][0], height
        return height

    tree = read_json(path, " (cbs_hierarchy of the split's YAML file)")
    try:
        visit(tree)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f'{path}: expected a tree of objects with "LabelName" (text) and, above others, "Subcategory" (a list of '
            f"such): {type(error).__name__}: {error}"
        ) from None
    return heights
