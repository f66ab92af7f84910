"""The report of a data set check as one HTML file: findings, figures, histograms, pictures with boxes and tags."""

from pathlib import Path

from oscar_paddle.config.errors import ConfigError, DataError
from oscar_paddle.datasets.captions.own_pictures import read_names
from oscar_paddle.tools.pages.dataset_figures import figures, histograms, most_common_tags
from oscar_paddle.tools.pages.dataset_report import effort, place, verdict
from oscar_paddle.tools.pages.histogram import draw_histogram
from oscar_paddle.tools.pages.markup import Html, element
from oscar_paddle.tools.pages.pictures import Pictures
from oscar_paddle.tools.pages.report_page import write_page
from oscar_paddle.tools.pages.report_style import STYLE

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = Html("""
.verdict { font-size: 1.2rem; font-weight: 600; border-left: 6px solid var(--wrong); }
.verdict.clean { border-color: var(--right); }
.finding { margin: 0 0 1rem; }
.finding h3 { display: flex; justify-content: space-between; gap: 1rem; }
.finding h3 span { color: var(--wrong); font-variant-numeric: tabular-nums; } .notice h3 span { color: var(--soft); }
.finding code { display: block; font-size: .88rem; margin: .5rem 0 .15rem; color: var(--soft); }
.finding ul { margin: 0; padding: 0 0 0 1.1rem; font-size: .93rem; }
.finding li { display: list-item; padding: .05rem 0; }
.finding p { margin: .6rem 0 0; font-size: .95rem; }
.figures table { table-layout: fixed; }
.figures th, .figures td { width: auto; font-weight: 400; font-size: .95rem; overflow-wrap: anywhere;
  padding: .3rem .9rem .3rem 0; }
.figures td::before { content: none; } .figures td:nth-child(2) { font-weight: 600; }
.figures thead th { font-weight: 600; font-size: .9rem; color: var(--soft); padding-bottom: .3rem; }
.curves figcaption { padding: 0 0 .3rem; min-height: 2.9rem; }
.bar { fill: var(--bar); } .beyond-limit { fill: var(--bar2); } .axis { stroke: var(--soft); }
.limit { stroke: var(--bar2); stroke-width: 1.5; stroke-dasharray: 4 3; }
.tables { display: grid; gap: 1rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); }
.tags { display: grid; gap: .1rem 2.5rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 18rem), 1fr)); }
.tags > div { display: grid; grid-template-columns: 7rem 1fr 4rem; gap: .6rem; align-items: center;
  font-size: .92rem; overflow-wrap: anywhere; } .tags > div > :last-child { text-align: right; color: var(--soft); }
.samples { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr)); }
.samples .query { margin: 0; padding: .8rem; } .samples p { font-size: .88rem; margin: .5rem 0 0; }
.samples .boxes { display: block; } .samples .frame { background: var(--track); }
.samples .where { font-weight: 600; }
@media (max-width: 40rem) { .figures thead { display: none; } .figures tbody tr { grid-template-columns: 1fr 1fr; } }
""")


def find_pictures(images, data_dir):
    """The pictures for a page.

    Args:
        images: folder that the user names; "" = DATA_DIR/../images where that holds pictures.
        data_dir: DATASET.DATA_DIR.
    Returns:
        Pictures or None.
    Raises:
        ConfigError: the named folder is none, or holds no pictures.
    """
    try:
        return Pictures(images or Path(data_dir).parent / "images", names=_names(data_dir))
    except DataError as error:
        if images:
            raise ConfigError(str(error)) from None
        return None


def _names(data_dir):
    """Names of the pictures' files; {} where they cannot be read, which the checker itself reports."""
    try:
        return read_names(data_dir)
    except DataError:
        return {}


def write_dataset_page(path, check, cfg, cfg_file, pictures=None):
    """Write the page whole or not at all.

    Args:
        path: HTML file.
        check: DatasetCheck. cfg: its configuration; cfg_file: its name.
        pictures: Pictures or None.
    Returns:
        Path of the page.
    Raises:
        UserError: it cannot be written.
    """
    write_page(path, build_dataset_page(check, cfg, cfg_file, pictures))
    return Path(path)


