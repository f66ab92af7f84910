"""Regions as the files of captions have them: `*.feature.tsv`, rows of image key and JSON.

The JSON is {"num_boxes": R, "features": base64 of float32 [R, D]}.

The tags beside them, `*.label.tsv`, are rows of image key and a JSON list of detections, as `vinvl.ObjectTags` reads.
"""

import binascii
import json
import os

import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.regions.rows import check_count
from oscar_paddle.datasets.regions.source import RegionSource
from oscar_paddle.datasets.regions.values import regions_of_bytes
from oscar_paddle.datasets.regions.vinvl import Rows, open_predictions


def are_json_rows(first_rows):
    """Whether the first rows of a file (lists of fields) are such."""
    return all(len(fields) == 2 and fields[1].startswith(b"{") for fields in first_rows)


class JsonRegions(Rows, RegionSource):
    """Region features by image id, from `*.feature.tsv` (see `RegionSource`)."""

    def _open(self):
        self._open_rows(2, "expected rows of image key and JSON with num_boxes and features")
        return {}

    def open_tags(self, data_dir, split, label_type):
        name = os.path.basename(self.path).replace("feature", "label")
        return open_predictions(os.path.join(os.path.dirname(self.path), name), self._names)

    def _read(self, key):
        value, where = self._value(key)
        try:
            data = binascii.a2b_base64(value["features"], strict_mode=True)
        except (binascii.Error, ValueError) as error:
            raise DataError(f"{where}: the features are not base64 ({error})") from None
        if value["num_boxes"] == 0:
            return np.zeros((0, self.feature_dim), np.float32), where
        return regions_of_bytes(data, value["num_boxes"], (self.feature_dim,), where), where

    def _count(self, key):
        return self._value(key)[0]["num_boxes"]

    def _value(self, key):
        fields, where = self._row(key)
        check_count(fields, 2, where)
        try:
            value = json.loads(fields[1])
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: malformed JSON ({error})") from None
        found = value if isinstance(value, dict) else {}
        count, features = found.get("num_boxes"), found.get("features")
        if type(count) is not int or count < 0 or not isinstance(features, str):
            expected = 'expected {"num_boxes": number, "features": base64 text}'
            raise DataError(f"{where}: {str(value)[:60]}; {expected}")
        return found, where
