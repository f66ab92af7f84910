"""After a pass in low precision, ranks near the top are those of float32, however often the run was stopped."""

import errno
import json
import logging
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rescoring_case
from evaluations import Limited
from hypothesis import given, settings
from hypothesis import strategies as st

from oscar_paddle.config.errors import UserError
from oscar_paddle.models.checkpoints.weights import write_model
from oscar_paddle.solvers.metrics.retrieval import candidate_ranks, image_to_text_ranks, text_to_image_ranks
from oscar_paddle.solvers.ranks import Ranks
from oscar_paddle.solvers.scoring import folder as evaluation_folder
from oscar_paddle.solvers.scoring import rescoring
from oscar_paddle.solvers.scoring import run as scoring_run
from oscar_paddle.solvers.scoring.backends import EagerBackend
from oscar_paddle.solvers.scoring.rescoring import choose_pairs, most_pairs

CASE = rescoring_case.__file__
FILES = {".lock", "captions.json", "image_ids.json", "margins.npy", "metrics.json", "provenance.json"}
SECOND_PASS = {"rescored_pairs.npy", "rescored_margins.npy", "rescored_blocks.npy"}
TOP = 12
PROTOCOLS = ["cross", "candidates"]


@pytest.fixture(scope="module")
def case():
    return rescoring_case


@pytest.fixture(scope="module")
def model(case):
    return case.make_model()


@pytest.fixture(scope="module")
def place(case, model, tmp_path_factory):
    """A folder with the checkpoint and the features."""
    folder = tmp_path_factory.mktemp("place")
    write_model(folder, model)
    case.make_data(folder)
    return folder


@pytest.fixture(autouse=True)
def record_at_once(monkeypatch):
    monkeypatch.setattr(evaluation_folder, "SYNC_SECONDS", -1.0)
    monkeypatch.setattr(scoring_run, "POLL_SECONDS", 0.05)


@pytest.fixture(scope="module")
def run(case, model, place):
    """Function of a folder and --opts words: evaluates into it; returns the low and the float32 backend."""

    def evaluate_into(folder, *opts, protocol="cross", ranks=None, batches=10**9):
        low, exact = Limited(case.Coarse(model)), Limited(EagerBackend(model), batches)
        backends = {"bfloat16": low, "float32": exact}
        data = case.make_data(place, candidates=protocol == "candidates")
        case.evaluate(case.settings(place, *opts), data, folder, ranks or Ranks(), lambda weights, name: backends[name])
        return low, exact

    return evaluate_into


@pytest.fixture(scope="module")
def finished(run, tmp_path_factory):
    """Margins by protocol and kind (float32, coarse, rescored), and the folders of the rescored ones."""
    kinds = {
        "float32": ["EVAL.PRECISION", "float32"],
        "coarse": ["EVAL.RESCORE_TOP", 0],
        "rescored": ["EVAL.RESCORE_TOP", TOP],
    }
    found = {}
    for protocol in PROTOCOLS:
        for kind, opts in kinds.items():
            folder = tmp_path_factory.mktemp(f"{protocol}-{kind}")
            run(folder, *opts, protocol=protocol)
            found[protocol, kind] = np.load(folder / "margins.npy")
            found[protocol, kind, "folder"] = folder
    return found


def ranks_of(data, margins):
    """All ranks of a protocol, one list."""
    if data.candidates is not None:
        return candidate_ranks(margins, data.positives)
    image = data.caption_image()
    return np.concatenate([image_to_text_ranks(margins, image), text_to_image_ranks(margins, image)])


def bytes_of(folder):
    return (Path(folder) / "margins.npy").read_bytes()