def build_dataset_page(check, cfg, cfg_file, pictures=None):
    """The page as Html, a whole document."""
    parts = []
    for is_problem, heading, key in ((True, "Problems", "problems"), (False, "Notices", "notices")):
        groups = check.findings.groups(is_problem)
        if groups:
            parts.append((key, heading, [_finding(*group, is_problem) for group in groups]))
    parts.append(("figures", "Figures", [_figures(check, cfg)]))
    drawn = [draw_histogram(histogram) for histogram in histograms(check, cfg)]
    if drawn:
        parts.append(("distributions", "Distributions", [element("div", drawn, class_="curves card")]))
    if check.classes:
        parts.append(("tags", "Most frequent tags", [_tags(check)]))
    for key, heading, drawings in (
        ("wrong-boxes", "Images whose boxes are wrong", check.marked),
        ("images", "Images, drawn at random", check.drawings),
    ):
        if drawings:
            samples = [_sample(check, image_id, drawings, pictures) for image_id in drawings]
            parts.append((key, heading, [element("div", samples, class_="samples")]))
    return _document(check, cfg, cfg_file, parts)


def _document(check, cfg, cfg_file, parts):
    title = f"Data set check: {cfg.DATASET.NAME}"
    sections = [element("section", element("h2", name), content, id=key) for key, name, content in parts]
    links = [element("a", name, href=f"#{key}") for key, name, _ in parts]
    clean = not check.findings.total()
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("title", title),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("style", STYLE, _STYLE),
    )
    lead = element("p", "As ", element("code", cfg_file), " names it. ", effort(check))
    end = element("footer", "Written by ", element("code", "tools/check_dataset.py"), "; all is inside this file.")
    body = element(
        "body",
        element(
            "header",
            element("h1", title),
            lead,
            element("p", verdict(check), class_="card verdict clean" if clean else "card verdict"),
        ),
        element("nav", element("div", links), aria_label="Parts of this page"),
        element("main", sections),
        end,
    )
    return Html("<!DOCTYPE html>\n" + element("html", head, body, lang="en") + "\n")


def _finding(kind, total, files, is_problem):
    content = []
    for file, hidden, examples in files:
        lines = [element("li", place(example) + example.text) for example in examples]
        if hidden:
            lines.append(element("li", f"and {hidden:,} more", class_="soft"))
        content += [element("code", file), element("ul", lines)]
    heading = element("h3", kind.title, element("span", f"{total:,}"))
    remedy = element("p", element("b", "What to do: " if is_problem else "Note: "), kind.remedy)
    return element("article", heading, content, remedy, class_="card finding" if is_problem else "card finding notice")


def _figures(check, cfg):
    tables = []
    for heading, rows in figures(check, cfg):
        compared = any(row.vinvl for row in rows)
        names = [heading, "here", "VinVL on COCO" if compared else ""]
        head = element("tr", [element("th", name, scope="col") for name in names])
        body = [element("tr", element("th", row.name, scope="row"), _values(row)) for row in rows]
        table = element("table", element("thead", head), element("tbody", body))
        tables.append(element("div", table, class_="card figures"))
    return element("div", tables, class_="tables")


def _values(row):
    if not row.vinvl:
        return element("td", row.value, colspan=2)
    return [element("td", row.value), element("td", row.vinvl)]


def _tags(check):
    common = most_common_tags(check, 30)
    lines = []
    for name, count in common:
        bar = element("div", element("i", style=f"width:{100 * count / common[0][1]:.1f}%"), class_="track")
        lines.append(element("div", element("span", name), bar, element("span", f"{count:,}")))
    return element("div", element("div", lines, class_="tags"), class_="card")


def _sample(check, image_id, drawings, pictures):
    """A picture (an empty frame where there is none) with its boxes, tags and captions."""
    boxes, height, width = drawings[image_id]
    frame = None
    if pictures is not None and str(image_id) in pictures.files:
        pictures.boxes = _Drawings(drawings)
        try:
            frame = pictures.html(image_id, f"Picture {image_id}")
        except DataError as error:
            frame = element("p", str(error))
    if frame is None:
        empty = Pictures.__new__(Pictures)
        empty.boxes = _Drawings(drawings)
        frame = element("div", empty._drawing(image_id), class_="frame", style=f"aspect-ratio:{width:g}/{height:g}")
    split = next((split for split in check.splits if image_id in split.captions), None)
    captions = split.captions[image_id][:2] if split else []
    regions = check.regions.get(image_id, "no")
    where = f"{image_id}, {split.name if split else 'no split'}, {width:g} x {height:g}, {regions} regions"
    tags = check.tags.get(image_id, "")
    return element(
        "article",
        frame,
        element("p", where, class_="where"),
        [element("p", f"“{text}”") for text in captions],
        element("p", "Tags: ", tags[:240] + ("…" if len(tags) > 240 else ""), class_="soft"),
        class_="query",
    )


class _Drawings:
    """What `Pictures` asks for boxes."""

    def __init__(self, drawings):
        self.drawings = drawings

    def labelled_boxes(self, image_id):
        return self.drawings[image_id]
