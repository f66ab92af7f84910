"""Makes the files beside it, with an environment that has torch 2.13: Oscar v1's layout, 10 values a region.

    python make_fixtures.py

Image k of a split (from 0) has k + 1 regions of the values 100 k, 100 k + 1, ... train is a zip-style file with tags
as strings, minival an old-style one with tags as detections; their key orders differ from the captions'.
"""

import json
from pathlib import Path

import torch

HERE = Path(__file__).parent
SPLITS = {"train": [31, 9, 527], "minival": [184613, 18]}
TAGS = {31: "dog grass dog", 9: "", 527: "red car", 184613: ["man", "tennis racket"], 18: []}

for split, ids in SPLITS.items():
    zip_style = split == "train"
    regions = {
        image_id: 100.0 * k + torch.arange(10 * (k + 1), dtype=torch.float32).reshape(k + 1, 10)
        for k, image_id in enumerate(ids)
    }
    labels = {image_id: TAGS[image_id] if zip_style else [{"class": tag} for tag in TAGS[image_id]] for image_id in ids}
    captions = {image_id: json.dumps([f"{split} {image_id} caption {n}" for n in range(5)]) for image_id in sorted(ids)}
    for name, value in (("img_frcnn_feats", regions), ("vg_labels", labels), ("captions", captions)):
        torch.save(value, HERE / f"{split}_{name}.pt", _use_new_zipfile_serialization=zip_style)