# ---- what it is for ----


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_ranks_near_the_top_are_those_of_float32(case, place, finished, protocol):
    data = case.make_data(place, candidates=protocol == "candidates")
    wanted, coarse, found = (ranks_of(data, finished[protocol, kind]) for kind in ("float32", "coarse", "rescored"))
    recalls = [[(ranks < k).sum() for k in (1, 5, 10)] for ranks in (wanted, coarse, found)]
    assert recalls[1] != recalls[0] and (coarse != wanted)[wanted < 10].mean() > 0.3  # else the test shows nothing
    np.testing.assert_array_equal(found[wanted < 10], wanted[wanted < 10])
    assert recalls[2] == recalls[0]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_chosen_pairs_have_the_margins_of_float32_and_others_keep_theirs(case, place, finished, protocol):
    data = case.make_data(place, candidates=protocol == "candidates")
    exact, coarse, found = (finished[protocol, kind] for kind in ("float32", "coarse", "rescored"))
    chosen = np.zeros(coarse.shape, bool)
    chosen.ravel()[choose_pairs(coarse, data, TOP)] = True
    assert 0.1 < chosen.mean() < 0.75
    np.testing.assert_allclose(found[chosen], exact[chosen], atol=2e-5)
    np.testing.assert_array_equal(found[~chosen], coarse[~chosen])


def test_float32_needs_no_second_pass_and_shows_none(run, finished, tmp_path):
    low, exact = run(tmp_path, "EVAL.PRECISION", "float32", "EVAL.RESCORE_TOP", 50)
    assert low.pairs == 0
    without = finished["cross", "float32", "folder"]
    for name in FILES - {".lock"}:
        assert (tmp_path / name).read_bytes() == (without / name).read_bytes(), name
    low, exact = run(tmp_path, "EVAL.PRECISION", "float32", "EVAL.RESCORE_TOP", 0)
    assert exact.pairs == 0  # used again
    assert "rescored" not in (tmp_path / "provenance.json").read_text()


def test_off_is_the_first_pass_alone(run, finished, tmp_path):
    low, exact = run(tmp_path, "EVAL.RESCORE_TOP", 0)
    assert exact.pairs == 0 and "rescored" not in (tmp_path / "provenance.json").read_text()


# ---- which pairs ----


def brute_force(margins, data, top, folds):
    """The same choice, list by list, with a stable sort."""
    chosen = np.zeros(margins.shape, bool)
    if data.candidates is not None:
        chosen |= data.positives
        for row, lists in zip(chosen, margins, strict=True):
            row[np.argsort(-lists, kind="stable")[:top]] = True
        return np.flatnonzero(chosen)
    image = data.caption_image()
    chosen[image, np.arange(data.num_captions)] = True
    size = data.num_images // folds
    parts = [np.arange(data.num_images)]
    parts += [np.arange(start, start + size) for start in range(0, data.num_images, size)] if folds > 1 else []
    for rows in parts:
        columns = np.flatnonzero(np.isin(image, rows))
        part = margins[np.ix_(rows, columns)]
        for row, values in zip(rows, part, strict=True):
            chosen[row, columns[np.argsort(-values, kind="stable")[:top]]] = True
        for column, values in zip(columns, part.T, strict=True):
            chosen[rows[np.argsort(-values, kind="stable")[:top]], column] = True
    return np.flatnonzero(chosen)


@given(
    seed=st.integers(0, 10**6),
    values=st.integers(1, 60),
    top=st.integers(1, 80),
    folds=st.sampled_from([1, 3]),
    protocol=st.sampled_from(PROTOCOLS),
    block=st.sampled_from([1, 100, 777, 10**6]),
)
@settings(max_examples=60)
def test_the_choice_is_that_of_a_sort(case, place, seed, values, top, folds, protocol, block):
    """Few different values make many ties; of equals the first ones are taken, and no list gets more than its share."""
    data = case.make_data(place, candidates=protocol == "candidates")
    shape = (case.IMAGES, case.CAPTIONS) if data.candidates is None else data.candidates.shape
    margins = np.random.RandomState(seed).randint(values, size=shape).astype(np.float32)
    folds = folds if data.candidates is None else 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rescoring, "BLOCK_VALUES", block)
        found = choose_pairs(margins, data, top, folds)
    np.testing.assert_array_equal(found, brute_force(margins, data, top, folds))
    assert len(found) <= most_pairs(data, top, folds) <= margins.size


def test_infinite_margins_are_values_like_any_other(case, place):
    data = case.make_data(place)
    margins = np.zeros((case.IMAGES, case.CAPTIONS), np.float32)
    margins[3, 60], margins[:, 7] = np.inf, -np.inf
    np.testing.assert_array_equal(choose_pairs(margins, data, 2), brute_force(margins, data, 2, 1))


