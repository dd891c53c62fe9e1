"""Which records train, validate and test; and the two halves of validation."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from pipelines.core.contract import InputError


@dataclass
class Splits:
    """Row numbers of the three sides, in ascending order, and what was left out of them, by reason.

    `headline` says of every record whether the headline metric counts it (bool, all by default). `clusters` names the
    columns of the records whose values tie rows together, and by which the intervals are therefore resampled.
    Unlabelled records (label -1) belong on no side.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    rule: str = ""
    left_out: dict[str, int] = field(default_factory=dict)
    headline: np.ndarray | None = None
    clusters: tuple[str, ...] = ()

    def sides(self) -> dict[str, np.ndarray]:
        """Row numbers by side."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @property
    def counted(self) -> np.ndarray:
        """Which test rows the headline counts, bool, shape (test,)."""
        return self.test >= 0 if self.headline is None else self.headline[self.test]


def codes_of(values: np.ndarray | pd.Series) -> np.ndarray:
    """(n,) int64 from 0 up, equal where the values are; a missing value equals none, not even another one."""
    codes, uniques = pd.factorize(values)
    missing = codes < 0
    codes[missing] = len(uniques) + np.arange(missing.sum())
    return codes


# ------------------------------------------------------------------------------------------------ validation's halves


def halves(records: pd.DataFrame, rows: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The validation `rows` cut in two: (for stopping and choices, for calibration and thresholds), ascending.

    Whole values of `group` where the records have them, alike in size and share of labels; else the earlier and the
    later half of `time`, equal times on one side; else at random, stratified by `label`. Of no rows the halves are
    empty. Raises InputError where all rows share one group or one time.
    """
    if not len(rows):
        return rows, rows
    frame = records.iloc[rows]
    if "time" in frame and "group" not in frame:
        times, count = np.unique(frame["time"], return_counts=True)
        first = frame["time"].to_numpy() <= times[np.argmin(np.abs(count.cumsum() - len(frame) / 2))]
    else:
        unit = codes_of(frame["group"]) if "group" in frame else np.arange(len(frame))
        size = np.bincount(unit)
        label = np.bincount(unit, frame["label"]) / size
        order = np.lexsort([np.random.default_rng(seed).random(len(size)), size, label])
        # Dealt out 0, 1, 1, 0, so that neither side always gets the smaller of two neighbours.
        first = np.isin(np.argsort(order) % 4, (0, 3))[unit]
    if first.all():
        raise InputError(
            "validation cannot be cut in two, one half to stop training and one to calibrate: expected two values of "
            f"group or time or more. Received: one, in {len(frame)} records."
        )
    return rows[first], rows[~first]
