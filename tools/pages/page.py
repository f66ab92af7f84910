"""What all pages share: a template becomes one HTML file that loads nothing and runs nothing; results are read back."""

import contextlib
import json
import os
from pathlib import Path

import jinja2
import numpy as np

from oscar_paddle.config.errors import DataError, UserError

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,  # no caption can break a page
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_TEMPLATES.filters |= {
    "number": "{:,}".format,
    "percent": lambda share: f"{100 * share:.1f} %",
    "signed": "{:+.2f}".format,
}


def render(template, **values):
    """A page as text.

    Args:
        template: name of a file in templates/. A page extends base.html, which lays out `sections`, a list of (key,
            heading): the key is the section's id and the name of the template's block for it.
        values: what the template shows; text is escaped.
    """
    return _TEMPLATES.get_template(template).render(values)


def write_page(path, page):
    """Write the page whole or not at all.

    Returns:
        Path of the page.
    Raises:
        UserError: the file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(page, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise UserError(f"{path}: cannot write the report page: {error.strerror or error}") from None
    return path


def read_result(path, kind, tool):
    """A JSON file of an evaluation folder.

    Args:
        path: Path.
        kind: list or dict, what it must hold.
        tool: what writes it, for the message where it is missing.
    Raises:
        DataError: it is missing, damaged, or holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; {tool} --output_dir writes it") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a JSON file: {error}") from None
    if not isinstance(value, kind):
        raise DataError(f"{path}: holds a {type(value).__name__}; expected a {kind.__name__}")
    return value


def fair_sample(size, count, seed):
    """`count` of the numbers 0 .. size - 1, all different, drawn at random by `seed`, in rising order."""
    drawn = np.random.default_rng(seed).choice(size, min(size, count), replace=False)
    return sorted(drawn.tolist())
