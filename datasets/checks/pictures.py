"""Pictures against the sizes that the detector's file gives for them."""

from PIL import Image
from tqdm import tqdm

MOST_PICTURES = 5000  # opened for their size; a file of swapped sizes or other pictures shows long before


def check_picture_sizes(sizes, files, findings):
    """Every picture must have the size that its row of tags says; box values are fractions of it.

    Args:
        sizes: dict image id -> (height, width) of predictions.tsv.
        files: dict image id as text -> path of the picture.
        findings: Findings to add to.
    """
    here = [image_id for image_id in sizes if str(image_id) in files][:MOST_PICTURES]
    for image_id in tqdm(here, desc="checking sizes of pictures", unit=" pictures", delay=1, leave=False):
        path, (height, width) = files[str(image_id)], sizes[image_id]
        try:
            with Image.open(path) as image:  # reads the head of the file only; as it lies, not turned by EXIF
                found = image.size
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            findings.add("unreadable", path, f"no picture ({error})")
            continue
        if found != (width, height):
            text = f"image {image_id}: {found[0]} x {found[1]} pixels; its row of tags says {width:g} x {height:g}"
            findings.add("picture_size", path.parent, text)
    missing = len(sizes) - sum(str(image_id) in files for image_id in sizes)
    if files and missing and here:
        folder = next(iter(files.values())).parent
        findings.add("no_picture", folder, f"{missing:,} of {len(sizes):,} images", count=missing)
