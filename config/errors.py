"""The errors a person can cause and mend. Tools turn them into one line on stderr and an exit code."""


class UserError(Exception):
    """Something outside the program is wrong; the message says what, where, and what was expected."""

    exit_code = 1


class ConfigError(UserError):
    """A setting is unknown, of the wrong type, or contradicts another one."""

    exit_code = 2


class DataError(UserError):
    """A data file is missing, damaged, or does not hold what it should."""


class WeightsError(UserError):
    """A checkpoint is missing, damaged, or does not fit the model."""


class TrainingError(UserError):
    """Training cannot go on: a non-finite loss, a full disk, a run folder of another experiment."""
