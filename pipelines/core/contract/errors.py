"""Errors that the command line prints as a sentence, without a stack trace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class InputError(Exception):
    """A user's mistake, said in one sentence; the command line prints it and exits with code 2.

    Where rows of a table are at fault, `faults` holds a sentence for each, by its label in the table's index: training
    refuses the table, predicting goes on without these rows.
    """

    def __init__(self, sentence: str, faults: Mapping[Any, str] | None = None) -> None:
        super().__init__(sentence)
        self.faults = dict(faults or {})


class UnrecordedError(Exception):
    """What was done is kept but not on record yet; the command line prints how to go on and exits with code 1."""


class DivergedError(Exception):
    """Training met a loss that is not finite; the command line prints the sentence and exits with code 1."""
