"""What a check finds."""

from enum import StrEnum
from typing import NamedTuple


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    REMARK = "remark"
    """Works, but a person should know."""
    PROBLEM = "problem"
    """Does not work, or will lose something."""


class Verdict(NamedTuple):
    """One sentence, and what to do about it; nothing where all is well."""

    level: Level
    sentence: str
    advice: str = ""


class Finding(NamedTuple):
    """A verdict and the check that it is of."""

    check: str
    level: Level
    sentence: str
    advice: str


def ok(sentence: str) -> Verdict:
    """All is well."""
    return Verdict(Level.OK, sentence)


def remark(sentence: str, advice: str) -> Verdict:
    """Something to know."""
    return Verdict(Level.REMARK, sentence, advice)


def problem(sentence: str, advice: str) -> Verdict:
    """Something to mend."""
    return Verdict(Level.PROBLEM, sentence, advice)
