"""The report of a data set check as text for a terminal."""

import textwrap

from oscar_paddle.tools.pages.dataset_figures import figures

_WIDTH = 112


def report_text(check, cfg, cfg_file):
    """The whole report.

    Args:
        check: DatasetCheck.
        cfg: the configuration it was made with; cfg_file: its name.
    Returns:
        str of many lines.
    """
    lines = [f"Data set {cfg.DATASET.NAME}, as {cfg_file} names it", ""]
    for heading, rows in figures(check, cfg):
        lines += [heading, *map(_figure, rows), ""]
    for is_problem, heading in ((False, "NOTICES (nothing breaks on them)"), (True, "PROBLEMS")):
        groups = check.findings.groups(is_problem)
        if groups:
            lines += [heading, ""]
            for kind, total, files in groups:
                lines += [*_group(kind, total, files), ""]
    return "\n".join([*lines, verdict(check), effort(check)])


def verdict(check):
    """One sentence: how many problems there are."""
    problems, notices = check.findings.total(True), check.findings.total(False)
    also = f"; {notices:,} {_plural('notice', notices)}" if notices else ""
    if not problems:
        looked = "" if check.chosen is None else f" among {len(check.chosen):,} images that were looked into"
        return f"No problems{looked}{also}."
    kinds = len(check.findings.groups(True))
    return f"{problems:,} {_plural('problem', problems)} of {kinds} {_plural('kind', kinds)}{also}."


def effort(check):
    """One sentence: what was read, in which time."""
    gigabytes = check.read_bytes / 1e9
    speed = f" at {check.read_bytes / 1e6 / max(check.seconds, 1e-3):,.0f} MB/s" if check.read_bytes > 1e8 else ""
    images = len(check.images) if check.chosen is None else len(check.chosen)
    return f"Checked {images:,} images, {gigabytes:.2f} GB{speed}, in {_time(check.seconds)}."


def place(example):
    """Where an example is, in front of its text."""
    return "" if example.row is None else f"row {example.row + 1}: "


def _figure(row):
    vinvl = f"   VinVL: {row.vinvl}" if row.vinvl else ""
    text = f"  {row.name:<38}{row.value:<26}{vinvl}".rstrip()
    return textwrap.fill(text, _WIDTH, subsequent_indent=" " * 40)


def _group(kind, total, files):
    lines = [f"  {kind.title}: {total:,}"]
    for file, hidden, examples in files:
        lines.append(f"    {file}")
        lines += [
            textwrap.fill(place(example) + example.text, _WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 8)
            for example in examples
        ]
        if hidden:
            lines.append(f"      and {hidden:,} more")
    lines.append(textwrap.fill(f"-> {kind.remedy}", _WIDTH, initial_indent=" " * 4, subsequent_indent=" " * 7))
    return lines


def _plural(word, count):
    return word if count == 1 else word + "s"


def _time(seconds):
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
