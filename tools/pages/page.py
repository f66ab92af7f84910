"""What all pages share: a template becomes one HTML file that loads nothing and runs nothing; results are read back."""

import json
import textwrap
from pathlib import Path

import jinja2
import numpy as np

from oscar_paddle.config.errors import DataError, UserError
from oscar_paddle.datasets.formats.whole_files import whole_file
from oscar_paddle.tools.pages.charts import learning_curves, read_run
from oscar_paddle.tools.pages.pictures import open_pictures

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=lambda name: not name.endswith(".txt"),  # no caption can break a page
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_TEMPLATES.filters |= {
    "number": "{:,}".format,
    "percent": lambda share: f"{100 * share:.1f} %",
    "signed": "{:+.2f}".format,
    "whole": "{:.0f}".format,
    "fill": lambda text, first, later: textwrap.fill(text.rstrip(), 112, initial_indent=first, subsequent_indent=later),
}


def render(template, **values):
    """A page, or a report for a terminal (.txt), as text.

    Args:
        template: name of a file in templates/. A page extends base.html, which lays out `sections`, a list of (key,
            heading): the key is the section's id and the name of the template's block for it.
        values: what the template shows; text is escaped.
    """
    return _TEMPLATES.get_template(template).render(values)


def write_evaluation_page(
    template, *, output, sections, images, eval_dir, features="", run_folder="", data_dir="", **values
):
    """Write the page of an evaluation: with pictures and, as the last section, learning curves.

    Args:
        template, sections, values: see `render`; sections are those without the curves.
        output: HTML file to write.
        images, features, data_dir, eval_dir: see `open_pictures`.
        run_folder: folder of the training run, for learning curves; "" = none.
    Returns:
        Path of the page.
    Raises:
        DataError: a file is missing or damaged; UserError: the page cannot be written.
    """
    values["pictures"] = pictures = open_pictures(images, features, data_dir, eval_dir)
    values["charts"] = charts = learning_curves(read_run(run_folder)) if run_folder else []
    sections = [*sections, ("curves", "Learning curves")] if charts else sections
    return write_page(output, render(template, sections=sections, has_boxes=pictures.boxes is not None, **values))


def write_page(path, page):
    """Write the page whole or not at all, UserError where that is not possible; returns its Path."""
    try:
        with whole_file(path) as temporary:
            temporary.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot write the report page: {error.strerror or error}") from None
    return Path(path)


def read_result(path, kind, tool):
    """A JSON file or an array (`.npy`, memory-mapped) of an evaluation folder, which `tool` wrote.

    Raises:
        DataError: it is missing, damaged, or not of this kind (list, dict, np.ndarray).
    """
    is_array = path.suffix == ".npy"
    try:
        value = np.load(path, mmap_mode="r") if is_array else json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; {tool} --output_dir writes it") from None
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: not a {'NumPy array' if is_array else 'JSON file'}: {error}") from None
    if not isinstance(value, kind):
        raise DataError(f"{path}: holds a {type(value).__name__}; expected a {kind.__name__}")
    return value


def fair_sample(size, count, seed):
    """`count` of the numbers 0 .. size - 1, all different, drawn at random by `seed`, in rising order."""
    drawn = np.random.default_rng(seed).choice(size, min(size, count), replace=False)
    return sorted(drawn.tolist())
