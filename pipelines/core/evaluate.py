"""What a figure is worth: metrics, their intervals and paired comparisons.

A metric is a curried function: `metric(labels, scores)` looks at the scores once and returns a function of the
weights alone, cheap enough to be called 500 times. `bootstrap` does so for every model and metric at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtri, pdtr

from pipelines.core.pipeline import InputError

Curried = Callable[[np.ndarray, np.ndarray], Callable[[np.ndarray], float]]

# Number of times a row is drawn, by a 16-bit random number: the inverse of the Poisson(1) distribution function, exact
# to 1/65536 and ten times as fast as Generator.poisson.
_POISSON = np.searchsorted(pdtr(np.arange(9), 1), (np.arange(65536) + 0.5) / 65536).astype(np.uint8)


# ------------------------------------------------------------------------------------------------------------ metrics


def finite(name: str, values: np.ndarray) -> np.ndarray:
    """`values` as they came; raises InputError with the first position that holds no finite number."""
    if not np.isfinite(values).all():
        where = np.argwhere(~np.isfinite(values))[0]
        raise InputError(f"{name}: expected finite numbers. Received: {values[tuple(where)]} in row {where[0]}.")
    return values


def _probabilities(name: str, scores: np.ndarray) -> np.ndarray:
    outside = finite(name, scores)[(scores < 0) | (scores > 1)]
    if outside.size:
        raise InputError(f"{name} needs probabilities between 0 and 1. Received: {outside[0]}.")
    return scores


def _weighted_mean(values: np.ndarray) -> Callable[[np.ndarray], float]:
    values = values.astype(np.float64)

    def mean(weights: np.ndarray) -> float:
        total = weights.sum()
        return float(values @ weights / total) if total > 0 else np.nan

    return mean


def _ranking(labels: np.ndarray, scores: np.ndarray) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """weights -> (positives (K,), everything (2K + 1,)): summed weights along the K distinct scores of the positives.

    Slot 2k + 1 of `everything` holds the rows that tie with the k-th lowest score of a positive, slot 2k the
    negatives just below it. Neither average precision nor AUC needs to know more about a negative than its slot, so
    one `bincount` over rows in their given order replaces gather, sort and cumulative sum.
    """
    positive = np.flatnonzero(labels == 1)
    knots, group = np.unique(scores[positive], return_inverse=True)
    slot = np.searchsorted(knots, scores, "left") + np.searchsorted(knots, scores, "right")

    def sums(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return (
            np.bincount(group, weights[positive], len(knots)),
            np.bincount(slot, weights, 2 * len(knots) + 1),
        )

    return sums


def average_precision(labels: np.ndarray, scores: np.ndarray) -> Callable[[np.ndarray], float]:
    """Step-wise average precision, ties taken together, as scikit-learn's `average_precision_score`.

    `labels` (n,) 0 or 1, `scores` (n,); the result maps weights (n,) float64 to a float, nan without positives.
    """
    sums = _ranking(labels, finite("average_precision", scores))

    def value(weights: np.ndarray) -> float:
        positives, everything = sums(weights)
        found, flagged = positives[::-1].cumsum(), everything[::-1].cumsum()[1::2]
        if len(found) == 0 or found[-1] == 0:
            return np.nan
        return float(positives[::-1] @ (found / np.maximum(flagged, np.finfo(float).tiny)) / found[-1])

    return value


def roc_auc(labels: np.ndarray, scores: np.ndarray) -> Callable[[np.ndarray], float]:
    """Area under the ROC curve, a tie counting half; for scores (n, C) the unweighted mean of one class against rest.

    Maps weights (n,) to a float, nan where a class (or its rest) has no weight.
    """
    if scores.ndim == 2:
        each = [roc_auc(labels == c, scores[:, c]) for c in range(scores.shape[1])]
        return lambda weights: float(np.mean([value(weights) for value in each]))
    sums = _ranking(labels, finite("roc_auc", scores))

    def value(weights: np.ndarray) -> float:
        positives, negatives = sums(weights)
        negatives[1::2] -= positives
        pairs = positives.sum() * negatives.sum()
        won = positives @ (negatives.cumsum()[:-1:2] + negatives[1::2] / 2)
        return float(won / pairs) if pairs > 0 else np.nan

    return value


def brier(labels: np.ndarray, scores: np.ndarray) -> Callable[[np.ndarray], float]:
    """Mean squared error of the probabilities `scores` (n,) of label 1."""
    return _weighted_mean((_probabilities("brier", scores) - labels) ** 2)


def log_loss(labels: np.ndarray, scores: np.ndarray) -> Callable[[np.ndarray], float]:
    """Mean -ln of the probability given to the true class, in nats; `scores` (n,) of label 1, or (n, C)."""
    scores = _probabilities("log_loss", scores)
    given = scores[np.arange(len(labels)), labels] if scores.ndim == 2 else np.where(labels == 1, scores, 1 - scores)
    return _weighted_mean(-np.log(np.maximum(given, np.finfo(given.dtype).eps)))


def accuracy(labels: np.ndarray, scores: np.ndarray) -> Callable[[np.ndarray], float]:
    """Share of rows decided rightly: the likeliest class of `scores` (n, C), or label 1 from 0.5 up for (n,)."""
    finite("accuracy", scores)
    return _weighted_mean(labels == (scores.argmax(axis=1) if scores.ndim == 2 else scores >= 0.5))


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


def _codes(values: np.ndarray | pd.Series) -> np.ndarray:
    """(n,) int64 from 0 up, equal where the values are; a missing value equals none, not even another one."""
    codes, uniques = pd.factorize(values)
    missing = codes < 0
    codes[missing] = len(uniques) + np.arange(missing.sum())
    return codes


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

    coded = {name: _codes(column) for name, column in (clusters or {}).items()}
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


def gate(deficit: Interval, margin: float) -> str:
    """Whether a gate "holds", is "missed" or is "undecided": see `Gate`."""
    if deficit.high < margin:
        return "holds"
    return "missed" if deficit.low > margin else "undecided"


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
        unit = _codes(frame["group"]) if "group" in frame else np.arange(len(frame))
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
