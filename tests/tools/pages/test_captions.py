"""The report page of generated captions, and what it is made of."""

import json

import pytest
from PIL import Image

from oscar_paddle.config.errors import DataError
from oscar_paddle.tools import report_captions
from oscar_paddle.tools.pages.captions import Captions, read_baselines, score_rows, write_captions
from oscar_paddle.tools.shell.command_line import run_plain_tool

ENTRIES = [
    {
        "image_id": 1,
        "captions": [{"caption": "a <b>dog</b>", "log_prob": -0.25}, {"caption": "a cat", "log_prob": -1.5}],
        "references": ["the dog", "one dog"],
        "scores": {"CIDEr": 0.75},
    },
    {"image_id": 2, "captions": [{"caption": "a star", "log_prob": -0.1}], "references": [], "scores": {"CIDEr": 0.1}},
    {"image_id": 3, "captions": [{"caption": "a ring", "log_prob": -0.2}], "references": [], "scores": {}},
]
METRICS = {"CIDEr": 1.25, "Bleu_4": 0.5, "num_images": 3}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "eval").mkdir()
    (tmp_path / "images").mkdir()
    for image in (1, 2, 3):
        Image.new("RGB", (8, 6), (60 * image, 0, 0)).save(tmp_path / "images" / f"{image}.png")
    (tmp_path / "eval" / "captions.json").write_text(json.dumps(ENTRIES))
    (tmp_path / "eval" / "metrics.json").write_text(json.dumps(METRICS))
    (tmp_path / "baselines.json").write_text('{"nearest picture": {"CIDEr": 0.5}, "commonest caption": {"CIDEr": 0.2}}')
    return tmp_path


def test_scores_and_baselines(folder):
    captions, baselines = Captions(folder / "eval"), read_baselines(folder / "baselines.json")
    found = {"nearest picture": 0.5, "commonest caption": 0.2}
    assert score_rows(captions.metrics, baselines) == [("CIDEr", 1.25, found), ("Bleu_4", 0.5, {})]
    assert captions.scored == [1, 0]
    assert read_baselines("") == {}


def test_the_page(folder):
    baselines = read_baselines(folder / "baselines.json")
    path = write_captions(
        Captions(folder / "eval"), folder / "images", folder / "p.html", baselines=baselines, title="T"
    )
    page = path.read_text(encoding="utf-8")
    assert "a &lt;b&gt;dog&lt;/b&gt;" in page and "<b>dog" not in page
    assert page.count("<article") == 3 + 2  # all, and those with a score again
    for words in ("-0.25", "-1.50", "the dog", "CIDEr 75.0 %", "125.0 %", "nearest picture 50.0 %", "Where it fails"):
        assert words in page
    assert 'style="width:100.00%"' in page and 'style="left:40.00%"' in page  # the longest bar is the highest score
    assert page.index("CIDEr 10.0 %", page.index('id="worst"')) < page.index("CIDEr 75.0 %", page.index('id="worst"'))
    assert "<script" not in page and 'src="http' not in page


def test_without_references_there_are_no_scores(folder):
    (folder / "eval" / "captions.json").write_text(json.dumps(ENTRIES[2:]))
    (folder / "eval" / "metrics.json").write_text('{"split": "test"}')
    page = write_captions(Captions(folder / "eval"), folder / "images", folder / "p.html", title="T").read_text()
    assert "a ring" in page and 'id="result"' not in page and 'id="worst"' not in page


def test_the_tool(folder, capsys):
    arguments = ["--eval_dir", folder / "eval", "--images", folder / "images", "--output", folder / "page.html"]
    arguments += ["--baselines", folder / "baselines.json", "--pictures", "2"]
    assert run_plain_tool("", report_captions.main, report_captions.add_arguments, "", list(map(str, arguments))) == 0
    table = capsys.readouterr().out
    assert "CIDEr            125.0                50.0                20.0" in table and "page.html" in table
    assert (folder / "page.html").read_text().count("<article") == 2 + 2


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("captions.json", "[]", "empty list"),
        ("captions.json", "[{}]", "entry 0: expected image_id"),
        ("captions.json", "{}", "expected a list"),
        ("metrics.json", "[", "not a JSON file"),
    ],
)
def test_damaged_results(folder, name, content, words):
    (folder / "eval" / name).write_text(content)
    with pytest.raises(DataError, match=words):
        Captions(folder / "eval")


def test_damaged_baselines(folder):
    (folder / "baselines.json").write_text('{"nearest": 1}')
    with pytest.raises(DataError, match="an object of scores for each baseline"):
        read_baselines(folder / "baselines.json")
