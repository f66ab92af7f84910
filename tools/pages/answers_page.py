"""The report page of VQA, GQA or NLVR2: picture, question, answer and prediction, beside what guessing reaches."""

import json
from pathlib import Path

from oscar_paddle.config.errors import DataError
from oscar_paddle.tools.pages.markup import element
from oscar_paddle.tools.pages.page_frame import whole_page
from oscar_paddle.tools.pages.report_data import fair_sample

_LEAD = (
    "The model has read each question (or statement) together with what a detector found in its picture, and chosen "
    "one of the answers it knows. A tick means that people say so, too."
)


class Answers:
    """What tools/eval_vqa.py, eval_gqa.py or eval_nlvr2.py has left in an evaluation folder.

    Attributes:
        entries: list of dicts, see solvers/scoring/example_evaluation.py.
        metrics: dict. scores: list of float, the score of every prediction.

    Args:
        folder: the evaluation folder.
    Raises:
        DataError: a file is missing or damaged, or the split has no answers to compare with.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        self.entries, self.metrics = self._json("predictions.json", list), self._json("metrics.json", dict)
        keys = {"record", "question", "images", "predicted", "logit", "expected"}
        for number, entry in enumerate(self.entries):
            if not isinstance(entry, dict) or not keys <= entry.keys() or not isinstance(entry["expected"], dict):
                what = "its answers are not known" if isinstance(entry, dict) else "it is no object"
                path = self.folder / "predictions.json"
                raise DataError(f"{path} entry {number}: {what}; expected question, images, predicted, expected")
        self.scores = [entry["expected"].get(entry["predicted"], 0.0) for entry in self.entries]

    def _json(self, name, kind):
        path = self.folder / name
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DataError(f"{path}: no such file; tools/eval_<task>.py --output_dir writes it") from None
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: not a JSON file: {error}") from None
        if not isinstance(value, kind) or not value:
            raise DataError(f"{path}: holds {type(value).__name__} {str(value)[:20]!r}; expected a {kind.__name__}")
        return value


class Guessing:
    """How far one gets without looking at the picture.

    Attributes:
        score: of the commonest answer of the training questions.
        kinds: {kind of question: score of the commonest answer to it}.
        kind_of: list, the kind of every record of the file.
    """

    def __init__(self, score, kinds, kind_of):
        self.score, self.kinds, self.kind_of = score, kinds, kind_of


def answers_page(answers, pictures, title, guessing=None, facts=(), curves=(), num_random=24, num_wrong=12, seed=0):
    """The page as Html.

    Args:
        answers: Answers.
        pictures: Pictures.
        title: heading.
        guessing: Guessing, or None where nothing is known of it.
        facts: [(name, text), ...] about the run.
        curves: list of Html from `learning_curves`.
        num_random, num_wrong: how many questions of each sort.
        seed: of the draw.
    """
    chosen = fair_sample(len(answers.entries), num_random, seed)
    words = f"{len(chosen)} of {len(answers.entries):,}, drawn at random (seed {seed}), not picked by hand."
    drawn = [element("p", words, class_="soft"), _cards(answers, pictures, chosen)]
    sections = [("result", "Result", _result(answers, guessing, facts)), ("questions", "Questions", drawn)]
    wrong = [i for i, score in enumerate(answers.scores) if score == 0]
    wrong.sort(key=lambda i: -answers.entries[i]["logit"])
    if wrong:
        words = "The wrong answers with the highest logits."
        found = [element("p", words, class_="soft"), _cards(answers, pictures, wrong[:num_wrong])]
        sections.append(("wrong", "Where it fails", found))
    if curves:
        sections.append(("curves", "Learning curves", [element("div", curves, class_="curves card")]))
    footer = ["Written by ", element("code", "tools/report_answers.py"), " from ", element("code", answers.folder), "."]
    return whole_page(title, _LEAD, sections, footer, pictures.boxes is not None)


def mean(values):
    return sum(values) / len(values)


def score_rows(answers, guessing=None):
    """Rows (name, number of questions, score, what guessing reaches or None): all questions, then kind by kind."""
    rows = [("all questions", len(answers.scores), mean(answers.scores), guessing and guessing.score)]
    for kind in sorted(guessing.kinds) if guessing else ():
        pairs = zip(answers.scores, answers.entries, strict=True)
        own = [score for score, entry in pairs if guessing.kind_of[entry["record"]] == kind]
        if own:
            rows.append((kind, len(own), mean(own), guessing.kinds[kind]))
    return rows


def _result(answers, guessing, facts):
    rows = [_row(*row) for row in score_rows(answers, guessing)]
    head = element("tr", element("td"), [element("th", name, scope="col") for name in ("score", "questions")])
    table = element("table", element("thead", head), element("tbody", rows))
    note = element(
        "p",
        "The thin mark on a bar is what guessing reaches: the commonest answer of the training "
        "questions, over all or of that kind.",
        class_="soft",
    )
    entries = [[element("dt", name), element("dd", text)] for name, text in facts]
    side = element("div", element("dl", entries), class_="card") if entries else None
    card = element("div", element("div", table, class_="card"), side, class_="result" if side else None)
    return [note if guessing else None, card]


def _row(name, count, score, guess):
    bar = [element("i", style=f"width:{100 * score:.2f}%")]
    if guess is not None:
        bar.append(element("u", style=f"left:{100 * guess:.2f}%"))
    words = element("small", f"guessing {100 * guess:.1f} %") if guess is not None else None
    shown = element("b", f"{100 * score:.1f} %"), element("div", bar, class_="track", aria_hidden="true"), words
    return element(
        "tr",
        element("th", name, scope="row"),
        element("td", *shown, data_name="score"),
        element("td", f"{count:,}", data_name="questions"),
    )


def _cards(answers, pictures, chosen):
    return element("div", [_card(answers.entries[i], answers.scores[i], pictures) for i in chosen], class_="two")


def _card(entry, score, pictures):
    question, expected = entry["question"], sorted(entry["expected"].items(), key=lambda item: -item[1])
    figures = [element("figure", pictures.html(image_id, f"Picture {image_id}")) for image_id in entry["images"]]
    verdict = ("✗ wrong", "badge")
    if score:
        verdict = ("✓ right", "badge first") if score == 1 else (f"score {score:.1f}", "badge near")
    logit = element("span", f"{entry['logit']:+.2f}", title="logit")
    said = element("span", "says"), element("span", entry["predicted"]), logit
    said = element("li", *said, class_="right" if score else None)
    true = [
        element(
            "li",
            element("span", "is" if i == 0 else ""),
            element("span", answer),
            element("span", f"{value:g}" if value != 1 else ""),
        )
        for i, (answer, value) in enumerate(expected)
    ]
    title = element("div", element("h3", f"“{question}”"), element("span", verdict[0], class_=verdict[1]))
    body = element("div", element("div", figures), element("ol", said, true), class_="ask")
    return element("article", title, body, class_="query")
