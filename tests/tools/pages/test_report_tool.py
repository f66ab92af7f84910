"""tools/report_retrieval.py from the command line, and its page in a real browser (Chromium, where there is one)."""

import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from oscar_paddle.solvers.metrics.retrieval import image_to_text_ranks, retrieval_metrics, text_to_image_ranks

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(not CHROMIUM, reason="no Chromium here (Debian: apt-get install chromium)")
NUM_IMAGES, PER_IMAGE = 30, 5


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """An evaluation folder, pictures, predictions.tsv and a run folder, with words of every awkward kind."""
    root = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(0)
    image_ids = [1000 + i for i in range(NUM_IMAGES)]
    margins = rng.normal(size=(NUM_IMAGES, NUM_IMAGES * PER_IMAGE)).astype(np.float32)
    owner = np.repeat(np.arange(NUM_IMAGES), PER_IMAGE)
    margins[owner, np.arange(len(owner))] += 2
    words = ["<img src=x onerror=alert(1)>", f"a {'very' * 60} long word", "图片 и слова", "plain words", "&amp; 'x'"]
    captions = [{"image_id": image_ids[i], "number": n % 5, "caption": words[n % 5]} for n, i in enumerate(owner)]
    metrics = retrieval_metrics(image_to_text_ranks(margins, owner), text_to_image_ranks(margins, owner))
    for folder in ("eval", "images", "run"):
        (root / folder).mkdir()
    np.save(root / "eval" / "margins.npy", margins)
    for name, value in (("image_ids", image_ids), ("captions", captions), ("metrics", metrics)):
        (root / "eval" / f"{name}.json").write_text(json.dumps(value))
    rows = []
    for image_id in image_ids:
        noise = rng.integers(0, 256, (60 + image_id % 50, 90, 3), np.uint8)
        Image.fromarray(noise).save(root / "images" / f"{image_id}.png")
        found = [{"class": "wooden <thing>", "conf": 0.5, "rect": [5, 5, 50, 40]}]
        rows.append(f"{image_id}\t{json.dumps({'image_h': len(noise), 'image_w': 90, 'objects': found})}\n")
    (root / "predictions.tsv").write_text("".join(rows))
    steps = [{"step": step, "loss": 0.7 - step / 200} for step in range(1, 101)]
    (root / "run" / "metrics.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
    return root


def report(repository, data, *more):
    """Run the tool as a person does."""
    command = [sys.executable, repository / "tools" / "report_retrieval.py", "--eval_dir", data / "eval"]
    command += ["--images", data / "images", "--output", data / "report.html", *more]
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def page(repository, data):
    done = report(
        repository,
        data,
        "--features",
        data / "predictions.tsv",
        "--run_folder",
        data / "run",
        "--fact",
        "Training time=5 min",
        "--fact",
        "A=b=c",
    )
    assert done.returncode == 0, done.stderr
    assert "report.html" in done.stdout and "  by chance  " in done.stdout
    return data / "report.html"


def test_page_is_written_small_and_whole(page):
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>") and text.endswith("</html>\n") and len(text) < 6e6
    assert '<section id="curves">' in text and "Training loss, 0.695 at first and 0.200 at the end" in text
    assert "<dd>5 min</dd>" in text and "<dt>A</dt><dd>b=c</dd>" in text


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--eval_dir", "nowhere"], 1, "nowhere/image_ids.json: no such file"),
        (["--images", "nowhere"], 1, "nowhere: no such folder"),
        (["--fact", "no equals sign"], 2, "'no equals sign': expected NAME=TEXT"),
        (["--queries", "-1"], 2, "--queries is -1"),
        (["--queries", "many"], 2, "invalid int value: 'many'"),
    ],
)
def test_bad_arguments_are_one_line(repository, data, arguments, code, words):
    done = report(repository, data, *arguments)
    assert done.returncode == code
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: ") and words in done.stderr


# ---- in the browser ----


