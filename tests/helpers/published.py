"""Rows of features.tsv, as the authors published it, changed by hand."""

import base64

import numpy as np


def features(fields):
    """The regions in the fields of a row, [R, D] float32, to be changed."""
    return np.frombuffer(base64.b64decode(fields[-1]), "<f4").reshape(int(fields[1]), -1).copy()


def store(fields, regions):
    """Put other regions into a row; the number of boxes stays."""
    fields[-1] = base64.b64encode(np.ascontiguousarray(regions, "<f4").tobytes()).decode()


def change_rows(path, change, image_id=None):
    """Call change(fields) for every row of features.tsv, or for that of one image, and drop the line index."""
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    for fields in rows:
        if image_id is None or fields[0] == str(image_id):
            change(fields)
    path.write_text("".join("\t".join(fields) + "\n" for fields in rows))
    path.with_suffix(".lineidx").unlink(missing_ok=True)
