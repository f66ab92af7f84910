"""Pictures in which nothing was detected: every layout can say so, and a model has nothing to look at."""

import logging
from contextlib import suppress

from oscar_paddle.config.errors import DataError
from oscar_paddle.config.progress import tqdm

log = logging.getLogger(__name__)
_LOOKED_AT = 16  # images, spread evenly


def settle_empty_images(cfg, split, regions, image_ids, training):
    """Find the images without regions before the first step, and do with them as DATASET.EMPTY_IMAGES says.

    Args:
        split: what is read, for messages.
        regions: RegionSource that has all these images; in evaluation it then gives one region of the whole picture.
        training: whether the images are left out.
    Returns:
        set of the image ids to leave out.
    Raises:
        DataError: there are some, and the setting is "error"; says how many, which, and the ways on.
    """
    progress = tqdm(image_ids, f"counting regions of {split}", unit=" images", delay=2, leave=False)
    empty = [image_id for image_id in progress if regions.number_of_regions(image_id) == 0]
    for image_id in image_ids[:: -(-len(image_ids) // _LOOKED_AT)] if image_ids else ():
        with suppress(DataError):  # raised where the regions are used, with what else is known by then
            regions.read(image_id, allow_empty=True)  # warns of odd values, here before the first step
    if not empty:
        return set()
    shown = ", ".join(map(regions.called, empty[:3])) + (", ..." if len(empty) > 3 else "")
    found = f"{regions.path}: nothing was detected in {len(empty):,} of {len(image_ids):,} images of {split} ({shown})"
    if cfg.DATASET.EMPTY_IMAGES == "error":
        raise DataError(
            f"{found}; leave them out of the data, lower the detector's threshold (one region of the whole picture "
            "will do), or set DATASET.EMPTY_IMAGES 'skip'"
        )
    log.warning("%s: %s", found, "they are not trained on" if training else "each counts as one empty region")
    if len(empty) == len(image_ids):
        raise DataError(f"{found}: nothing is left")
    regions.fills_empty = not training
    return set(empty) if training else set()