class Browser:
    """A headless Chromium, driven over its debugging pipe: JSON messages that end in a zero byte, on files 3 and 4."""

    def __init__(self, profile):
        to_browser, self.to_browser = os.pipe()
        self.from_browser, from_browser = os.pipe()
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (to_browser, from_browser)]  # away from 3 and 4
        options = "--headless --no-sandbox --disable-gpu --disable-background-networking --hide-scrollbars"
        shell = f'exec "$0" "$@" 3<&{ends[0]} 4>&{ends[1]}'
        command = ["bash", "-c", shell, CHROMIUM, *options.split(), f"--user-data-dir={profile}"]
        self.process = subprocess.Popen(
            [*command, "--remote-debugging-pipe", "about:blank"],
            pass_fds=ends,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (to_browser, from_browser, *ends):
            os.close(end)
        self.events, self.buffer, self.number, self.session = [], b"", 0, None
        target = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self.session = attached["sessionId"]

    def call(self, method, **parameters):
        """Result of one command; events that come before it are kept."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.to_browser, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def evaluate(self, expression):
        """Value of a JavaScript expression in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def open(self, url):
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=url)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._receive())

    def of(self, *methods):
        return [event["params"] for event in self.events if event.get("method") in methods]

    def close(self):
        with contextlib.suppress(Exception):
            self.session = None
            self.call("Browser.close")
        os.close(self.to_browser)
        os.close(self.from_browser)
        self.process.terminate()
        self.process.wait(20)

    def _receive(self, seconds=60):
        end = time.monotonic() + seconds
        while b"\0" not in self.buffer:
            assert select.select([self.from_browser], [], [], max(0, end - time.monotonic()))[0], "no answer"
            data = os.read(self.from_browser, 1 << 20)
            assert data, "the browser has ended"
            self.buffer += data
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)


@pytest.fixture(scope="module")
def browser(page, tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    try:
        browser.open(page.as_uri())
        yield browser
    finally:
        browser.close()


def sizes(browser, width, height=900):
    """Show the page in a window of this width; (width of the window, width of the content)."""
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
    return browser.evaluate("[innerWidth, document.scrollingElement.scrollWidth]")


@needs_browser
def test_page_loads_without_errors_and_without_asking_for_anything(browser, page):
    assert browser.of("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled") == []
    asked = {params["request"]["url"] for params in browser.of("Network.requestWillBeSent")}
    assert {url for url in asked if not url.startswith("data:")} == {page.as_uri()}


@needs_browser
def test_every_picture_decodes_and_every_query_is_there(browser):
    decoded = "Promise.all([...document.images].map(i => i.decode())).then(() => [...document.images]"
    widths = browser.evaluate(f"{decoded}.map(i => i.naturalWidth))")
    assert len(widths) > 12 * 5 + 12 and min(widths) == 90
    count = "document.querySelectorAll('#{} .{}').length"
    assert browser.evaluate(count.format("captions", "caption-query")) == 12
    assert browser.evaluate(count.format("pictures", "image-query")) == 12
    assert 0 < browser.evaluate(count.format("hardest", "query")) <= 12
    figures = "[...document.querySelectorAll('.caption-query')].map(q => q.querySelectorAll('figure.right').length)"
    assert set(browser.evaluate(figures)) == {1}


@needs_browser
@pytest.mark.parametrize("width", [340, 700, 1280, 2200])
def test_nothing_sticks_out_at_any_width(browser, width):
    window, content = sizes(browser, width)
    assert window == width and content <= width
    outside = "[...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1)"
    assert browser.evaluate(f"{outside}.map(e => e.outerHTML.slice(0, 80))") == []


@needs_browser
def test_boxes_appear_when_ticked(browser):
    shown = "[...document.querySelectorAll('.boxes')].filter(e => getComputedStyle(e).display !== 'none').length"
    assert browser.evaluate(shown) == 0
    browser.evaluate("document.querySelector('label[for=show-boxes]').click()")
    assert browser.evaluate(shown) == browser.evaluate("document.images.length")
    browser.evaluate("document.getElementById('show-boxes').click()")
    assert browser.evaluate(shown) == 0


@needs_browser
def test_text_can_be_read_in_light_and_dark(browser):
    """Contrast of 4.5 or more (WCAG AA) of the kinds of text against what is behind them."""
    behind = """e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
                       if (!c.endsWith(', 0)')) return c; } return 'rgb(255, 255, 255)'; }"""
    kinds = "h1, h3, p, a, dt, dd, th small, td small, td b, .badge, .ok, li span, figcaption"
    pairs = f"[...document.querySelectorAll('{kinds}')].map(e => [getComputedStyle(e).color, ({behind})(e)].join('|'))"
    pages = set()
    for scheme in ("light", "dark"):
        browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        found = {tuple(pair.split("|")) for pair in browser.evaluate(f"[...new Set({pairs})]")}
        assert len(found) > 5
        for text, back in found:
            assert contrast(text, back) >= 4.5, (scheme, text, back)
        pages.add(browser.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(pages) == 2


def contrast(*colours):
    """WCAG 2 contrast of two CSS colours `rgb(r, g, b)`."""
    lights = []
    for colour in colours:
        values = [int(value) / 255 for value in colour.removeprefix("rgb(").removesuffix(")").split(",")]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(lights) + 0.05) / (min(lights) + 0.05)
