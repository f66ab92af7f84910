"""tools/bench_corpus.py: what it prints, not how fast the machine is."""

import json

import pytest

pytestmark = pytest.mark.slow


def test_a_small_corpus_is_generated_killed_opened_and_used(run, tmp_path):
    done = run(["tools/bench_corpus.py", "--rows", 5000, "--kill_after", "0.6", "--folder", tmp_path / "corpus"])
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    first, second = report["first_start"], report["second_start"]
    assert abs(first["documents"] - 5000) < 10 and first["images"] == report["images"]
    assert second["mib_added_with_every_page_used"] < 200
    assert len(second["mib_private_to_each_further_reader"]) == 2
    assert "rows/s" in done.stderr
    assert run(["tools/bench_corpus.py", "--rows", 5]).stderr.startswith("error: --rows is 5; expected at least")
    assert "--kill_after is 'x'" in run(["tools/bench_corpus.py", "--kill_after", "x"]).stderr