# ---- stopped and continued ----


@pytest.mark.parametrize(("protocol", "batches"), [("cross", 20), ("cross", 60), ("candidates", 45)])
def test_a_stopped_second_pass_goes_on_with_the_same_bytes(run, finished, tmp_path, protocol, batches):
    with pytest.raises(UserError, match="the lights went out"):
        run(tmp_path, protocol=protocol, batches=batches)
    assert json.loads((tmp_path / "provenance.json").read_text())["state"] == "in progress"
    assert {path.name for path in tmp_path.iterdir()} >= SECOND_PASS
    assert bytes_of(tmp_path) == bytes_of(finished[protocol, "coarse", "folder"])  # not touched yet
    done = np.load(tmp_path / "rescored_blocks.npy")  # the two forecasts take some of the batches
    assert not done.all() and (done.sum() >= 2 or batches == 20)
    low, exact = run(tmp_path, protocol=protocol)
    assert low.pairs == 0  # the first pass is not made again
    assert bytes_of(tmp_path) == bytes_of(finished[protocol, "rescored", "folder"])
    assert {path.name for path in tmp_path.iterdir()} == FILES


@pytest.mark.parametrize("rows", [0, 9])
def test_stopped_while_margins_are_replaced(run, finished, tmp_path, monkeypatch, rows):
    """Half replaced, the matrix holds both kinds of margins: nothing may be chosen from it."""
    written = [0]
    write_all = evaluation_folder._write_all

    def fail(descriptor, data, at):
        if (tmp_path / "rescored_blocks.npy").exists() and np.load(tmp_path / "rescored_blocks.npy").all():
            written[0] += 1
            if written[0] > rows:
                write_all(descriptor, data[: len(data) // 2], at)
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        write_all(descriptor, data, at)

    monkeypatch.setattr(evaluation_folder, "_write_all", fail)
    with pytest.raises(UserError, match="margins.npy: cannot be written: Input/output error"):
        run(tmp_path)
    assert bytes_of(tmp_path) not in (bytes_of(finished["cross", kind, "folder"]) for kind in ("coarse", "rescored"))
    monkeypatch.setattr(evaluation_folder, "_write_all", write_all)
    low, exact = run(tmp_path)
    assert low.pairs == exact.pairs == 0
    assert bytes_of(tmp_path) == bytes_of(finished["cross", "rescored", "folder"])


def test_kill_9(place, finished, tmp_path):
    """Real processes, killed in the second pass, between its end and the last margin, and while they are replaced."""
    # What an undisturbed process makes: in this one, an earlier test may have left Paddle another number of threads.
    subprocess.run([sys.executable, CASE, place, tmp_path / "whole", "0", "0"], check=True)
    coarse, wanted = bytes_of(finished["cross", "coarse", "folder"]), bytes_of(tmp_path / "whole")
    out, seen, chosen = tmp_path / "out", [], set()
    for blocks, replacing in ((1, False), (4, False), (0, True), (0, True)):
        process = subprocess.Popen([sys.executable, CASE, place, out, "0.02", "0.1"])
        stop = time.monotonic() + 120
        while not _has_come_to(out, blocks, replacing, coarse) and time.monotonic() < stop:
            time.sleep(0.005)
        process.kill()
        assert process.wait() == -9  # it was still at work
        seen.append((_recorded(out), bytes_of(out) != coarse))
        chosen.add((out / "rescored_pairs.npy").read_bytes())
        assert bytes_of(out) != wanted
    assert seen[0][0] < seen[2][0] and [replaced for _, replaced in seen] == [False, False, True, True]
    assert len(chosen) == 1
    subprocess.run([sys.executable, CASE, place, out, "0", "0"], check=True)
    assert bytes_of(out) == wanted
    assert {path.name for path in out.iterdir()} == FILES


def _recorded(folder):
    try:
        return int(np.load(folder / "rescored_blocks.npy").sum())
    except (OSError, ValueError):
        return 0


def _has_come_to(folder, blocks, replacing, coarse):
    if replacing:
        return (folder / "rescored_pairs.npy").exists() and bytes_of(folder) != coarse
    return (folder / "rescored_pairs.npy").exists() and _recorded(folder) >= blocks


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_ranks_write_the_same_bytes(run, finished, thread_ranks, tmp_path, protocol):
    counts = thread_ranks(2).run(lambda rank: run(tmp_path, protocol=protocol, ranks=rank))
    assert bytes_of(tmp_path) == bytes_of(finished[protocol, "rescored", "folder"])
    assert min(exact.pairs for _, exact in counts) > 100  # all of them worked


def test_another_number_of_ranks_continues(run, finished, thread_ranks, tmp_path):
    with pytest.raises(UserError):
        run(tmp_path, batches=45)
    thread_ranks(3).run(lambda rank: run(tmp_path, ranks=rank))
    assert bytes_of(tmp_path) == bytes_of(finished["cross", "rescored", "folder"])


def test_a_ranks_error_reaches_all(run, thread_ranks, tmp_path):
    results = thread_ranks(2).run(lambda rank: run(tmp_path, ranks=rank, batches=3 if rank.rank else 10**9))
    assert [str(error) for error in results] == ["rank 1: the lights went out", "the lights went out"]


# ---- what may be used again ----


def test_provenance_and_reuse(run, finished, tmp_path):
    run(tmp_path)
    provenance = json.loads((tmp_path / "provenance.json").read_text())
    assert provenance["precision"] == "bfloat16" and provenance["rescored"] == {"top": TOP, "folds": 1}
    assert provenance["computation"]["rescored_by"].startswith("eager Paddle, float32, on cpu (")
    low, exact = run(tmp_path)
    assert low.pairs == exact.pairs == 0
    for opts in (("EVAL.RESCORE_TOP", TOP + 1), ("EVAL.FOLDS", 3), ("EVAL.RESCORE_TOP", 0)):
        low, exact = run(tmp_path, *opts)
        assert low.pairs >= 1728, opts
    assert exact.pairs == 0


def test_files_of_another_second_pass_are_not_taken_over(run, finished, tmp_path):
    with pytest.raises(UserError):
        run(tmp_path, "EVAL.RESCORE_TOP", 3, batches=20)
    run(tmp_path)
    assert bytes_of(tmp_path) == bytes_of(finished["cross", "rescored", "folder"])


@pytest.mark.parametrize("content", [b"not numpy", b""])
@pytest.mark.parametrize("name", sorted(SECOND_PASS))
def test_damage_is_one_line(run, tmp_path, name, content):
    with pytest.raises(UserError):
        run(tmp_path, batches=20)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match="rescored_pairs.npy: damaged, or files beside it are; delete .* to score"):
        run(tmp_path)


def test_a_full_disk_is_one_line(run, finished, tmp_path, monkeypatch):
    write_array = evaluation_folder.EvaluationFolder._write_array

    def full(self, name, *args):
        if name == "rescored_pairs.npy":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_array(self, name, *args)

    monkeypatch.setattr(evaluation_folder.EvaluationFolder, "_write_array", full)
    with pytest.raises(UserError, match="cannot be written: No space left on device; see --output_dir"):
        run(tmp_path)
    monkeypatch.undo()
    low, _ = run(tmp_path)
    assert low.pairs == 0 and bytes_of(tmp_path) == bytes_of(finished["cross", "rescored", "folder"])


# ---- what is said ----


def test_the_forecast_includes_it(run, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        run(tmp_path, "EVAL.RESCORE_TOP", 3)
    first, second = re.findall(r"forecast: .*", caplog.text)
    assert re.search(r"; then at most \d+ seconds for up to 360 pairs near the top, again in float32", first)
    assert "then" not in second
    assert re.search(r"scoring \d+ pairs near the top of a list again on eager Paddle, float32", caplog.text)
    assert "every pair" not in caplog.text


def test_a_second_pass_over_everything_is_pointed_out(run, tmp_path, caplog):
    run(tmp_path, "EVAL.RESCORE_TOP", 72)
    assert "EVAL.RESCORE_TOP 72 can mean every pair: EVAL.PRECISION float32 would be faster" in caplog.text
