"""What a figure is worth: metrics, their intervals and paired comparisons.

A metric is a curried function: `metric(labels, scores)` looks at the scores once and returns a function of the
weights alone, cheap enough to be called 500 times. `bootstrap` does so for every model and metric at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtri, pdtr

from pipelines.core.contract import InputError
from pipelines.core.data.splits import codes_of
from pipelines.core.evaluation.metrics import Curried, finite

# Number of times a row is drawn, by a 16-bit random number: the inverse of the Poisson(1) distribution function, exact
# to 1/65536 and ten times as fast as Generator.poisson.
_POISSON = np.searchsorted(pdtr(np.arange(9), 1), (np.arange(65536) + 0.5) / 65536).astype(np.uint8)


# ---------------------------------------------------------------------------------------------------------- intervals


@dataclass(frozen=True)
class Interval:
    """A figure with its interval, whose level is told where it is not 95 %."""

    value: float
    low: float
    high: float
    level: float = 0.95

    def __str__(self) -> str:
        # Two significant digits of the interval's width: more would be noise.
        width = self.high - self.low
        digits = int(np.clip(1 - np.floor(np.log10(width)), 0, 6)) if width > 0 else 3
        level = "" if self.level == 0.95 else f" at {100 * self.level:.4g} %"
        return f"{self.value:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]{level}"

    def widened(self, level: float) -> Interval:
        """The interval at a higher level, each side drawn out as a normal distribution's would be."""
        by = ndtri((1 + level) / 2) / ndtri((1 + self.level) / 2)
        below, above = by * (self.value - self.low), by * (self.high - self.value)
        return Interval(self.value, self.value - below, self.value + above, level)


@dataclass(frozen=True)
class Bootstrap:
    """Every metric of every model, with its values under the same resamplings; see `bootstrap`.

    `replicates` has shape (ways of clustering, count) for each (model, metric); `unit` says in words what was drawn.
    """

    values: dict[tuple[str, str], float]
    replicates: dict[tuple[str, str], np.ndarray]
    unit: str

    def interval(self, model: str, metric: str, level: float = 0.95) -> Interval:
        """The metric of one model."""
        return _interval(metric, self.values[model, metric], self.replicates[model, metric], level)

    def difference(self, a: str, b: str, metric: str, level: float = 0.95) -> Interval:
        """Metric of `a` minus metric of `b`, paired: both saw the same resampled rows."""
        draws = self.replicates[a, metric] - self.replicates[b, metric]
        return _interval(metric, self.values[a, metric] - self.values[b, metric], draws, level)

    def deficit(self, model: str, than: str | float, metric: str, higher: bool = True, level: float = 0.95) -> Interval:
        """How far `model` is behind another model, or behind a fixed figure; negative where it is ahead."""
        if isinstance(than, str):
            better, worse = (than, model) if higher else (model, than)
            return self.difference(better, worse, metric, level)
        own = self.interval(model, metric, level)
        behind = Interval(than - own.value, than - own.high, than - own.low, level)
        return behind if higher else Interval(-behind.value, -behind.high, -behind.low, level)


def _interval(metric: str, value: float, draws: np.ndarray, level: float) -> Interval:
    # Percentiles, because they keep to a metric's range, follow its skewness, and need nothing beside the replicates;
    # BCa would ask for the metric without each cluster in turn, many thousand evaluations for a second-order gain.
    if np.isnan(draws).mean(axis=1).max() > 0.1:
        raise InputError(
            f"{metric} has no interval, because a class has so few test records that over a tenth of the resamplings "
            f"held none of it. Received: {int(np.isnan(draws).sum())} such of {draws.size}."
        )
    low, high = np.nanquantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=1)
    widest = np.argmax(high - low)
    return Interval(float(value), float(low[widest]), float(high[widest]), level)


def blocks(time: np.ndarray | pd.Series, length: int) -> np.ndarray:
    """(n,) number of the block that each row falls in: `length` distinct values of `time` (trading days) make one."""
    return np.unique(time, return_inverse=True)[1] // length


def bootstrap(
    metrics: Mapping[str, Curried],
    labels: np.ndarray,
    scores: Mapping[str, np.ndarray],
    weights: np.ndarray | None = None,
    clusters: Mapping[str, np.ndarray | pd.Series] | None = None,
    count: int = 500,
    seed: int = 0,
) -> Bootstrap:
    """Every metric of every model's `scores` on the same rows, under `count` resamplings of whole clusters.

    Each value of a cluster column is drawn Poisson(1) times, independently of the number of rows, so that a
    replicate is no more than a weight per row (Chamandy et al. 2012, "Estimating uncertainty for massive data
    streams"). Where rows are tied in several ways, by customer and by terminal, each way is resampled in turn and the
    wider interval counts; Owen and Eckles (2012) multiply the weights of all ways, which is wider still. Without a
    column that has two values or more, each row stands for itself. Weights depend on seed and clusters alone, so that
    another call with other models draws the same.

    At 350,000 rows, six models and two metrics, 500 resamplings take 5 s for each way of clustering with one label in
    a hundred positive, and a minute or two with every second one; ask for fewer above that (the simulation error of a
    bound goes with 1 / sqrt(count)).

    Raises InputError where a score or a metric is not finite.
    """
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, dtype=np.float64)
    curried = {
        (model, name): metric(labels, finite(f'scores of "{model}"', values))
        for model, values in scores.items()
        for name, metric in metrics.items()
    }
    values = {key: float(finite(f'{key[1]} of "{key[0]}"', np.array([f(weights)]))[0]) for key, f in curried.items()}

    coded = {name: codes_of(column) for name, column in (clusters or {}).items()}
    coded = {name: codes for name, codes in coded.items() if codes.max() > 0} or {"row": np.arange(len(labels))}
    replicates = {key: np.empty((len(coded), count)) for key in curried}
    for way, codes in enumerate(coded.values()):
        rng = np.random.default_rng([seed, way])
        for draw in range(count):
            times = np.zeros(codes.max() + 1, np.uint8)
            while not times.any():  # of two clusters, 13.5 % of the resamplings would draw neither
                times = _POISSON[rng.integers(0, 65536, len(times), dtype=np.uint16)]
            resampled = weights * times[codes]
            for key, value in curried.items():
                replicates[key][way, draw] = value(resampled)
    return Bootstrap(values, replicates, _unit(coded, count))


def _unit(coded: Mapping[str, np.ndarray], count: int) -> str:
    sizes = {name: int(codes.max()) + 1 for name, codes in coded.items()}
    unit = f"{count} resamplings by " + " and by ".join(f"{name} ({size:,})" for name, size in sizes.items())
    few = [name for name, size in sizes.items() if size < 20]
    return unit + (f"; with so few values of {' and '.join(few)} the interval is likely too narrow" if few else "")
