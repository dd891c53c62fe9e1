"""Metrics with cluster-bootstrap intervals, and paired comparisons of models on the same rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtri, pdtr

from pipelines.core.contract import InputError
from pipelines.core.data.splits import codes_of
from pipelines.core.evaluation.metrics import Measures, Metric, finite

# Number of times a row is drawn, by a 16-bit random number: the inverse of the Poisson(1) distribution function, exact
# to 1/65536 and ten times as fast as Generator.poisson.
_POISSON = np.searchsorted(pdtr(np.arange(9), 1), (np.arange(65536) + 0.5) / 65536).astype(np.uint8)


# ---------------------------------------------------------------------------------------------------------- intervals


@dataclass(frozen=True)
class Interval:
    """A value with its interval; the text names the level where it is not 95 %."""

    value: float
    low: float
    high: float
    level: float = 0.95

    def __str__(self) -> str:
        value, low, high = self.rounded()
        level = "" if self.level == 0.95 else f" at {100 * self.level:.4g} %"
        return f"{value} [{low}, {high}]{level}"

    def rounded(self) -> tuple[str, str, str]:
        """Value, low and high with two significant digits of the interval's width: more would be noise."""
        width = self.high - self.low
        digits = int(np.clip(1 - np.floor(np.log10(width)), 0, 6)) if width > 0 else 3
        return f"{self.value:.{digits}f}", f"{self.low:.{digits}f}", f"{self.high:.{digits}f}"

    def negated(self) -> Interval:
        """The interval of the opposite: a lead for a deficit."""
        return Interval(-self.value, -self.high, -self.low, self.level)

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

    def deficit(self, model: str, than: str, metric: str, higher: bool = True, level: float = 0.95) -> Interval:
        """How far `model` is behind another model; negative where it is ahead."""
        better, worse = (than, model) if higher else (model, than)
        return self.difference(better, worse, metric, level)


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
    metrics: Mapping[str, Metric],
    models: Mapping[str, Measures],
    weights: np.ndarray | None = None,
    clusters: Mapping[str, np.ndarray | pd.Series] | None = None,
    count: int = 500,
    seed: int = 0,
) -> Bootstrap:
    """Every metric of every model on the same rows, under `count` resamplings of whole clusters.

    Each value of a cluster column is drawn Poisson(1) times, independently of the number of rows, so that a
    replicate is no more than a weight per row (Chamandy et al. 2012, "Estimating uncertainty for massive data
    streams"). Where rows belong together in several ways, by customer and by terminal, each way is resampled in turn
    and the wider interval counts; Owen and Eckles (2012) multiply the weights of all ways, which is wider still.
    Without a column that has two values or more, each row is a cluster. Weights depend on seed and clusters alone, so
    that another call with other models draws the same.

    At 350,000 rows, six models and two metrics, 500 resamplings take 5 s for each way of clustering with one label in
    a hundred positive, and a minute or two with every second one; ask for fewer above that (the simulation error of a
    bound goes with 1 / sqrt(count)).

    Args:
        metrics: by name.
        models: the measures of each model, (n, …), by its name.
        weights: float64 (n,); ones by default.
        clusters: columns (n,) whose equal values are drawn together.
        count: resamplings.
        seed: of what is drawn.

    Raises:
        InputError: if a score or a metric is not finite.

    Example:
        >>> truth, guess = np.array([0, 1, 0, 1]), np.array([0.1, 0.9, 0.2, 0.7])
        >>> found = bootstrap({"AUC": of_scores(roc_auc)}, {"network": {"label": truth, "score": guess}})
        >>> found.values["network", "AUC"]
        1.0
    """
    for model, measures in models.items():
        if "score" in measures:
            finite(f'scores of "{model}"', measures["score"])
    rows = len(next(iter(next(iter(models.values())).values())))
    weights = np.ones(rows) if weights is None else np.asarray(weights, dtype=np.float64)
    prepared = {
        (model, name): metric(measures) for model, measures in models.items() for name, metric in metrics.items()
    }
    values = {key: float(finite(f'{key[1]} of "{key[0]}"', np.array([f(weights)]))[0]) for key, f in prepared.items()}

    coded = {name: codes_of(column) for name, column in (clusters or {}).items()}
    coded = {name: codes for name, codes in coded.items() if codes.max() > 0} or {"row": np.arange(rows)}
    replicates = {key: np.empty((len(coded), count)) for key in prepared}
    for way, codes in enumerate(coded.values()):
        rng = np.random.default_rng([seed, way])
        for draw in range(count):
            times = np.zeros(codes.max() + 1, np.uint8)
            while not times.any():  # of two clusters, 13.5 % of the resamplings would draw neither
                times = _POISSON[rng.integers(0, 65536, len(times), dtype=np.uint16)]
            resampled = weights * times[codes]
            for key, value in prepared.items():
                replicates[key][way, draw] = value(resampled)
    return Bootstrap(values, replicates, _unit(coded, count))


def _unit(coded: Mapping[str, np.ndarray], count: int) -> str:
    sizes = {name: int(codes.max()) + 1 for name, codes in coded.items()}
    unit = f"{count} resamplings by " + " and by ".join(f"{name} ({size:,})" for name, size in sizes.items())
    few = [name for name, size in sizes.items() if size < 20]
    return unit + (f"; with so few values of {' and '.join(few)} the interval is likely too narrow" if few else "")
