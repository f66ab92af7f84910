"""METEOR and SPICE of the official toolkit (the package pycocoevalcap), which run in Java.

What is missing for them is said before anything is scored; nothing is fetched from the web here.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from oscar_paddle.config.errors import DataError
from oscar_paddle.solvers.metrics.captioning import check_same_images
from oscar_paddle.solvers.metrics.ptb import tokenize

METRICS = ("METEOR", "SPICE")
_SPICE_JARS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
_CORENLP = "https://nlp.stanford.edu/software/stanford-corenlp-full-2015-12-09.zip"


def missing(metrics, spice_jars=""):
    """What is not there for these of METRICS: list of str, each with its remedy; empty when they can be scored.

    Args:
        spice_jars: folder with the two CoreNLP jars; "": that of the package, where it puts them itself.
    """
    found = []
    if metrics and not shutil.which("java"):
        found.append("java (apt-get install default-jre-headless)")
    package = toolkit_folder()
    if metrics and not package:
        return [*found, 'the package pycocoevalcap (pip install "oscar-paddle[captioning]", or pycocoevalcap==1.2)']
    if "METEOR" in metrics and not (package / "meteor" / "meteor-1.5.jar").is_file():
        found.append(f"{package / 'meteor' / 'meteor-1.5.jar'} (reinstall pycocoevalcap)")
    if "SPICE" in metrics:
        folder = Path(spice_jars) if spice_jars else package / "spice" / "lib"
        jars = [folder / name for name in _SPICE_JARS if not (folder / name).is_file()]
        if jars:
            names = " and ".join(map(str, jars))
            found.append(f"{names} (in {_CORENLP}, about 400 MB; --spice_jars names the folder they are in)")
    return found


def check_toolkit(metrics, spice_jars=""):
    """DataError that lists everything `missing`."""
    if lacks := missing(metrics, spice_jars):
        raise DataError(f"{' and '.join(metrics)} cannot be scored: missing {'; '.join(lacks)}")


def toolkit_metrics(captions, references, metrics, spice_jars=""):
    """METEOR and SPICE as the toolkit gives them, on the words of `tokenize`.

    Args:
        captions, references: as of `caption_metrics`. metrics: some of METRICS. spice_jars: as of `missing`.
    Returns:
        ({name: float in [0, 1]}, {image id: {name: float}}).
    Raises:
        DataError: something is missing, or Java ends with an error.
    """
    check_toolkit(metrics, spice_jars)
    check_same_images(captions, references)
    found = [" ".join(tokenize(caption)) for caption in captions.values()]
    wanted = [[" ".join(tokenize(caption)) for caption in references[image]] for image in captions]
    totals, own = {}, {image: {} for image in captions}
    for name in metrics:
        totals[name], scores = _meteor(found, wanted) if name == "METEOR" else _spice(found, wanted, spice_jars)
        for image, score in zip(captions, scores, strict=True):
            own[image][name] = score
    return totals, own


def _meteor(found, wanted):
    """One process answers every line: the statistics of a caption, then the scores that follow from all of them.

    The last of these is that of the whole collection. Starting takes some ten seconds.
    """
    command = ["java", "-Xmx2G", "-jar", "meteor-1.5.jar", "-", "-", "-stdio", "-l", "en", "-norm"]
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said,
        subprocess.Popen(
            command, cwd=toolkit_folder() / "meteor", stdin=pipe, stdout=pipe, stderr=said, encoding="utf-8"
        ) as java,
    ):
        try:
            statistics = [
                _answer(java, " ||| ".join(["SCORE", *own, caption]))
                for caption, own in zip(found, wanted, strict=True)
            ]
            scores = [_answer(java, " ||| ".join(["EVAL", *statistics]))]
            scores += [java.stdout.readline() for _ in found]
            *own, total = map(float, scores)
        except (OSError, ValueError):  # it has ended
            java.kill()
            said.seek(0)
            last = said.read().strip().splitlines()[-1:] or ["no message"]
            raise DataError(f"{' '.join(command[:4])} stopped answering: {last[0]}") from None
    return total, own


def _answer(java, line):
    java.stdin.write(line + "\n")
    java.stdin.flush()
    return java.stdout.readline().strip()


def _spice(found, wanted, spice_jars):
    package = toolkit_folder() / "spice"
    jars = Path(spice_jars).resolve() if spice_jars else package / "lib"
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            {"image_id": place, "test": caption, "refs": own}
            for place, (caption, own) in enumerate(zip(found, wanted, strict=True))
        ]
        Path(folder, "in.json").write_text(json.dumps(rows), encoding="utf-8")
        classes = os.pathsep.join([str(package / "spice-1.0.jar"), f"{package / 'lib'}/*", f"{jars}/*"])
        options = ["-cache", folder, "-out", "out.json", "-silent"]
        _java(["java", "-Xmx8G", "-cp", classes, "edu.anu.spice.SpiceScorer", "in.json", *options], folder)
        results = json.loads(Path(folder, "out.json").read_text(encoding="utf-8"))
    scores = {row["image_id"]: float(row["scores"]["All"]["f"]) for row in results}
    return sum(scores.values()) / len(scores), [scores[place] for place in range(len(found))]


def _java(command, folder):
    """Run a Java program; DataError with its last words where it fails."""
    done = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", errors="replace")
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:] or ["no message"]
        raise DataError(f"SPICE ended with {done.returncode}: {said[0]}")


def toolkit_folder():
    """The package's folder, or None; it is not imported, as that needs its other requirements."""
    found = importlib.util.find_spec("pycocoevalcap")
    return Path(next(iter(found.submodule_search_locations))) if found else None


def main():
    """Says what is there and what is missing: `make captioning-scores`."""
    print("BLEU, ROUGE-L and CIDEr need nothing further")
    for name in METRICS:
        print(f"{name}: " + ("; ".join(f"missing {lack}" for lack in missing([name])) or "everything is there"))
    return bool(missing(["METEOR"]))


if __name__ == "__main__":
    sys.exit(main())
