"""Draw the picture of the quick start's report page that the README shows (needs Chromium).

Example (after `make quickstart`; the same as `make report-picture`):
    python docs/report_picture.py --page quickstart/report.html --output docs/quickstart_report.png
"""

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

MAX_BYTES = 300_000
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", default="quickstart/report.html", metavar="FILE", help="(default: %(default)s)")
    parser.add_argument("--output", default="docs/quickstart_report.png", metavar="FILE", help="(default: %(default)s)")
    parser.add_argument("--width", type=int, default=1180, help="of the window, in pixels (default: %(default)s)")
    parser.add_argument("--height", type=int, default=1480, help="what shows from the top (default: %(default)s)")
    args = parser.parse_args(argv)
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        return f"error: none of {', '.join(BROWSERS)} is here (Debian: apt-get install chromium)"
    if not Path(args.page).is_file():
        return f"error: {args.page}: no such file; `make quickstart` writes it"
    picture = _screenshot(browser, Path(args.page).resolve(), args.width, args.height)
    data = _small_png(picture)
    Path(args.output).write_bytes(data)
    print(f"{args.output}: {picture.width} x {picture.height}, {len(data) / 1000:.0f} KB")
    return 0


def _screenshot(browser, page, width, height):
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [
                browser,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                "--hide-scrollbars",
                "--blink-settings=preferredColorScheme=1",
                f"--user-data-dir={folder}/profile",
                f"--window-size={width},{height}",
                f"--screenshot={folder}/page.png",
                page.as_uri(),
            ],
            check=True,
            timeout=120,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with Image.open(f"{folder}/page.png") as image:
            return image.convert("RGB")


def _small_png(picture):
    """PNG with as many colours as fit into MAX_BYTES."""
    for colours in (256, 128, 64, 32):
        buffer = io.BytesIO()
        picture.quantize(colours, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
        if buffer.tell() <= MAX_BYTES:
            break
    return buffer.getvalue()


if __name__ == "__main__":
    sys.exit(main())
