"""Metrics: functions of measures that return a function of the weights, cheap enough for hundreds of resamplings.

A metric looks at the measures once, such as labels and scores, (n, …) each, and returns a function that maps weights
(n,) to its value. A metric that is no mean over rows, such as one of summed counts, has the same form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from pipelines.core.contract import InputError

Measures = Mapping[str, np.ndarray]
"""What a metric needs to know of each record, by name, each (n, …)."""
OfWeights = Callable[[np.ndarray], float]
"""The value of a metric under weights, float64 (n,); NaN where it is not defined."""
Metric = Callable[[Measures], OfWeights]
ScoreMetric = Callable[[np.ndarray, np.ndarray], OfWeights]
"""A metric of labels and scores."""


def of_scores(metric: ScoreMetric) -> Metric:
    """The metric of the measures "label" and "score".

    Example:
        >>> of_scores(accuracy)({"label": np.array([0, 1]), "score": np.array([0.2, 0.9])})(np.ones(2))
        1.0
    """
    return lambda measures: metric(measures["label"], measures["score"])


def mean_of(name: str) -> Metric:
    """The weighted mean of one measure, (n,).

    Example:
        >>> mean_of("loss")({"loss": np.array([1.0, 3.0])})(np.array([1.0, 1.0]))
        2.0
    """
    return lambda measures: _weighted_mean(measures[name])


def ratio_of_sums(numerator: str, denominator: str, empty: float = np.nan) -> Metric:
    """The mean over columns of weighted sums of one measure over those of another, each (n,) or (n, columns).

    Mean intersection over union is that of `intersection` and `union` by class; columns without any denominator are
    left out, and without any column the value is `empty`.

    Example:
        >>> counts = {"intersection": np.array([[2, 0], [1, 3]]), "union": np.array([[4, 0], [2, 3]])}
        >>> ratio_of_sums("intersection", "union")(counts)(np.ones(2))
        0.75
    """

    def metric(measures: Measures) -> OfWeights:
        above, below = (np.asarray(measures[name], np.float64) for name in (numerator, denominator))

        def value(weights: np.ndarray) -> float:
            sums = weights @ below
            present = sums > 0
            return float(np.mean((weights @ above)[present] / sums[present])) if present.any() else empty

        return value

    return metric


def finite(name: str, values: np.ndarray) -> np.ndarray:
    """Return `values`; raise InputError with the first position that holds no finite number."""
    if not np.isfinite(values).all():
        where = np.argwhere(~np.isfinite(values))[0]
        raise InputError(f"{name}: expected finite numbers. Received: {values[tuple(where)]} in row {where[0]}.")
    return values


def _probabilities(name: str, scores: np.ndarray) -> np.ndarray:
    outside = finite(name, scores)[(scores < 0) | (scores > 1)]
    if outside.size:
        raise InputError(f"{name} needs probabilities between 0 and 1. Received: {outside[0]}.")
    return scores


def _weighted_mean(values: np.ndarray) -> OfWeights:
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


def average_precision(labels: np.ndarray, scores: np.ndarray) -> OfWeights:
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


def roc_auc(labels: np.ndarray, scores: np.ndarray) -> OfWeights:
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


def brier(labels: np.ndarray, scores: np.ndarray) -> OfWeights:
    """Mean squared error of the probabilities `scores` (n,) of label 1."""
    return _weighted_mean((_probabilities("brier", scores) - labels) ** 2)


def log_loss(labels: np.ndarray, scores: np.ndarray) -> OfWeights:
    """Mean -ln of the probability given to the true class, in nats; `scores` (n,) of label 1, or (n, C)."""
    return _weighted_mean(record_log_loss(labels, scores))


def record_log_loss(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """-ln of the probability given to the true class of each record, (n,)."""
    scores = _probabilities("log_loss", scores)
    given = scores[np.arange(len(labels)), labels] if scores.ndim == 2 else np.where(labels == 1, scores, 1 - scores)
    return -np.log(np.maximum(given, np.finfo(given.dtype).eps))


def accuracy(labels: np.ndarray, scores: np.ndarray) -> OfWeights:
    """Share of rows decided rightly: the likeliest class of `scores` (n, C), or label 1 from 0.5 up for (n,)."""
    finite("accuracy", scores)
    return _weighted_mean(labels == (scores.argmax(axis=1) if scores.ndim == 2 else scores >= 0.5))
