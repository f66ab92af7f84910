"""The folder of one evaluation: margins, what they belong to, what is finished, and when it may be used again.

    provenance.json       what was scored, with what; "state" is "in progress" until every block is there
    margins.npy           float32 [images, captions]
    finished_blocks.npy   uint8, 1 for every finished block of pairs; there while scoring is in progress
    rescored_*.npy        margins of a second pass in float32, see solvers/scoring/rescoring.py
    image_ids.json, captions.json, metrics.json; image_names.json where the data set names its pictures

A block is recorded only after its margins are on disk, and provenance is removed before anything it vouches for is
replaced, so a run may be killed at any moment. Blocks are written with pwrite rather than through a mapping: several
ranks share the file, memory does not grow, and a full disk is an error instead of a signal.
"""

import contextlib
import json
import logging
import os
import time
from pathlib import Path

import filelock
import numpy as np

from oscar_paddle.config.errors import UserError
from oscar_paddle.datasets.captions.own_pictures import NAMES_FILE
from oscar_paddle.datasets.formats.whole_files import whole_file
from oscar_paddle.solvers.run_folder import lock_folder

log = logging.getLogger(__name__)

COMPLETE, IN_PROGRESS = "complete", "in progress"
MARGINS, BLOCKS, PROVENANCE = "margins.npy", "finished_blocks.npy", "provenance.json"
RESCORED_PAIRS, RESCORED_MARGINS, RESCORED_BLOCKS = (f"rescored_{part}.npy" for part in ("pairs", "margins", "blocks"))
IN_BETWEEN = (BLOCKS, RESCORED_PAIRS, RESCORED_MARGINS, RESCORED_BLOCKS)  # nothing to a finished evaluation
SYNC_SECONDS = 2.0  # blocks finished within this time share one wait for the disk


