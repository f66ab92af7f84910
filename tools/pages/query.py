"""The page that tools/inference_retrieval.py writes: queries and their answers with pictures, boxes and tags."""

import os

from oscar_paddle.config.errors import DataError
from oscar_paddle.tools.pages.page import render
from oscar_paddle.tools.pages.pictures import Pictures, open_boxes


def find_pictures(images, data, names=None):
    """The Pictures of a RetrievalDataset in a folder ("": None), with boxes where its features have them."""
    if not images:
        return None
    try:
        boxes = open_boxes(os.path.normpath(data.regions.path), names or {})
    except DataError:
        boxes = None
    return Pictures(images, boxes, names)


def query_page(data, pictures, text_query=None, image_query=None):
    """The page as text; DataError where a picture is missing.

    Args:
        data: RetrievalDataset.
        pictures: Pictures, or None for a page with tags only.
        text_query: (text, list of Answer), or None. image_query: (image id, list of Answer), or None.
    """
    sections = [("images", "Pictures for a text")] if text_query else []
    sections += [("captions", "Captions for a picture")] if image_query else []
    owners = (image_id for image_id, _ in reversed(data.caption_ids))
    return render(
        "query.html",
        title="Best matches in the collection",
        sections=sections,
        has_boxes=pictures is not None and pictures.boxes is not None,
        data=data,
        pictures=pictures,
        captions=dict(zip(owners, reversed(data.captions), strict=True)),  # the first one of each image
        tags=dict(zip(data.image_ids, data.tags, strict=True)),
        text_query=text_query,
        image_query=image_query,
    )
