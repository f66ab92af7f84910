"""Predictions of examples: a NaN is never an answer."""

from types import SimpleNamespace

import numpy as np
import paddle
import pytest
from tiny import tiny_model

from oscar_paddle.config.errors import DataError
from oscar_paddle.solvers.scoring.backends import EagerBackend
from oscar_paddle.solvers.scoring.examples import ExampleScorer, example_blocks

DATA = SimpleNamespace(examples=SimpleNamespace(where=lambda example: f"record {example}"), rows=2, num_examples=3)


@pytest.mark.parametrize("classifier", ["linear", "mlp"])
def test_a_nan_pooled_vector_is_an_error(classifier):
    """Paddle 3.3.1 on the CPU gives 0 for relu(NaN), so an MLP head would make one quiet answer of it."""
    scorer = ExampleScorer(EagerBackend(tiny_model(classifier=classifier)), DATA, 100)
    ((block,),) = example_blocks(3)
    pooled = np.random.default_rng(0).normal(size=(6, 16)).astype(np.float32)
    pooled[3, 5] = np.nan  # a row of the second example
    with pytest.raises(DataError, match="record 1: the pooled vector is NaN; the weights hold NaN"):
        scorer.finish(block, pooled)


def test_a_nan_logit_is_an_error():
    model = tiny_model()
    model.classifier.bias.set_value(paddle.to_tensor([0.0, float("nan")]))
    scorer = ExampleScorer(EagerBackend(model), SimpleNamespace(**{**vars(DATA), "rows": 1}), 100)
    with pytest.raises(DataError, match="record 0: a logit is NaN"):
        scorer.finish(example_blocks(3)[0][0], np.zeros((3, 16), np.float32))
