"""What a check of a data set finds: grouped by kind and file, counted, with the first examples and what to do."""

from collections import Counter, defaultdict
from typing import NamedTuple

KEPT_EXAMPLES = 5  # of one kind in one file; the rest is counted
LONGEST_TEXT = 300  # characters


class Kind(NamedTuple):
    """A sort of finding: what is wrong, for a heading, and what to do about it."""

    title: str
    remedy: str


PROBLEMS = {  # what stops training or spoils its numbers
    "missing_file": Kind("File missing", "Download or make it (bash download_dataset.sh --help), or correct the key."),
    "unreadable": Kind("File cannot be read", "Download or make the file again; this one is damaged."),
    "bad_captions": Kind("Captions that are no list of texts", "Make the caption file again: image id -> list of str."),
    "stale_captions": Kind("Captions are not those of their source", "Make them again with the command that is shown."),
    "two_pictures": Kind(
        "One image id for two pictures",
        "Give the pictures ids of their own ('id' in the JSONL), or prepare all splits from one file.",
    ),
    "few_captions": Kind(
        "Images with too few captions",
        "Add captions, leave these images out, or lower INPUT.NUM_CAPTIONS_PER_IMAGE_TRN / _DEV.",
    ),
    "blank_caption": Kind("Empty captions", "Remove them from the caption file, or write the missing text."),
    "bad_list": Kind("List of images or candidates is damaged", "Make the list again from the caption file."),
    "unknown_in_list": Kind("List names what has no captions", "Use the list that belongs to this split's captions."),
    "short_candidates": Kind(
        "Candidate lists that are missing or too short",
        "Set INPUT.NUM_CAPTIONS_PER_IMAGE_DEV to their length, or make the candidate file again.",
    ),
    "other_lists": Kind("Candidate lists of other captions", "Make captions and lists again, together."),
    "leak_id": Kind("Leak: the same image in two splits", "Remove it from one of them; scores are too good otherwise."),
    "leak_captions": Kind(
        "Leak: the same set of captions in two splits", "Probably one picture under two ids: remove one of them."
    ),
    "leak_features": Kind(
        "Leak: the same features in two splits", "Probably one picture under two ids: remove one of them."
    ),
    "no_features": Kind(
        "Images without features", "Extract features for them and add their rows, or leave the images out."
    ),
    "shared_features": Kind(
        "Two pictures lead to one file of features",
        "Give the files the folders of the pictures too, or the pictures an id.",
    ),
    "no_captions": Kind(
        "Images with features and without captions",
        "Add their captions, or take them out of the feature file: in this layout it says which images there are.",
    ),
    "empty_image": Kind(
        "Images in which nothing was detected",
        "Leave them out, lower the detector's threshold (one region of the whole picture will do), or set "
        "DATASET.EMPTY_IMAGES 'skip'.",
    ),
    "bad_row": Kind("Rows that cannot be read", "Extract these images again, or copy the file again."),
    "width": Kind(
        "Regions of another width than INPUT.IMG_FEATURE_DIM",
        "2048 values lack the six box values (x1/W, y1/H, x2/W, y2/H, w/W, h/H): append them; otherwise set the key.",
    ),
    "not_finite": Kind("NaN or infinite values", "Extract these images again; training stops at such a value."),
    "zero_region": Kind("Regions whose values are all zero", "Extract these images again: the detector gave nothing."),
    "box_outside": Kind(
        "Box values outside the image", "They must be fractions of the image: x by its width, y by its height."
    ),
    "box_inverted": Kind("Boxes whose corners are swapped", "The order is x1, y1, x2, y2, with x1 <= x2 and y1 <= y2."),
    "box_size": Kind(
        "Box sizes that contradict the corners", "The last two values are (x2-x1)/W and (y2-y1)/H, in this order."
    ),
    "packed_damaged": Kind("Packed features are damaged", "Pack them again: tools/pack_features.py; see --help."),
    "no_tag_row": Kind("Images without a row of tags", "Add their rows to predictions.tsv, or set ADD_OD_LABEL False."),
    "no_tags": Kind(
        "Images whose list of tags is empty",
        "Run the detector with a lower threshold; as it is they are trained with caption and regions alone.",
    ),
    "bad_tags": Kind("Rows of tags that cannot be read", "Write these rows again: id, tab, JSON of the detections."),
    "rect_outside": Kind("Detections outside the picture", "Give 'rect' in pixels, within image_w and image_h."),
    "rect_inverted": Kind("Detections whose corners are swapped", "Give 'rect' as x1, y1, x2, y2."),
    "picture_size": Kind("Pictures of another size than image_w x image_h", "Use the pictures the detector has seen."),
    "other_rows": Kind(
        "Rows of features and of tags are not the same images", "Write both files again, images in the same order."
    ),
    "no_references": Kind(
        "Images without captions that people wrote", "Add their captions, or take the images out of the feature file."
    ),
    "constraints": Kind("Constraints that cannot be used", "Correct the cbs_* files, or set CAPTION.USE_CBS False."),
    "repeated_id": Kind("An image id in two rows", "Remove one of the rows, then the index files beside the file."),
    "blank_row": Kind("Empty rows inside the file", "Remove them, then the index files beside the file."),
    "lineidx": Kind(".lineidx does not fit its .tsv", "Delete the .lineidx; it is built again at the next start."),
    "id_map": Kind("imageid2idx.json does not fit features.tsv", "Delete it; the ids are then read from the rows."),
    "bad_labels": Kind("List of answers is damaged", "Make it again, or correct DATASET.LABEL_FILE / LABEL2ANS_FILE."),
    "bad_question": Kind(
        "Questions that cannot be used",
        "Make the file again (tools/prepare_questions.py) with the same list of answers.",
    ),
    "no_questions": Kind("No question with an answer in the list", "Is this list of answers that of these questions?"),
    "blank_question": Kind("Empty questions", "Write the missing text, or remove them."),
    "repeated_question": Kind(
        "A question id stands twice", "Give every question an id of its own: servers take one answer for each."
    ),
    "blank_expression": Kind("Empty expressions", "Write the missing text, or remove them."),
    "repeated_expression": Kind("A sent_id stands twice", "Give every expression a sent_id of its own."),
    "flat_object": Kind(
        "Objects whose box has no area",
        "Correct their bbox in instances.json, or leave out the expressions about them.",
    ),
    "bad_corpus": Kind(
        "Description of a corpus is damaged", "Correct the YAML file (docs/pretraining.md says what it holds)."
    ),
    "bad_corpus_row": Kind(
        "Rows of a corpus that cannot be used",
        "Write them again: image key, tab, label key, tab, text; or leave them out.",
    ),
    "bad_label_row": Kind("Rows of labels that cannot be read", "Write these rows again: id, tab, JSON of the labels."),
    "no_label": Kind(
        "Rows of a corpus whose labels are missing or empty",
        "Add the labels (their ids must be written alike), or leave the rows out of the corpus.",
    ),
    "no_chunk": Kind(
        "Chunks of features that are missing",
        "Add the folders, or read a part of the corpus only (CORPUS.CHUNK_START_ID, CORPUS.CHUNK_END_ID).",
    ),
    "few_answers": Kind("Too few question-answer rows", "Set the sampling mode to 0 or 1."),
    "one_image": Kind("A corpus of one image", "Add rows of other images: wrong texts are drawn from them."),
    "unknown_pieces": Kind(
        "Many unknown word pieces", "Is this the vocabulary and casing of the model? See PRETRAINED.DIR, DO_LOWER_CASE."
    ),
}
NOTICES = {  # what to know, though nothing breaks on it
    "no_check": Kind("Not checked", "Nothing to do if you do not need this part; otherwise add what is missing."),
    "same_captions": Kind("An image has the same caption twice", "Harmless; the pair simply counts twice."),
    "repeated_captions": Kind(
        "Captions that another image has word for word",
        "Scores count such pairs as wrong; an evaluation also says what they are if these count as right.",
    ),
    "repeated_candidate": Kind("A candidate stands twice in a list", "Harmless; it counts twice as a wrong answer."),
    "skipped_image": Kind(
        "Images in which nothing was detected",
        "Training leaves them out, evaluation counts each as one empty region (DATASET.EMPTY_IMAGES).",
    ),
    "no_positive": Kind("Candidate lists without a right caption", "Such images can never count as found."),
    "shared_id": Kind("The same image in two evaluation splits", "Fine where one split is a part of the other."),
    "unanswered": Kind("Questions without an answer in the list", "They do not count, in training and in scores."),
    "no_question_tags": Kind("Questions without object tags", "Fine if all are; else make the file again with tags."),
    "same_pictures": Kind("Both pictures of a pair are the same", "Is the right one meant to be another?"),
    "unlisted": Kind("Rows of data sets that the corpus does not list", "Add their names to `corpus`, or accept it."),
    "question_cut": Kind("Questions that lose word pieces", "Raise INPUT.MAX_SEQ_LEN, if the model has the positions."),
    "question_tags_cut": Kind(
        "Tags that do not fit behind the question", "Raise INPUT.MAX_SEQ_LEN, or accept the cut."
    ),
    "box_flat": Kind("Boxes without area", "Harmless, but they say little; check the detector's settings."),
    "same_features": Kind("Images with equal features", "Probably the same picture twice."),
    "packed_stale": Kind("Packed features are not used", "Pack them again: tools/pack_features.py; see --help."),
    "no_size": Kind("Detections without the picture's size", "Add image_h and image_w; 600 and 800 are assumed."),
    "order": Kind(
        "Detections not sorted by confidence", "INPUT.MAX_REGION keeps the first ones, so sort them before cutting."
    ),
    "boxes_differ": Kind(
        "First box of features and of tags differ", "Make sure that both files come from the same run of the detector."
    ),
    "no_picture": Kind("Images without a picture", "Only the report page needs pictures."),
    "no_lineidx": Kind("No .lineidx", "It is built at the first start, which reads the whole file once."),
    "no_id_map": Kind("No imageid2idx.json", "Not needed; opening the features takes longer without it."),
    "caption_cut": Kind(
        "Captions longer than their room",
        "Raise INPUT.MAX_SEQ_LEN (of written captions: CAPTION.MAX_SEQ_A_LEN), if the model has the positions.",
    ),
    "tags_cut": Kind("Tags that do not fit behind the caption", "Raise INPUT.MAX_SEQ_LEN, or accept the cut."),
    "regions_cut": Kind("Images with more regions than INPUT.MAX_REGION", "Raise it, or accept the cut."),
}


