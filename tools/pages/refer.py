"""The page of referring expressions: picture, proposals, the box that is chosen and the one that is meant.

Nothing here needs Paddle.
"""

from pathlib import Path
from typing import NamedTuple

from oscar_paddle.config.errors import DataError
from oscar_paddle.solvers.metrics.refer import HIT
from oscar_paddle.tools.pages.page import fair_sample, read_result, render, write_evaluation_page, write_page
from oscar_paddle.tools.pages.pictures import Drawing

_KEYS = {"expression", "image_id", "box", "predicted", "row", "logit", "iou", "best_iou", "alike"}
_TOOL = "tools/eval_refer.py"


class Pointed(NamedTuple):
    """One expression on the page.

    Attributes:
        entry: dict of predictions.json, see solvers/tasks/refer.py.
        proposals: Drawing of the other boxes. drawing: Drawing of what is chosen and, where it is known, meant.
        right: whether the chosen box counts, or None where nothing is known.
    """

    entry: dict
    proposals: Drawing
    drawing: Drawing
    right: bool | None


class ReferResults:
    """What tools/eval_refer.py has left in its folder.

    Attributes:
        entries: list of dicts, see solvers/tasks/refer.py. metrics: dict.
        proposals: {image id as text: {"boxes": [[x1, y1, x2, y2], ...] in pixels, row 0 the picture, "size": [w, h]}}.
    Raises:
        DataError: a file is missing or damaged.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        path = self.folder / "predictions.json"
        self.entries = read_result(path, list, _TOOL)
        self.metrics = read_result(self.folder / "metrics.json", dict, _TOOL)
        self.proposals = read_result(self.folder / "proposals.json", dict, _TOOL)
        for number, entry in enumerate(self.entries):
            if not isinstance(entry, dict) or not entry.keys() >= _KEYS:
                raise DataError(f"{path} entry {number}: expected an object with {', '.join(sorted(_KEYS))}")
            if str(entry["image_id"]) not in self.proposals:
                raise DataError(f"{path} entry {number}: image {entry['image_id']} is not in proposals.json")

    def misses(self):
        """Numbers of the wrong answers that a proposal would have met, the most certain and farthest off first."""
        missed = [n for n, each in enumerate(self.entries) if each["iou"] <= HIT < each["best_iou"]]
        return sorted(missed, key=lambda n: (self.entries[n]["iou"], -self.entries[n]["logit"]))


def pointed(entry, place):
    """Pointed of an entry and its image's proposals."""
    width, height = place["size"]
    letters = 0.07 * min(width, height)

    def drawn(boxes):
        shown = []
        for tag, (x1, y1, x2, y2) in boxes:
            line = y1 - 0.3 * letters if y1 > 1.4 * letters else y1 + letters
            anchor = (x2, line, "end") if x1 > 0.6 * width else (x1, line, "start")
            shown.append((tag, (x1, y1, max(x2 - x1, 1), max(y2 - y1, 1)), anchor))
        return Drawing(shown, height, width, letters)

    others = [("", box) for row, box in enumerate(place["boxes"]) if row not in (0, entry["row"])]
    known = entry.get("box") is not None
    chosen = [("chosen", entry["predicted"]), *([("meant", entry["box"])] if known else [])]
    return Pointed(entry, drawn(others), drawn(chosen), entry["iou"] > HIT if known else None)


def write_refer_page(results, images, output, *, facts=(), controls=(), num_random=24, num_wrong=10, seed=0, **page):
    """Write the page of ReferResults.

    Args:
        images, output, page: see `write_evaluation_page`, which also says what is returned and raised.
        facts: [(name, text), ...] about the run. controls: ReferResults of the same split with half the input.
        num_random, num_wrong: how many expressions of each sort.
    """
    wrong = results.misses()[:num_wrong]
    sections = [("result", "Result"), ("expressions", "Expressions")]
    chosen = fair_sample(len(results.entries), num_random, seed)
    show = [pointed(each, results.proposals[str(each["image_id"])]) for each in results.entries]
    return write_evaluation_page(
        "refer.html",
        images=images,
        eval_dir=results.folder,
        output=output,
        sections=[*sections, ("wrong", "The worst misses")] if wrong else sections,
        results=results,
        rows=score_rows(results.metrics, controls),
        facts=facts,
        seed=seed,
        shown=[show[number] for number in chosen],
        missed=[show[number] for number in wrong],
        **page,
    )


def score_rows(metrics, controls=()):
    """Rows (name, expressions, accuracy, what the proposals allow or None)."""
    most, count = metrics["oracle_accuracy"], metrics["num_expressions"]
    rows = [("all expressions", count, metrics["accuracy"], most)]
    rows.append(("always the largest box", count, metrics["largest_box"], most))
    for control in controls:
        name = {"expressions": "pictures alone", "features": "text and boxes alone"}.get(control.metrics["control"])
        rows.append((name or "another run", control.metrics["num_expressions"], control.metrics["accuracy"], most))
    for groups, words in (("by_length", "{}"), ("by_alike", "{} of its class")):
        for name, found in metrics[groups].items():
            rows.append((words.format(name), found["expressions"], found["accuracy"], found["oracle_accuracy"]))
    return rows


def write_answer_page(entries, place, picture, output, title):
    """Write the page of one picture and some expressions about it.

    Args:
        entries: dicts as in predictions.json; box, iou and best_iou are None where no true box is known.
        place: boxes and size of the picture, see `ReferResults`. picture: Thumbnail or None.
    Returns, raises: as `write_page`.
    """
    shown = [pointed(entry, place) for entry in entries]
    values = {"sections": [("expressions", "Expressions")], "title": title, "has_boxes": True, "pictures": None}
    return write_page(output, render("refer_image.html", shown=shown, picture=picture, **values))
