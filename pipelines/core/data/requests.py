"""Requests: records that a version scores at once, with the rows that could not be parsed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from pipelines.core.data.dataset import Dataset


def no_faults() -> pd.DataFrame:
    """The table of rows at fault where there are none."""
    return pd.DataFrame({"id": pd.Series(dtype=object), "error": pd.Series(dtype="str")}, index=pd.RangeIndex(0))


BLOCK = 1 << 16
"""Rows that are scored at once."""


@dataclass(frozen=True, eq=False)
class Request:
    """Records that are scored at once, with the context that they are judged by.

    Attributes:
        data: the records to answer and those that are context.
        rows: int64 positions of the records to answer, whose labels in the records' index ascend.
        faults: rows of the raw data that could not be parsed, with `id` and `error`, numbered as that index.
        later: how many rows further requests of the same data hold, for progress.
        notes: sentences on what is scored and what is not.
    """

    data: Dataset[Any]
    rows: np.ndarray
    faults: pd.DataFrame = field(default_factory=no_faults)
    later: int = 0
    notes: tuple[str, ...] = ()

    def blocks(self) -> Iterator[tuple[np.ndarray, pd.DataFrame]]:
        """Positions in `rows`, BLOCK by BLOCK, each with the rows at fault that stand before the next block."""
        labels = self.data.records.index.to_numpy()[self.rows]
        ends = [*np.searchsorted(self.faults.index, labels[BLOCK::BLOCK]), len(self.faults)]
        for number, (begin, end) in enumerate(pairwise([0, *ends])):
            yield np.arange(len(self.rows))[number * BLOCK : (number + 1) * BLOCK], self.faults.iloc[begin:end]


def rows_to_score(labelled: np.ndarray) -> tuple[np.ndarray, str]:
    """The rows without a label, or all if every one has a label; and the sentence that says so.

    Args:
        labelled: bool (n,).

    Returns:
        int64 positions, and the sentence.
    """
    rows = np.flatnonzero(~labelled)
    if len(rows):
        return rows, "Rows without a label are scored." if len(rows) < len(labelled) else "All rows are scored."
    return np.arange(len(labelled)), "All rows are scored, since every one has a label."
