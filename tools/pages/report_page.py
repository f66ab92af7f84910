"""The report page of a retrieval evaluation: results beside chance, a fair sample of queries, and the hardest ones."""

import contextlib
import os
from pathlib import Path

from oscar_paddle.config.errors import UserError
from oscar_paddle.solvers.metrics.retrieval import RECALL_AT
from oscar_paddle.tools.pages.markup import Html, element
from oscar_paddle.tools.pages.report_data import fair_sample, hardest
from oscar_paddle.tools.pages.report_style import STYLE

# Nothing may be loaded from anywhere, and nothing may run: the page is all there is.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_DIRECTIONS = (
    ("i2t_retrieval", "i2t", "Text retrieval", "a picture looks for its captions"),
    ("t2i_retrieval", "t2i", "Image retrieval", "a caption looks for its picture"),
)


def build_page(results, pictures, title, facts=(), curves=(), num_queries=12, num_hardest=6, seed=0):
    """The page as text.

    Args:
        results: RetrievalResults.
        pictures: Pictures.
        title: heading of the page.
        facts: [(name, text), ...] about the run, shown beside the results.
        curves: list of Html from `learning_curves`.
        num_queries: queries of each kind, drawn at random.
        num_hardest: failed queries of each kind.
        seed: of the draw.
    Returns:
        Html, a whole document.
    """
    view = _View(results, pictures)
    parts = [("result", "Result", _result(results, facts))]
    if not results.has_candidates:
        chosen = fair_sample(len(results.captions), num_queries, seed)
        words = _drawn("captions", len(chosen), len(results.captions), seed)
        parts.append(("captions", "Captions looking for their picture", [words, *map(view.caption_query, chosen)]))
    chosen = fair_sample(len(results.image_ids), num_queries, seed)
    words = _drawn("pictures", len(chosen), len(results.image_ids), seed)
    found = element("div", list(map(view.image_query, chosen)), class_="two")
    parts.append(("pictures", "Pictures looking for their captions", [words, found]))
    parts.append(("hardest", "Where it fails", _failures(results, view, num_hardest)))
    if curves:
        parts.append(("curves", "Learning curves", [element("div", curves, class_="curves card")]))
    return _document(title, results, parts, pictures.boxes is not None)


