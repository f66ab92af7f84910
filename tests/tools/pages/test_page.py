"""What every page has in common: the frame, the escaping, the templates in an installation."""

import re
from html.parser import HTMLParser

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscar_paddle.tools.pages import page
from oscar_paddle.tools.pages.page import render


class Text(HTMLParser):
    """The text of every element by its name."""

    def __init__(self, page):
        super().__init__()
        self.inside, self.found, self.policies = "", {}, []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.inside = tag
        if dict(attributes).get("http-equiv") == "Content-Security-Policy":
            self.policies.append(dict(attributes)["content"])

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        self.found[self.inside] = self.found.get(self.inside, "") + data


@given(st.text(st.characters(exclude_characters="\r\0", exclude_categories=["Cs"])))
def test_no_text_breaks_out_of_its_element(text):
    found = Text(render("base.html", title=text, sections=[], has_boxes=False))
    assert found.found.get("h1", "") == text


def test_a_page_is_whole_loads_nothing_and_runs_nothing():
    text = render("base.html", title="T", sections=[], has_boxes=True)
    assert text.startswith("<!DOCTYPE html>") and text.endswith("</html>\n")
    assert Text(text).policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert not re.search(r"<script|<link|@import|url\(|https?://", text)
    assert "prefers-color-scheme: dark" in text and "max-width: 40rem" in text and 'id="show-boxes"' in text
    assert 'id="show-boxes"' not in render("base.html", title="T", sections=[], has_boxes=False)


def test_what_a_template_needs_must_be_given():
    with pytest.raises(jinja2.UndefinedError, match="sections"):
        render("base.html", title="T", has_boxes=False)


def test_every_page_extends_the_base():
    names = set(page._TEMPLATES.list_templates())
    pages = {name for name in names if not name.endswith("parts.html")} - {"base.html", "style.css"}
    assert {"retrieval.html", "answers.html", "query.html", "dataset.html"} <= pages
    for name in pages:
        source, _, _ = page._TEMPLATES.loader.get_source(page._TEMPLATES, name)
        assert source.startswith('{% extends "base.html" %}') or name.endswith(".txt"), name
