"""From the files of an evaluation to its report page: reads them, collects the facts, writes the page. No Paddle."""

from pathlib import Path

from oscar_paddle.config.errors import DataError
from oscar_paddle.tools.pages.pictures import Pictures
from oscar_paddle.tools.pages.report_curves import learning_curves, read_run
from oscar_paddle.tools.pages.report_data import LabelledBoxes, RetrievalResults
from oscar_paddle.tools.pages.report_page import build_page, write_page


def write_report(eval_dir, images, output, features="", run_folder="", title="", facts=(), **choice):
    """Write the report page of an evaluation folder.

    Args:
        eval_dir: evaluation folder.
        images: folder of pictures, see `Pictures`.
        output: HTML file to write.
        features: predictions.tsv, or the features.tsv beside it, for boxes and tags; "" = none.
        run_folder: folder of the training run, for learning curves; "" = none.
        title: heading; "" = data set and split.
        facts: [(name, text), ...] to show before those found in the evaluation folder.
        choice: num_queries, num_hardest and seed of `build_page`.
    Returns:
        Path of the page.
    Raises:
        DataError: a file is missing or damaged; UserError: the page cannot be written.
    """
    results = RetrievalResults(eval_dir)
    pictures = Pictures(images, labelled_boxes(features) if features else None)
    curves = learning_curves(read_run(run_folder)) if run_folder else ()
    name = _data_name(results.provenance)
    title = title or ("Image-text retrieval" + (f": {name}" if name else ""))
    write_page(output, build_page(results, pictures, title, [*facts, *_facts(results)], curves, **choice))
    return Path(output)


def labelled_boxes(features):
    """Boxes and tags of predictions.tsv, or of the one beside a features.tsv."""
    path = Path(features)
    if path.name != "predictions.tsv":
        path = path.with_name("predictions.tsv")
    if not path.is_file():
        raise DataError(f"{path}: no such file; it holds the boxes and tags (--features)")
    return LabelledBoxes(path)


def _data_name(provenance):
    data = provenance.get("data", {})
    return f"{data.get('name', '')} {data.get('split', '')}".strip()


def _facts(results):
    """What the evaluation folder itself knows."""
    images, captions = results.margins.shape
    kind = "candidate captions each" if results.has_candidates else "captions"
    facts = [
        ("Data", _data_name(results.provenance)),
        ("Protocol", results.metrics.get("protocol") or f"{images:,} pictures x {captions:,} {kind}"),
        ("Pairs", f"{images * captions:,}"),
    ]
    medians = (("text", results.metrics.get("i2t_median_rank")), ("image", results.metrics.get("t2i_median_rank")))
    facts.append(("Median rank", ", ".join(f"{name} {rank:g}" for name, rank in medians if rank is not None)))
    checkpoint = results.provenance.get("checkpoint", {})
    if checkpoint:
        facts.append(("Weights", f"{checkpoint.get('weights', '')} ({str(checkpoint.get('content', ''))[:12]})"))
    settings = results.provenance.get("settings", {})
    if {"MAX_SEQ_LEN", "MAX_REGION"} <= settings.keys():
        facts.append(("Input", f"up to {settings['MAX_SEQ_LEN']} text positions, {settings['MAX_REGION']} regions"))
    if "precision" in results.provenance:
        facts.append(("Scored in", results.provenance["precision"]))
    return [(name, text) for name, text in facts if text]