def write_page(path, page):
    """Write the page whole or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(page, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise UserError(f"{path}: cannot write the report page: {error.strerror or error}") from None


def _document(title, results, parts, has_boxes):
    sections = [element("section", element("h2", name), content, id=key) for key, name, content in parts]
    links = [element("a", name, href=f"#{key}") for key, name, _ in parts]
    if has_boxes:
        tick = element("input", type="checkbox", id="show-boxes")
        links.append(element("label", tick, "Show detected boxes and tags", for_="show-boxes"))
    images, captions = len(results.image_ids), results.num_candidates
    compared = (
        f"each with its own {captions:,} candidate captions"
        if results.has_candidates
        else (f"each with all {captions:,} captions")
    )
    lead = element(
        "p",
        f"The model has read {images:,} pictures, {compared}, and given every pair a margin: how much more it "
        "believes that the caption describes the picture than that it does not. Above 0 it says yes. Sorting by the "
        "margin answers a query.",
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("title", title),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("style", STYLE),
    )
    end = element(
        "footer",
        "Written by ",
        element("code", "tools/report_retrieval.py"),
        " from ",
        element("code", results.folder),
        ". The pictures are inside this file.",
    )
    navigation = element("nav", element("div", links), aria_label="Parts of this page")
    header = element("header", element("h1", title), lead)
    body = element("body", header, navigation, element("main", sections), end)
    return Html("<!DOCTYPE html>\n" + element("html", head, body, lang="en") + "\n")


# ---- results ----


def _result(results, facts):
    chance = results.chance()
    rows = []
    for key, prefix, name, words in _DIRECTIONS:
        if key not in chance:
            continue
        cells = [_recall(results.metrics, key, prefix, f"R@{k}", chance[key][f"R@{k}"]) for k in RECALL_AT]
        rows.append(element("tr", element("th", name, element("small", words), scope="row"), cells))
    head = element("tr", element("td"), [element("th", f"R@{k}", scope="col") for k in RECALL_AT])
    table = element("table", element("thead", head), element("tbody", rows))
    note = element(
        "p",
        "R@5 is the share of queries with a right answer among the first five, ± one standard error. The thin "
        "mark on a bar is chance: what a random order would reach.",
        class_="soft",
    )
    entries = [[element("dt", name), element("dd", text)] for name, text in facts]
    side = element("div", element("dl", entries), class_="card") if entries else None
    return [note, element("div", element("div", table, class_="card"), side, class_="result" if side else None)]


def _recall(metrics, key, prefix, name, chance):
    value = metrics[key][name]
    error = metrics.get(f"{prefix}_standard_error", {}).get(name)
    bar = [element("i", style=f"width:{100 * value:.2f}%"), element("u", style=f"left:{100 * chance:.2f}%")]
    spread = element("span", f" ± {100 * error:.1f}", class_="soft") if error is not None else None
    return element(
        "td",
        element("b", f"{100 * value:.1f} %"),
        spread,
        element("div", bar, class_="track", aria_hidden="true"),
        element("small", f"chance {100 * chance:.1f} %"),
        data_name=name,
    )


# ---- queries ----


def _drawn(what, count, total, seed):
    if count == total:
        return element("p", f"All {total:,} {what}.", class_="soft")
    words = f"{count} of {total:,} {what}, drawn at random (seed {seed}), not picked by hand."
    return element("p", words, class_="soft")


def _failures(results, view, count):
    parts = [
        element(
            "p",
            "The queries whose right answer ranked worst, at most one for each picture. People and "
            "models learn most from these.",
            class_="soft",
        )
    ]
    captions = [] if results.has_candidates else hardest(results.t2i_ranks, count, results.caption_image)
    images = hardest(results.i2t_ranks, count)
    parts += map(view.caption_query, captions)
    parts.append(element("div", list(map(view.image_query, images)), class_="two"))
    return parts if captions or images else [element("p", "None: every query has a right answer first.")]


class _View:
    """Queries as HTML."""

    def __init__(self, results, pictures):
        self.results, self.pictures = results, pictures

    def caption_query(self, caption):
        """A caption and the five pictures it finds; the right one as a sixth where it is not among them."""
        results, query = self.results, self.results.caption_query(caption)
        title = element("h3", f"“{results.captions[caption]['caption']}”")
        beyond = [query.right] if query.right.rank > len(query.hits) else []
        found = [self.found_picture(hit, hit in beyond) for hit in query.hits + beyond]
        badge = _badge(query.right, len(results.image_ids), "right picture")
        return element(
            "article",
            element("div", title, badge),
            element("div", found, class_="pictures"),
            class_="query caption-query",
        )

    def found_picture(self, hit, is_beyond):
        words = [element("b", f"{hit.rank:,}"), element("span", f"{hit.margin:+.2f}", title="margin")]
        words += [element("span", "✓ right", class_="ok")] if hit.is_right else []
        classes = " ".join(name for name, on in (("right", hit.is_right), ("beyond", is_beyond)) if on)
        figure = self.picture(hit.index), element("figcaption", words)
        return element("figure", *figure, class_=classes or None)

    def picture(self, image):
        image_id = self.results.image_ids[image]
        caption = self.results.describe(image_id)
        return self.pictures.html(image_id, f"Picture {image_id}: {caption}" if caption else f"Picture {image_id}")

    def image_query(self, image):
        """A picture and the five captions it finds; its own best one as a sixth where none of its own is there."""
        query = self.results.image_query(image)
        beyond = [query.right] if query.right and query.right.rank > len(query.hits) else []
        found = [self.found_caption(image, hit, hit in beyond) for hit in query.hits + beyond]
        title = element("h3", f"Picture {self.results.image_ids[image]}")
        badge = _badge(query.right, self.results.num_candidates, "right caption")
        answers = element("div", element("figure", self.picture(image)), element("ol", found), class_="ask")
        return element("article", element("div", title, badge), answers, class_="query image-query")

    def found_caption(self, image, hit, is_beyond):
        text = self.results.caption(image, hit.index)["caption"]
        mark = element("span", " ✓ right", class_="ok") if hit.is_right else None
        classes = " ".join(name for name, on in (("right", hit.is_right), ("beyond", is_beyond)) if on)
        words = element("span", f"{hit.rank:,}"), element("span", text, mark), element("span", f"{hit.margin:+.2f}")
        return element("li", *words, class_=classes or None)


def _badge(right, total, what):
    if right is None:
        return element("span", "no right answer in its list", class_="badge")
    if right.rank == 1:
        return element("span", f"✓ {what} first", class_="badge first")
    words = f"{what} at rank {right.rank:,} of {total:,}"
    return element("span", words, class_="badge near" if right.rank <= max(RECALL_AT) else "badge")
