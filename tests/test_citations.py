"""What comments point to is in the repository, and under the heading that they name."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
REFERENCE = "docs/reference.md"
# Pages of the authors' repository, which official_files.ini names as such.
ELSEWHERE = {"DOWNLOAD.md", "VinVL_DOWNLOAD.md", "MODEL_ZOO.md", "VinVL_MODEL_ZOO.md"}


def sources():
    folders = ("config", "datasets", "docs", "models", "solvers", "tests", "tools")
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def text_of(path):
    """A file's text with its comments' line breaks joined: a citation may be wrapped."""
    return re.sub(r"\s*\n\s*(# )?", " ", path.read_text(encoding="utf-8"))


def headings():
    return re.findall(r"^## (.+)$", (ROOT / REFERENCE).read_text(encoding="utf-8"), re.M)


def wrong_citation(words, known):
    """What is wrong with the words behind "docs/reference.md", or None: ", heading and heading" with known ones."""
    if not words.startswith(", "):
        return "no heading is named"
    rest = words[2:]
    while True:
        names = [name for name in known if re.match(rf"{re.escape(name)}\b", rest)]
        if not names:
            return f"no such heading: {rest[:40]}"
        rest = rest[max(map(len, names)) :]
        if not (more := re.match(r" and (?:docs/reference\.md, )?", rest)):
            return None
        if not any(rest[more.end() :].startswith(name) for name in known):
            return None  # the sentence goes on
        rest = rest[more.end() :]


def test_headings_are_cited_as_they_are_written():
    known, wrong = headings(), []
    for path in sources():
        if path == Path(__file__):
            continue
        text = text_of(path)
        for match in re.finditer(re.escape(REFERENCE), text):
            if problem := wrong_citation(text[match.end() :][:80], known):
                wrong.append(f"{path.relative_to(ROOT)}: {problem}")
    assert wrong == []


def test_every_page_that_is_named_exists():
    pages = {path.name for path in ROOT.glob("*.md")} | {path.name for path in (ROOT / "tests").rglob("*.md")}
    pages |= {path.name for path in (ROOT / "docs").glob("*.md")} | ELSEWHERE
    wrong = []
    for path in sources():
        for name in re.findall(r"[\w./-]*\w\.md\b", text_of(path)):
            exists = (ROOT / name).is_file() if name.startswith("docs/") else Path(name).name in pages
            if not exists and path != Path(__file__):
                wrong.append(f"{path.relative_to(ROOT)}: {name}")
    assert wrong == []


def test_a_wrong_heading_would_be_seen():
    known = ["regions", "retrieval rows", "masks"]
    for words in (", regions)", ", retrieval rows and masks.", ", masks and so on", ", masks; more"):
        assert wrong_citation(words, known) is None, words
    for words in (".", ", region", ", retrieval", " section 3"):
        assert wrong_citation(words, known), words
