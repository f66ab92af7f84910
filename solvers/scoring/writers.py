"""What writes captions in an evaluation: Paddle as it is, or an exported program."""

from oscar_paddle.models.generation import EagerWriter
from oscar_paddle.solvers.runtime import device_name, float32_name


def build_writer(model, options, precision, *, weights, programs, ranks):
    """The writer that the settings ask for; see `solvers.scoring.backends.build_backend`."""
    writer = EagerWriter(model, precision)
    number_format = float32_name() if precision == "float32" else precision
    writer.name = f"eager Paddle, {number_format}, on {device_name()}"
    return writer