class EvaluationFolder:
    """Files of one evaluation, as the main rank sees them.

    Args:
        path: the folder; created when missing.
        name: of the file that holds what was scored, MARGINS or that of another task.
    Raises:
        UserError: it cannot be created or written.
    """

    def __init__(self, path, name=MARGINS):
        self.path, self.name = Path(path), name
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{self.path}: cannot make this folder: {error.strerror}; see --output_dir") from None
        if not os.access(self.path, os.W_OK):
            raise UserError(f"{self.path}: this folder cannot be written; see --output_dir")
        self._lock = filelock.FileLock(self.path / ".lock")

    def lock(self):
        """Keep other runs out until `unlock`, or until this process ends.

        Raises:
            UserError: another run is writing here.
        """
        self._lock = lock_folder(self.path, f"{self.path}: another run is writing into this folder; see --output_dir")

    def unlock(self):
        self._lock.release()

    def state(self, wanted, shape, num_blocks, computation=None):
        """What is here already.

        Args:
            wanted: dict, what the margins must belong to.
            shape: (images, captions). num_blocks: blocks of the whole matrix.
            computation: dict, what else their last bits depend on; a run that was not finished must agree on it.
        Returns:
            COMPLETE, IN_PROGRESS, or None when scoring starts afresh.
        """
        try:
            found = json.loads((self.path / PROVENANCE).read_text(encoding="utf-8"))
            scores = self.scores()
            recorded = {key: value for key, value in found.items() if key not in ("state", "computation")}
        except (OSError, ValueError, AttributeError, EOFError):
            return None
        if recorded != wanted:
            differing = ", ".join(key for key in {**wanted, **recorded} if recorded.get(key) != wanted.get(key))
            log.info("%s: holds results of another evaluation (differing: %s); scoring again", self.path, differing)
            return None
        if scores.shape != shape or scores.dtype != np.float32:
            log.warning("%s: %s is not what its provenance says; scoring again", self.path, self.name)
            return None
        if found.get("state") == COMPLETE:
            return COMPLETE
        if computation is not None and found.get("computation") != computation:
            log.info("%s: was begun with %s; scoring again", self.path, found.get("computation"))
            return None
        try:
            finished = np.load(self.path / BLOCKS, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return IN_PROGRESS if finished.shape == (num_blocks,) and finished.dtype == np.uint8 else None

    def start(self, contents, wanted, layout, computation):
        """Lay out the files of a new evaluation; nothing of an older one stays.

        Args:
            contents: {name of a JSON file: what it holds}, what rows and columns are.
            layout: (shape, num_blocks); the rest as in `state`.

        Raises:
            UserError: the disk is full or the folder cannot be written.
        """
        shape, num_blocks = layout
        with _writing(self.path, "; see --output_dir"):
            for name in (PROVENANCE, "metrics.json", NAMES_FILE, *IN_BETWEEN):
                (self.path / name).unlink(missing_ok=True)
            for name, value in contents.items():
                self.write_json(name, value)
            self._write_array(self.name, np.float32, shape)
            self._write_array(BLOCKS, np.uint8, (num_blocks,))
            self.write_json(PROVENANCE, {"state": IN_PROGRESS, **wanted, "computation": computation})

    def start_rescoring(self, pairs, num_blocks):
        """Lay out the files of the second pass; that of the chosen pairs comes last and vouches for the others.

        Args:
            pairs: [P] int64, see `solvers.scoring.rescoring`. num_blocks: blocks of them.
        Raises:
            UserError: the disk is full or the folder cannot be written.
        """
        with _writing(self.path, "; see --output_dir"):
            self._write_array(RESCORED_MARGINS, np.float32, (1, len(pairs)))
            self._write_array(RESCORED_BLOCKS, np.uint8, (num_blocks,))
            self._write_array(RESCORED_PAIRS, np.int64, pairs.shape, pairs)

    def rescoring_pairs(self):
        """The pairs that were chosen for the second pass: [P] int64, memory-mapped; None before they are.

        Raises:
            UserError: the files of the second pass are damaged; the first one cannot be told from it any more.
        """
        path = self.path / RESCORED_PAIRS
        if not path.exists():
            return None
        try:
            pairs, margins, blocks = (
                np.load(self.path / name, mmap_mode="r", allow_pickle=False)
                for name in (RESCORED_PAIRS, RESCORED_MARGINS, RESCORED_BLOCKS)
            )
            fit = margins.shape == (1, len(pairs)) and blocks.dtype == np.uint8
        except (OSError, ValueError, TypeError, EOFError):
            fit = False
        if not fit:
            raise UserError(f"{path}: damaged, or files beside it are; delete {self.path} to score everything again")
        return pairs

    def replace_margins(self, pairs, source):
        """Give some pairs other margins; to do so again, wholly or in part, changes nothing.

        Args:
            pairs: [P] int64, rising, image x columns + column. source: file of their margins, [1, P] float32.
        Raises:
            UserError: the disk is full or broken.
        """
        values = np.load(self.path / source, mmap_mode="r", allow_pickle=False)[0]
        descriptor, row_bytes, data = _open_rows(self.path / self.name)
        with os.fdopen(descriptor, "r+b"), _writing(self.path / self.name):
            num_columns = row_bytes // 4
            starts = np.searchsorted(pairs, np.arange(pairs[-1] // num_columns + 2) * num_columns)
            for image in np.flatnonzero(np.diff(starts)):
                here, at = slice(starts[image], starts[image + 1]), data + int(image) * row_bytes
                row = np.frombuffer(os.pread(descriptor, row_bytes, at), np.float32).copy()
                row[pairs[here] - image * num_columns] = values[here]
                _write_all(descriptor, row.tobytes(), at)
            os.fdatasync(descriptor)

    def finish(self, wanted, computation):
        """Every block is there."""
        self.write_json(PROVENANCE, {"state": COMPLETE, **wanted, "computation": computation})
        for name in IN_BETWEEN:
            (self.path / name).unlink(missing_ok=True)

    def scores(self):
        """[images, captions] float32 margins, or what another task scores; memory-mapped."""
        return np.load(self.path / self.name, mmap_mode="r", allow_pickle=False)

    def write_json(self, name, value):
        """Replace a file in one step."""
        with whole_file(self.path / name) as temporary, open(temporary, "w", encoding="utf-8") as file:
            json.dump(value, file, indent=1, ensure_ascii=False)
            file.write("\n")

    def _write_array(self, name, dtype, shape, values=None):
        """A .npy file of zeros, whose unwritten parts take no room and no time, or of values, in one step."""
        with whole_file(self.path / name) as temporary:
            array = np.lib.format.open_memmap(temporary, mode="w+", dtype=dtype, shape=shape)
            if values is not None:
                array[...] = values
            array.flush()


class BlockFiles:
    """A matrix of margins and the flags of its finished blocks, open for one rank's blocks.

    Args:
        folder: path of an evaluation folder in progress.
        blocks: list of all Blocks, in the order of the flags.
        margins, flags: names of the two files.
    Raises:
        UserError: the files are not there: the folder is not shared by the ranks.
    """

    def __init__(self, folder, blocks, *, margins, flags):
        self.blocks, self.path = blocks, Path(folder) / margins
        try:
            self._margins, self._row_bytes, self._data = _open_rows(self.path)
            self._flags, _, self._first_flag = _open_rows(self.path.with_name(flags))
        except OSError as error:
            raise UserError(
                f"{folder}: {error.strerror}; with several ranks the evaluation folder must be on a disk that "
                "all of them share (see --output_dir)"
            ) from None
        self._waiting, self._last_sync = [], time.monotonic()

    def finished(self):
        """[blocks] bool, as all ranks have recorded so far."""
        found = os.pread(self._flags, len(self.blocks), self._first_flag)
        return np.frombuffer(found, np.uint8).astype(bool)

    def write(self, number, margins):
        """Write one block; it is recorded as finished once it is on disk.

        Args:
            number: index into `blocks`. margins: [I, m] float32.
        Raises:
            UserError: the disk is full or broken.
        """
        block = self.blocks[number]
        with _writing(self.path):
            for image, row in zip(block.rows, margins, strict=True):
                at = self._data + image * self._row_bytes + block.columns.start * 4
                _write_all(self._margins, row.tobytes(), at)
        self._waiting.append(number)
        if time.monotonic() - self._last_sync > SYNC_SECONDS:
            self.sync()

    def sync(self):
        """Wait until all that was written is on disk, and record it."""
        with _writing(self.path):
            os.fdatasync(self._margins)
            for number in self._waiting:
                os.pwrite(self._flags, b"\1", self._first_flag + number)
        self._waiting, self._last_sync = [], time.monotonic()

    def close(self):
        os.close(self._margins)
        os.close(self._flags)


@contextlib.contextmanager
def _writing(path, remedy=""):
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}{remedy}") from None


def _open_rows(path):
    """(file descriptor, bytes of a row, where the data start) of a .npy file."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    return os.open(path, os.O_RDWR), array.strides[0], array.offset


def _write_all(descriptor, data, at):
    """pwrite may write less than it was given."""
    while data:
        count = os.pwrite(descriptor, data, at)
        data, at = data[count:], at + count


def caption_list(data):
    """What the columns of the margins are: a list of captions, or one list for each image that has its own."""
    columns = [
        {"image_id": image_id, "number": number, "caption": caption}
        for (image_id, number), caption in zip(data.caption_ids, data.captions, strict=True)
    ]
    if data.candidates is None:
        return columns
    return [[columns[caption] for caption in row] for row in data.candidates]
