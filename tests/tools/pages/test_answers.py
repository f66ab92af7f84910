"""The report page of questions and answers, and what it is made of."""

import json
import re

import pytest
from PIL import Image

from oscar_paddle.config.errors import DataError
from oscar_paddle.tools import report_answers
from oscar_paddle.tools.pages.answers import Answers, read_guessing, score_rows, write_answers
from oscar_paddle.tools.shell.command_line import run_plain_tool

ENTRIES = [
    {
        "record": 0,
        "question": "what is <b>this</b>?",
        "images": [1],
        "predicted": "dog",
        "logit": 2.0,
        "expected": {"dog": 1.0},
    },
    {
        "record": 2,
        "question": "how many?",
        "images": [2, 1],
        "predicted": "two",
        "logit": 0.5,
        "expected": {"two": 0.3, "three": 1.0},
    },
    {"record": 3, "question": "is it?", "images": [2], "predicted": "yes", "logit": 3.0, "expected": {"no": 1.0}},
]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "eval").mkdir()
    (tmp_path / "images").mkdir()
    for image in (1, 2):
        Image.new("RGB", (8, 6), (90 * image, 0, 0)).save(tmp_path / "images" / f"{image}.png")
    write(tmp_path, ENTRIES)
    (tmp_path / "eval" / "metrics.json").write_text('{"score": 0.43}')
    (tmp_path / "eval" / "provenance.json").write_text('{"data": {"files": ["val.json"]}}')
    kinds = {"colour": {"questions": 1, "answer": "red", "accuracy": 0.1}, "count": {"accuracy": 0.4}}
    files = {"val.json": {"majority": {"answer": "no", "accuracy": 0.25}, "by_kind": {"kinds": kinds}}}
    (tmp_path / "task.json").write_text(json.dumps({"files": files}))
    (tmp_path / "question_kinds.json").write_text('{"val.json": ["colour", "unused", "count", "count"]}')
    return tmp_path


def write(folder, entries):
    (folder / "eval" / "predictions.json").write_text(json.dumps(entries))


def page_of(folder, task=""):
    answers, guessing = Answers(folder / "eval"), read_guessing(task, folder / "eval")
    return write_answers(answers, folder / "images", folder / "page.html", guessing=guessing, title="T")


def test_scores_by_kind(folder):
    answers, guessing = Answers(folder / "eval"), read_guessing(folder, folder / "eval")
    assert answers.scores == [1.0, 0.3, 0.0]
    assert score_rows(answers, guessing) == [
        ("all questions", 3, pytest.approx(1.3 / 3), 0.25),
        ("colour", 1, 1.0, 0.1),
        ("count", 2, 0.15, 0.4),
    ]
    assert score_rows(answers) == [("all questions", 3, pytest.approx(1.3 / 3), None)]


def test_the_page(folder):
    path = page_of(folder, folder)
    page = path.read_text(encoding="utf-8")
    assert "what is &lt;b&gt;this&lt;/b&gt;?" in page and "<b>this" not in page
    assert page.count("<article") == 3 + 1  # all three, and the wrong one again
    assert page.count("<img") == 4 + 1
    for words in ("✓ right", "score 0.3", "✗ wrong", "guessing 25.0 %", "43.3 %"):
        assert words in page
    assert 'style="width:43.33%"' in page and 'style="left:25.00%"' in page
    assert "<script" not in page and 'src="http' not in page


def test_no_guessing_and_nothing_wrong(folder):
    write(folder, ENTRIES[:1])
    path = page_of(folder)
    page = path.read_text(encoding="utf-8")
    assert "guessing 25" not in page and "Where it fails" not in page


def test_the_tool(folder, capsys):
    words = ["--eval_dir", folder / "eval", "--images", folder / "images", "--output", folder / "page.html"]
    words += ["--guessing", folder, "--fact", "Time=5 <min>"]

    def run(*more):
        argv = [str(word) for word in (*words, *more)]
        return run_plain_tool("", report_answers.main, report_answers.add_arguments, "", argv)

    assert run() == 0
    table = capsys.readouterr().out
    assert re.search(r"all questions +43\.3 % +25\.0 % +3\n", table) and "page.html: 0.0 MB; open it" in table
    assert "<dt>Time</dt><dd>5 &lt;min&gt;</dd>" in (folder / "page.html").read_text(encoding="utf-8")
    assert run("--questions", "-1") == run("--fact", "no equals sign") == 2
    assert "--questions is -1; expected 0 or more" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("predictions.json", None, "predictions.json: no such file; tools/eval_<task>.py"),
        ("predictions.json", "[", "predictions.json: not a JSON file"),
        ("predictions.json", "{}", "expected a list"),
        ("predictions.json", "[]", "predictions.json: holds an empty list"),
        ("predictions.json", "[7]", "predictions.json entry 0: it is no object"),
        ("predictions.json", json.dumps([{**ENTRIES[0], "expected": None}]), "entry 0: its answers are not known"),
        ("metrics.json", "[]", "metrics.json: holds a list"),
        ("provenance.json", "{}", "provenance.json: does not say which question file"),
    ],
)
def test_damaged_folders(folder, name, text, message):
    path = folder / "eval" / name
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(DataError, match=message.replace("[", r"\[")):
        page_of(folder, folder)
    assert not (folder / "page.html").exists()


def test_a_folder_that_is_no_task(folder):
    (folder / "eval" / "provenance.json").write_text('{"data": {"files": ["other.json"]}}')
    with pytest.raises(DataError, match=r"no scenes task with other.json here .*--guessing"):
        read_guessing(folder, folder / "eval")


def test_guessing_is_optional_by_kind(folder):
    task = {"files": {"val.json": {"majority": {"accuracy": 0.5}, "by_kind": {"kinds": {}}}}}
    (folder / "task.json").write_text(json.dumps(task))
    path = page_of(folder, folder)
    assert "guessing 50.0 %" in path.read_text(encoding="utf-8")
