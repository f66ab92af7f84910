"""Log lines beside progress bars."""

import io
import logging

from oscar_paddle.solvers.runtime import set_up_logging


def test_a_stream_that_is_gone_stops_no_run(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    log = set_up_logging()
    log.info("shown")
    stream.close()
    try:
        log.info("lost")
    finally:
        logging.getLogger().handlers.clear()


def test_what_is_for_the_file_only_is_not_shown(monkeypatch, tmp_path):
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    log = set_up_logging(tmp_path)
    log.info("both")
    log.info("file", extra={"file_only": True})
    logging.getLogger().handlers.clear()
    assert "both" in stream.getvalue() and "file" not in stream.getvalue()
    assert "file" in (tmp_path / "log.txt").read_text()
