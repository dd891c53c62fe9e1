"""What forecasts are worth: a test of two forecasts' losses, and scores of quantiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from pipelines.core.evaluate import Interval


@dataclass(frozen=True)
class DieboldMariano:
    """A mean difference of losses, first less second, with the standard error of a mean of autocorrelated values.

    Diebold and Mariano (1995), "Comparing predictive accuracy". `periods` is how many values entered the mean.
    """

    mean: float
    error: float
    periods: int

    @property
    def statistic(self) -> float:
        """Mean over standard error; 0 where all differences are the same 0."""
        return self.mean / self.error if self.error > 0 else float(np.sign(self.mean) * np.inf) if self.mean else 0.0

    @property
    def p(self) -> float:
        """One-sided: the chance of so low a mean if the first forecast were no better, by Student's t."""
        return float(student.cdf(self.statistic, max(self.periods - 1, 1)))

    def interval(self, level: float, unit: float = 1.0) -> Interval:
        """The mean with its two-sided interval of that level, both in parts of `unit`."""
        half = float(student.ppf((1 + level) / 2, max(self.periods - 1, 1))) * self.error
        return Interval(self.mean / unit, (self.mean - half) / unit, (self.mean + half) / unit)


def diebold_mariano(differences: np.ndarray, horizon: int, kept: np.ndarray | None = None) -> DieboldMariano:
    """Tests whether the mean of loss differences, one a period in order of time, is below 0.

    The variance is Newey and West's (1987), with Bartlett weights up to a lag of horizon - 1, by which targets
    overlap, and 4 (T / 100)^(2/9) periods more (their rule of 1994).

    Args:
        differences: float (T,); of a panel the means over its units, so that what moves all of them alike counts once.
        horizon: periods that the forecasts look ahead.
        kept: bool (T,), the periods that the mean is over; the others keep their place in time.
    """
    kept = np.ones(len(differences), bool) if kept is None else kept
    periods, count = len(differences), int(kept.sum())
    if count < 2:
        return DieboldMariano(float("nan"), float("nan"), count)
    mean = float(differences[kept].mean())
    # How far each period moves the mean; 0 for those that are left out.
    influence = np.where(kept, differences - mean, 0) / count
    lag = min(horizon - 1 + int(4 * (periods / 100) ** (2 / 9)), periods - 1)
    variance = influence @ influence
    for step in range(1, lag + 1):
        variance += 2 * (1 - step / (lag + 1)) * (influence[step:] @ influence[:-step])
    return DieboldMariano(mean, float(np.sqrt(max(variance, 0.0))), count)


def pinball(values: np.ndarray, quantiles: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """The loss that each quantile minimises (Koenker and Bassett 1978): values (...), quantiles (..., L), as these."""
    missed = values[..., None] - quantiles
    return np.maximum(np.multiply(levels, missed), np.subtract(levels, 1) * missed)


def crps(values: np.ndarray, quantiles: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """Continuous ranked probability score from quantiles at ascending levels: values (...), quantiles (..., L).

    It is twice the integral of the pinball loss over all levels (Gneiting and Ranjan 2011, "Comparing density forecasts
    using threshold- and quantile-weighted scoring rules"); each quantile here stands for the levels nearest to it.
    """
    edges = np.concatenate([[0], (np.array(levels[1:]) + np.array(levels[:-1])) / 2, [1]])
    return 2 * pinball(values, quantiles, levels) @ np.diff(edges)


def inside(values: np.ndarray, quantiles: np.ndarray, levels: Sequence[float], coverage: float) -> np.ndarray:
    """Whether values lie in the central interval of that coverage, whose ends must be among the levels; bool (...)."""
    low, high = (int(np.argmin(np.abs(np.array(levels) - end))) for end in ((1 - coverage) / 2, (1 + coverage) / 2))
    return (quantiles[..., low] <= values) & (values <= quantiles[..., high])


def transform(values: np.ndarray, quantiles: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """Shares of values between neighbouring quantiles, over those promised: (L + 1,) for values (n,), 1 if calibrated.

    A histogram of the probability integral transform (Diebold, Gunther and Tay 1998) with the levels as edges.
    """
    place = (values[:, None] > quantiles).sum(axis=1)
    return np.bincount(place, minlength=len(levels) + 1) / len(values) / np.diff([0, *levels, 1])
