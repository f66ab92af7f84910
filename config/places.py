"""What is at a place that a person has named, where something else is meant. Opens no file."""

import re
from pathlib import Path

_STEPS = re.compile(r"checkpoint-(\d+)")


def checkpoints_in(folder):
    """Checkpoint folders inside the folder of a training run as {step: path}, oldest first."""
    found = [(int(m[1]), p) for p in Path(folder).iterdir() if (m := _STEPS.fullmatch(p.name)) and p.is_dir()]
    return dict(sorted(found))


def no_checkpoint(folder):
    """Why a place that lacks a checkpoint's files is none, and which one may be meant; "" for any other folder."""
    place = Path(folder)
    if place.is_file():
        return f"{folder}: is a file; a checkpoint is a folder: give {place.parent}"
    if not place.is_dir():
        return f"{folder}: no such checkpoint folder"
    names = [place / name for name in ("best", "last") if (place / name).is_dir()] or [*checkpoints_in(place).values()]
    shown = " or ".join(map(str, names[-2:]))
    return f"{folder}: holds checkpoints and is none; give one of them: {shown}" if names else ""
