"""A corpus of a few rows over three data sets, one of them in chunks."""

import pytest
from corpora import write_corpus

from oscar_paddle.config.loader import load_config
from oscar_paddle.datasets.pretraining_dataset import build_pretraining_data
from oscar_paddle.datasets.tokenization import build_tokenizer


@pytest.fixture(scope="session")
def tokenizer(repository):
    return build_tokenizer(str(repository / "tests" / "golden" / "pretraining" / "checkpoint"), True)


@pytest.fixture
def folder(tmp_path):
    write_corpus(tmp_path)
    return tmp_path


@pytest.fixture
def configure(folder):
    """Function: --opts words -> config of the corpus in `folder`."""
    (folder / "run.yaml").write_text("{}")

    def configure(*opts):
        words = ("DATASET.DATA_DIR", folder, "CORPUS.DATASET_FILE", "corpus/corpus.yaml", "INPUT.IMG_FEATURE_DIM", 4)
        words += ("INPUT.MAX_SEQ_LEN", 12, *opts)
        return load_config(folder / "run.yaml", [str(word) for word in words])

    return configure


@pytest.fixture
def build(configure, tokenizer):
    """Function: --opts words -> PretrainingDataset."""

    def build(*opts, **options):
        cfg = configure(*opts)
        return build_pretraining_data(cfg, tokenizer, cfg.CORPUS.DATASET_FILE, **options)

    return build
