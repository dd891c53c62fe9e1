"""Promises: what thresholds and intervals were chosen to keep, and whether test shows that they keep it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from pipelines.core.evaluation.bootstrap import Interval, bootstrap
from pipelines.core.evaluation.metrics import mean_of, ratio_of_sums

State = Literal["kept", "broken", "undecided"]
Z = 1.96


@dataclass(frozen=True)
class Promise:
    """A figure that was chosen on validation records, as it is on test.

    Attributes:
        name: what is promised, such as "errors among cases not referred".
        wanted: the value that was asked for.
        measured: on test, with its interval.
        at_most: whether less than wanted is as good; else more is.
        tolerance: by how much the value may miss what is wanted, in its unit, and still be as wanted.
        percent: whether the value is a share, shown in percent.
        remedy: what to do where it is broken, a sentence.
    """

    name: str
    wanted: float
    measured: Interval
    at_most: bool = True
    tolerance: float = 0.0
    percent: bool = True
    remedy: str = ""

    @property
    def state(self) -> State:
        """Kept or broken where the whole interval is on one side of the limit, wanted and tolerance; else undecided."""
        sign = 1 if self.at_most else -1
        limit = sign * self.wanted + self.tolerance
        low, high = sorted((sign * self.measured.low, sign * self.measured.high))
        return "kept" if high <= limit else "broken" if low > limit else "undecided"

    @property
    def asked(self) -> str:
        """What was wanted, in words: at most 2 % (1 % more is tolerated)."""
        bound = f"at {'most' if self.at_most else 'least'} {self._shown(self.wanted)}"
        way = "more" if self.at_most else "less"
        return bound + (f" ({self._shown(self.tolerance)} {way} is tolerated)" if self.tolerance else "")

    @property
    def found(self) -> str:
        """What was measured, in words."""
        measured = self.measured
        if self.percent:
            measured = Interval(100 * measured.value, 100 * measured.low, 100 * measured.high, measured.level)
        return f"{measured}{' %' * self.percent}"

    def __str__(self) -> str:
        """The promise in a clause: errors among cases not referred: 11.4 [8.0, 15.1] %, wanted at most 2 %."""
        return f"{self.name}: {self.found}, wanted {self.asked}"

    def _shown(self, value: float) -> str:
        return f"{100 * value:.4g} %" if self.percent else f"{value:.4g}"


def share(
    hits: np.ndarray, among: np.ndarray, weights: np.ndarray, clusters: Mapping[str, np.ndarray], scale: float = 1.0
) -> Interval | None:
    """The weighted share of hits among some rows with its 95 % interval; None where there is no such row.

    The interval is the wider one of a bootstrap over clusters, and Wilson's with Kish's effective number of rows: the
    first alone would be a point where no row is a hit, the second alone takes rows that belong together for
    independent.

    Args:
        hits: bool (n,), counted among the rows of `among` alone.
        among: bool (n,).
        weights: float64 (n,).
        clusters: codes (n,) whose equal values are resampled together, by way of clustering.
        scale: the share is multiplied by it, such as by the payments of a day.
    """
    if not among.any():
        return None
    rows = np.flatnonzero(among)
    measures = {"hit": hits[rows].astype(float), "row": np.ones(len(rows))}
    within = {name: codes[rows] for name, codes in clusters.items()}
    drawn = bootstrap({"share": ratio_of_sums("hit", "row")}, {"": measures}, weights[rows], within)
    found = drawn.interval("", "share")
    size = weights[rows].sum() ** 2 / (weights[rows] ** 2).sum()
    centre = (found.value + Z**2 / (2 * size)) / (1 + Z**2 / size)
    half = Z * np.sqrt(found.value * (1 - found.value) / size + Z**2 / (4 * size**2)) / (1 + Z**2 / size)
    low, high = min(found.low, centre - half), max(found.high, centre + half)
    return Interval(scale * found.value, scale * max(low, 0.0), scale * min(high, 1.0))


def promised(name: str, wanted: float, measured: Interval | None, **more: Any) -> Iterator[tuple[str, Promise]]:
    """The item of a report, where there was something to measure."""
    if measured is not None:
        yield name, Promise(name, wanted, measured, **more)


def mean_difference(
    first: np.ndarray, second: np.ndarray, weights: np.ndarray, clusters: Mapping[str, np.ndarray]
) -> Interval:
    """The weighted mean of `first` minus that of `second`, (n,) each, with its interval over resampled clusters."""
    models = {"first": {"value": first}, "second": {"value": second}}
    return bootstrap({"mean": mean_of("value")}, models, weights, clusters).difference("first", "second", "mean")


def frame(promises: Sequence[Promise]) -> pd.DataFrame:
    """The promises as a table."""
    columns = {
        "promise": [promise.name for promise in promises],
        "wanted": [promise.asked for promise in promises],
        "measured on test": [promise.found for promise in promises],
        "result": [promise.state for promise in promises],
    }
    return pd.DataFrame(columns)


def broken(promises: Iterable[Promise]) -> list[Promise]:
    """Those that are shown not to be kept."""
    return [promise for promise in promises if promise.state == "broken"]
