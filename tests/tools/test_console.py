"""The command `oscar-paddle`: all tools by name, the configs of the package, one line where something is missing."""

import sys

import pytest
import starting

from oscar_paddle import __version__
from oscar_paddle.config.errors import ConfigError
from oscar_paddle.config.loader import load_config
from oscar_paddle.tools.shell import console


@pytest.fixture
def command(monkeypatch, capsys):
    """What a person types behind `oscar-paddle` -> (exit code, stdout, stderr)."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["/usr/bin/oscar-paddle", *map(str, words)])
        try:
            code = console.main()
        except SystemExit as stop:
            code = stop.code
        return code or 0, *capsys.readouterr()

    return run


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_help_names_every_script(command, repository, words):
    code, out, err = command(*words)
    listed = [line.split()[0] for line in out.splitlines() if line.startswith("  ")]
    scripts = {path.stem for path in (repository / "tools").glob("*.py") if "\nif __name__" in path.read_text()}
    assert (code, err) == (0, "") and {name.replace("-", "_") for name in listed} == scripts
    assert {"train_retrieval", "score_pairs", "fetch_files"} <= scripts and not {"doors", "console"} & scripts
    assert "\n  eval-vqa            Evaluate a checkpoint on visual question answering (VQA v2)\n" in out


def test_version(command):
    assert command("--version") == (0, f"oscar-paddle {__version__}\n", "")


@pytest.mark.parametrize("name", ["train-retrieval", "train_retrieval"])
def test_both_spellings_start_the_tool(command, name):
    code, out, _ = command(name, "--help")
    assert code == 0 and out.startswith("usage: oscar-paddle train-retrieval [-h] --cfg_file FILE")
    here, launched, _ = out.split("example:\n")[1].splitlines()
    assert here == "  oscar-paddle train_retrieval --cfg_file configs/retrieval_train.yaml"
    started = "  python -m paddle.distributed.launch $(command -v oscar-paddle) train_retrieval --cfg_file configs/"
    assert launched.startswith(started)


def test_the_scripts_examples_stay(capfd):
    assert starting.in_process("train_retrieval", "--help") == 0
    assert "\n  python tools/train_retrieval.py --cfg_file configs/" in capfd.readouterr().out


def test_errors_and_their_codes(command):
    line = "error: no tool trian-retrieval; the nearest is train-retrieval (oscar-paddle --help lists all)\n"
    assert command("trian-retrieval", "--help") == (2, "", line)
    code, _, err = command("score-pairs")
    assert code == 2 and err.startswith("error: the following arguments are required: --checkpoint")


def test_without_paddle_one_line_names_the_extra(tmp_path):
    program = """
import sys
sys.modules["paddle"] = None
sys.argv = ["oscar-paddle", *{words}]
from oscar_paddle.tools.shell import console
sys.exit(console.main())
"""
    for words in (
        ["score-pairs", "--checkpoint", "x", "--features", "x.npz", "--caption", "a dog"],
        ["train-retrieval", "--cfg_file", "configs/retrieval_train.yaml"],
        ["eval-vqa", "--cfg_file", "configs/vqa_test.yaml"],
        ["inference-retrieval", "--cfg_file", "configs/retrieval_test.yaml", "--query_txt", "a dog"],
        ["convert-weights", "--input", "x", "--to", "pytorch", "--dry-run"],
    ):
        done = starting.run(["-c", program.format(words=words)], cwd=tmp_path)
        assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
        assert done.stderr.startswith("error: Paddle is not installed: pip install 'oscar-paddle[cpu]', or ")


# ---- configs of the package ----


def test_the_packages_configs_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = load_config("configs/retrieval_test_5k.yaml")  # its _BASE_ is the file beside it
    assert cfg.EVAL.EVAL_IMG_KEYS_FILE == "test_img_keys.tsv" and cfg.INPUT.MAX_SEQ_LEN == 70
    assert cfg.OUTPUT.SAVE_NAME == "retrieval_test_5k"
    (tmp_path / "mine.yaml").write_text("_BASE_: configs/retrieval_test_5k.yaml\nMISC: {SEED: 3}\n")
    assert load_config(tmp_path / "mine.yaml").INPUT.MAX_SEQ_LEN == 70


def test_a_file_of_ones_own_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "retrieval_test.yaml").write_text("MISC: {SEED: 3}\n")
    cfg = load_config("configs/retrieval_test.yaml")
    assert (cfg.MISC.SEED, cfg.DATASET.DATA_DIR) == (3, "")
    assert load_config("configs/retrieval_test_5k.yaml").DATASET.DATA_DIR  # not on the base of one's own


@pytest.mark.parametrize(
    "path", ["retrieval_test.yaml", "configs/no.yaml", "config/../configs/../README.md", "other/configs/vqa_test.yaml"]
)
def test_nothing_else_of_the_package_is_taken(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=f"^{path}: no such file$"):
        load_config(path)
