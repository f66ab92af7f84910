"""Draw the picture of the quick start's report page that the README shows (needs Chromium).

After `make quickstart`: `python docs/report_picture.py`, the same as `make report-picture`.
"""

import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

PAGE, OUTPUT = Path("quickstart/report.html"), Path("docs/quickstart_report.png")
MAX_BYTES = 300_000
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = """--headless --no-sandbox --disable-gpu --disable-background-networking --hide-scrollbars
             --blink-settings=preferredColorScheme=1 --window-size=1180,1480"""


def main():
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        return f"error: none of {', '.join(BROWSERS)} is here (Debian: apt-get install chromium)"
    if not PAGE.is_file():
        return f"error: {PAGE}: no such file; `make quickstart` writes it"
    picture = _screenshot(browser, PAGE.resolve())
    data = _small_png(picture)
    OUTPUT.write_bytes(data)
    print(f"{OUTPUT}: {picture.width} x {picture.height}, {len(data) / 1000:.0f} KB")
    return 0


def _screenshot(browser, page):
    with tempfile.TemporaryDirectory() as folder:
        places = [f"--user-data-dir={folder}/profile", f"--screenshot={folder}/page.png", page.as_uri()]
        subprocess.run([browser, *OPTIONS.split(), *places], check=True, timeout=120, capture_output=True)
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
