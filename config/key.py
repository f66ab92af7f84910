"""What is declared of a key, once: its default, its meaning, the values it may have, what it decides, its source."""

import enum
import math
from collections.abc import Callable
from typing import NamedTuple


class Decides(enum.Flag):
    """What comes out differently when a key changes."""

    RUN = enum.auto()  # the numbers of a training run, which is then not resumed
    SCORES = enum.auto()  # the scores of a checkpoint, which are then not used again


RUN, SCORES = Decides


class Rule(NamedTuple):
    """Which values of the right type a key may have."""

    allows: Callable  # value -> whether it is allowed
    words: str  # how an error goes on after "found 3; "
    options: tuple = ()  # all of them, where they can be listed


def one_of(*options):
    return Rule(options.__contains__, f"allowed: {', '.join(map(repr, options))}", options)


def must_be(words, allows=bool):
    """The rule with this test; without one, any text or number but '' and 0."""
    return Rule(allows, f"must be {words}")


def at_least(low):
    return must_be(f"at least {low}", lambda value: value >= low)


class Key(NamedTuple):
    """One key as `config/default.py` declares it, which says what the parts mean."""

    default: bool | int | float | str
    source: str
    rule: Rule | None = None  # None: every value of the type
    decides: Decides = Decides(0)
    meaning: str = ""

    def means(self, text):
        return self._replace(meaning=" ".join(text.split()))

    def problem(self, value):
        """What is wrong with a value of the key's type: what was found and what is allowed; None when it is fine."""
        if isinstance(value, float) and not math.isfinite(value):
            return f"found {value}; must be a finite number"
        if self.rule and not self.rule.allows(value):
            return f"found {value!r}; {self.rule.words}"
        return None
