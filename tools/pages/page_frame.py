"""The frame of a page: one HTML file that loads nothing and runs nothing."""

from oscar_paddle.tools.pages.markup import Html, element
from oscar_paddle.tools.pages.report_style import STYLE

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def whole_page(title, lead, sections, footer, has_boxes=False):
    """A document in the style of the report pages.

    Args:
        title: heading.
        lead: what the page shows, a sentence or two.
        sections: list of (id, heading, Html).
        footer: what the page was written by.
        has_boxes: whether there are boxes over the pictures, which a tick in the bar shows.
    Returns:
        Html.
    """
    links = [element("a", name, href=f"#{key}") for key, name, _ in sections]
    if has_boxes:
        tick = element("input", type="checkbox", id="show-boxes")
        links.append(element("label", tick, "Show detected boxes and tags", for_="show-boxes"))
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("title", title),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("style", STYLE),
    )
    header = element("header", element("h1", title), element("p", lead))
    navigation = element("nav", element("div", links), aria_label="Parts of this page")
    parts = [element("section", element("h2", name), content, id=key) for key, name, content in sections]
    body = element("body", header, navigation, element("main", parts), element("footer", footer))
    return Html("<!DOCTYPE html>\n" + element("html", head, body, lang="en") + "\n")
