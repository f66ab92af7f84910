"""The page that tools/inference_retrieval.py writes: queries and their answers with pictures, boxes and tags."""

from pathlib import Path

from oscar_paddle.tools.pages.markup import element
from oscar_paddle.tools.pages.page_frame import whole_page
from oscar_paddle.tools.pages.pictures import Pictures
from oscar_paddle.tools.pages.report_data import LabelledBoxes

_LEAD = (
    "Each answer has its rank and its margin: how much more the model believes that text and picture belong together "
    "than that they do not. Above 0 it says yes."
)


def find_pictures(images, data, names=None):
    """The pictures of a collection, with boxes where its features have them.

    Args:
        images: folder of pictures, see `Pictures`; "" = none.
        data: RetrievalDataset.
        names: image id -> name of the picture's file, where the data set says it.
    Returns:
        Pictures or None.
    Raises:
        DataError: no such folder, or no pictures in it.
    """
    if not images:
        return None
    boxes = Path(data.regions.path).with_name("predictions.tsv")
    return Pictures(images, LabelledBoxes(boxes) if boxes.is_file() else None, names)


def query_page(data, pictures, text_query=None, image_query=None):
    """The page as Html.

    Args:
        data: RetrievalDataset.
        pictures: Pictures, or None for a page with tags only.
        text_query: (text, list of Answer), or None. image_query: (image id, list of Answer), or None.
    Raises:
        DataError: a picture is missing.
    """
    view, sections = _View(data, pictures), []
    if text_query:
        sections.append(("images", "Pictures for a text", view.text_query(*text_query)))
    if image_query:
        sections.append(("captions", "Captions for a picture", view.image_query(*image_query)))
    footer = [
        "Written by ",
        element("code", "tools/inference_retrieval.py"),
        f"; {data.num_images:,} pictures, {data.num_captions:,} captions.",
    ]
    has_boxes = pictures is not None and pictures.boxes is not None
    return whole_page("Best matches in the collection", _LEAD, sections, footer, has_boxes)


class _View:
    def __init__(self, data, pictures):
        self.pictures = pictures
        self.tags = dict(zip(data.image_ids, data.tags, strict=True))
        self.captions = {}
        for (image_id, _), caption in zip(data.caption_ids, data.captions, strict=True):
            self.captions.setdefault(image_id, caption)

    def text_query(self, text, answers):
        found = element("div", [self._found_picture(answer) for answer in answers], class_="pictures")
        return element("article", element("div", element("h3", f"“{text}”")), found, class_="query")

    def image_query(self, image_id, answers):
        found = [self._found_caption(answer, answer.image_id == image_id) for answer in answers]
        picture = element("figure", self._picture(image_id), self._tag_line(image_id))
        answers = element("div", picture, element("ol", found), class_="ask")
        return element("article", element("div", element("h3", f"Picture {image_id}")), answers, class_="query")

    def _found_picture(self, answer):
        words = [
            element("b", str(answer.rank)),
            element("span", f"picture {answer.image_id}"),
            element("span", f"{answer.margin:+.2f}", title="margin"),
        ]
        return element(
            "figure", self._picture(answer.image_id), element("figcaption", words), self._tag_line(answer.image_id)
        )

    def _found_caption(self, answer, is_own):
        mark = element("span", " ✓ its own caption", class_="ok") if is_own else None
        words = element("span", str(answer.rank)), element("span", answer.caption, mark)
        return element("li", *words, element("span", f"{answer.margin:+.2f}"), class_="right" if is_own else None)

    def _picture(self, image_id):
        if self.pictures is None:
            return None
        caption = self.captions.get(image_id)
        return self.pictures.html(image_id, f"Picture {image_id}: {caption}" if caption else f"Picture {image_id}")

    def _tag_line(self, image_id):
        tags = self.tags[image_id]
        return element("figcaption", f"tags: {tags}") if tags else None
