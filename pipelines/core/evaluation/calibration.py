"""Scores into probabilities, probabilities into decisions: calibration and thresholds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy.special import expit, logit, softmax

from pipelines.core.contract import InputError
from pipelines.core.evaluation.metrics import log_loss, record_log_loss

FOLDS = 10


@dataclass(frozen=True)
class Calibration:
    """A map from scores to probabilities, for `apply`.

    Attributes:
        kind: isotonic interpolates between the knots (x, y); temperature multiplies log-probabilities by `slope`, or
            log-odds by `slope` after which `offset` is added.
        x, y: knots of the isotonic map, ascending.
        slope, offset: of the temperature map.
    """

    kind: Literal["isotonic", "temperature"]
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()
    slope: float = 1.0
    offset: float = 0.0


def learn(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> Calibration:
    """The calibration of `scores`, (n,) of label 1 or (n, C), by the labels of held-out records.

    Learnt by `isotonic` where each of two classes has a thousand records (Niculescu-Mizil and Caruana 2005), else by
    `temperature`, for two classes with an offset where it helps.

    Raises:
        InputError: if the labels are all the same.
    """
    if len(np.unique(labels)) < 2:
        raise InputError(
            "calibration needs validation records of two classes or more. "
            f"Received: {len(labels)} records, all with label {labels[0]}."
        )
    if scores.ndim == 1 and np.bincount(labels).min() >= 1000:
        return isotonic(scores, labels, weights)
    return temperature(scores, labels, weights, scores.ndim == 1 and offset_helps(scores, labels, weights))


def isotonic(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> Calibration:
    """The best non-decreasing map from `scores` (n,) in [0, 1] to the share of label 1 (Zadrozny and Elkan 2002).

    One pseudo-record at either end, labelled with the overall share, keeps the
    ends off 0 and 1.
    """
    from sklearn.isotonic import IsotonicRegression  # takes seconds, and scoring does without

    share, one = np.average(labels, weights=weights), weights.mean()
    x = np.concatenate([[scores.min()], scores, [scores.max()]])
    fitted = IsotonicRegression().fit(x, [share, *labels, share], [one, *weights, one])
    return Calibration("isotonic", tuple(fitted.X_thresholds_.tolist()), tuple(fitted.y_thresholds_.tolist()))


def temperature(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray, offset: bool = True) -> Calibration:
    """One positive slope for the log-probabilities of `scores` (n, C): temperature scaling (Guo et al. 2017).

    For `scores` (n,) the log-odds may get an `offset` too: Platt scaling.
    """
    from scipy.optimize import minimize  # takes time, and scoring does without

    free = 2 if scores.ndim == 1 and offset else 1

    def loss(x: np.ndarray) -> float:
        return log_loss(labels, _tempered(scores, np.exp(x[0]), x[1] if free == 2 else 0.0))(weights)

    slope, *moved = minimize(loss, np.zeros(free), method="L-BFGS-B", bounds=[(-3, 3), (-20, 20)][:free]).x
    return Calibration("temperature", slope=float(np.exp(slope)), offset=float(sum(moved)))


def offset_helps(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> bool:
    """Whether the records support an offset beside the slope, for scores (n,).

    It must lower the log loss in cross-validation by more than a standard error (Breiman, Friedman, Olshen and Stone
    1984, Classification and regression trees, section 3.4.3). An offset learnt from a few hundred records shifts every
    probability, and does harm where classes are more or less frequent later: on PneumoniaMNIST's test images it raised
    the Brier score from .088 to .109.
    """
    fold = np.random.default_rng(0).permutation(len(labels)) % FOLDS
    losses = np.zeros((2, len(labels)))
    for number in range(FOLDS):
        kept, left = fold != number, fold == number
        for row, offset in zip(losses, (False, True), strict=True):
            learnt = temperature(scores[kept], labels[kept], weights[kept], offset)
            row[left] = record_log_loss(labels[left], apply(learnt, scores[left]))
    gain = (losses[0] - losses[1]) * weights / weights.mean()
    return bool(gain.mean() > gain.std() / np.sqrt(len(gain)))


def _tempered(scores: np.ndarray, slope: float, offset: float) -> np.ndarray:
    p = np.clip(scores, 1e-12, 1 - 1e-12)
    return softmax(slope * np.log(p), axis=1) if p.ndim == 2 else expit(slope * logit(p) + offset)


def apply(calibration: Calibration, scores: np.ndarray) -> np.ndarray:
    """Calibrated probabilities, float64 of the shape of `scores`.

    A millionth of the score itself is mixed in: it keeps apart what a flat step of the isotonic map would tie, so
    that no ranking metric moves (for scores that were float32).
    """
    scores = np.asarray(scores, dtype=np.float64)
    if calibration.kind == "isotonic":
        calibrated = np.interp(scores, calibration.x, calibration.y)
    else:
        calibrated = _tempered(scores, calibration.slope, calibration.offset)
    return (1 - 1e-6) * calibrated + 1e-6 * scores


def reliability_table(labels: np.ndarray, p: np.ndarray, weights: np.ndarray, bins: int = 15) -> pd.DataFrame:
    """Predicted against observed share of label 1, in up to `bins` bins of equal weight, ascending; ties share a bin.

    Columns: predicted, observed, low, high (Wilson's 95 % interval, with Kish's effective number of rows for
    uneven weights), weight (share of the total), rows.
    """
    tie = np.unique(p, return_inverse=True)[1]
    mass = np.bincount(tie, weights) / weights.sum()
    # A group of ties goes where its middle lies.
    number = np.floor(bins * (mass.cumsum() - mass / 2)).astype(int).clip(0, bins - 1)
    number = np.unique(number, return_inverse=True)[1][tie]
    total, rows = np.bincount(number, weights), np.bincount(number)
    predicted, observed = np.bincount(number, weights * p) / total, np.bincount(number, weights * labels) / total
    effective = total**2 / np.bincount(number, weights**2)
    z2 = 1.96**2 / effective
    centre = (observed + z2 / 2) / (1 + z2)
    half = np.sqrt(z2 * (observed * (1 - observed) + z2 / 4)) / (1 + z2)
    columns = {"predicted": predicted, "observed": observed, "low": centre - half, "high": centre + half}
    return pd.DataFrame(columns | {"weight": total / weights.sum(), "rows": rows})


def expected_calibration_error(labels: np.ndarray, p: np.ndarray, weights: np.ndarray, bins: int = 15) -> float:
    """Mean distance of predicted from observed share over bins of equal weight (Nguyen and O'Connor 2015)."""
    table = reliability_table(labels, p, weights, bins)
    return float((table["weight"] * (table["predicted"] - table["observed"]).abs()).sum())


def threshold_at_rate(scores: np.ndarray, rate: float, weights: np.ndarray | None = None) -> float:
    """Lowest threshold with a share of at most `rate` of the weight at or above it; just above all scores if none.

    A budget of alerts is a rate of all rows (alerts a day / rows a day); a specificity is a rate of 1 - specificity
    of the negatives' scores.
    """
    thresholds, share = _flagged(scores, weights)
    return float(thresholds[np.flatnonzero(share <= rate + 1e-12)[-1]])


def _flagged(scores: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Thresholds in descending order, from just above all scores, and the share of the weight at or above each."""
    distinct, tie = np.unique(np.asarray(scores, dtype=np.float64), return_inverse=True)
    mass = np.bincount(tie, weights)[::-1].cumsum()
    return np.append(distinct, np.nextafter(distinct[-1], np.inf))[::-1], np.append(0, mass) / mass[-1]


def cost_curve(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray, cost_miss: np.ndarray | float, cost_alert: float
) -> pd.DataFrame:
    """Total cost at each threshold in descending order, first with no alert: columns threshold, cost, alerts.

    A row of label 1 below the threshold costs `cost_miss` (one figure, or one a row, such as the amount), a row at or
    above it `cost_alert`, whatever its label; both times the row's weight.
    """
    thresholds, share = _flagged(scores, weights)
    alerts = share * weights.sum()
    tie = np.unique(scores, return_inverse=True)[1]
    saved = np.append(0, np.bincount(tie, weights * (labels == 1) * cost_miss)[::-1].cumsum())
    return pd.DataFrame({"threshold": thresholds, "cost": saved[-1] - saved + alerts * cost_alert, "alerts": alerts})