class Example(NamedTuple):
    """One case: the 0-based row of the file (None where rows mean nothing), what is there, and cases it sums up."""

    row: int | None
    text: str
    count: int = 1


class Findings:
    """Cases by (kind, file). Small whatever is found, cheap to send between processes."""

    def __init__(self):
        self.counts, self.examples = Counter(), defaultdict(list)

    def add(self, kind, file, text, row=None, count=1):
        """One more case.

        Args:
            kind: key of PROBLEMS or NOTICES.
            file: path of the file it is in.
            text: one line (or a reader's DataError, whose message may begin with the file): found and expected.
            row: 0-based row, or None.
            count: cases that the text sums up.
        """
        assert kind in PROBLEMS or kind in NOTICES, kind
        key = kind, str(file)
        self.counts[key] += count
        if len(self.examples[key]) < KEPT_EXAMPLES:
            text = str(text).removeprefix(f"{file}: ")
            text = text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"
            text = "".join(c if c.isprintable() else " " for c in text)
            self.examples[key].append(Example(row, text, count))

    def add_absent(self, kind, file, images, present):
        """Those of the images (dict image id -> its split) that are not present."""
        for image_id, split in images.items():
            if image_id not in present:
                self.add(kind, file, f"image {image_id} of split {split!r}")

    def merge(self, other, rows_before=0):
        """Take over what another part of a check found; its rows are counted from `rows_before`."""
        self.counts.update(other.counts)
        for key, examples in other.examples.items():
            moved = [e if e.row is None else e._replace(row=e.row + rows_before) for e in examples]
            self.examples[key] = (self.examples[key] + moved)[:KEPT_EXAMPLES]

    def groups(self, problems):
        """[(Kind, total, [(file, cases not shown, [Example, ...]), ...]), ...] in the order of the table of kinds.

        Args:
            problems: True for problems, False for notices.
        """
        found = []
        for name, kind in (PROBLEMS if problems else NOTICES).items():
            files = [
                (file, self.counts[key, file] - sum(example.count for example in examples), examples)
                for (key, file), examples in self.examples.items()
                if key == name
            ]
            if files:
                found.append((kind, sum(self.counts[name, file] for file, _, _ in files), files))
        return found

    def total(self, problems=True):
        return sum(total for _, total, _ in self.groups(problems))


def file_and_text(error):
    """(the file that a reader's message names, the rest of it)."""
    return str(error).partition(": ")[::2]
