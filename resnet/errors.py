"""What an error has in common with others that a person reads."""

from __future__ import annotations


class ExplainedError(Exception):
    """An error whose message is for a person, in one sentence: what is wrong, and what is accepted or works instead.

    Commands print it and pages show it. Whatever else is raised is a bug, and says so with its traceback.
    """


class WeightsError(ExplainedError, RuntimeError):
    """Weights that cannot be had, in one sentence: which, why, and what works instead."""
