"""Forecasts: tests of their losses over time, and scores of quantiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.stats import t as student

from pipelines.core.evaluation.bootstrap import Interval


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
        return Interval(self.mean / unit, (self.mean - half) / unit, (self.mean + half) / unit, level)


def diebold_mariano(differences: np.ndarray, horizon: int, kept: np.ndarray | None = None) -> DieboldMariano:
    """Test whether the mean of loss differences, one a period in order of time, is below 0.

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
    variance = float(influence @ influence)
    for step in range(1, lag + 1):
        variance += 2 * (1 - step / (lag + 1)) * float(influence[step:] @ influence[:-step])
    return DieboldMariano(mean, float(np.sqrt(max(variance, 0.0))), count)


@dataclass(frozen=True, eq=False)
class Panel:
    """Losses of several models on the same units and times, such as tickers and days.

    What moves all units alike must count once, so tests are of each time's mean over its units.

    Attributes:
        losses: of each model, float (n, horizons).
        time: of each row, (n,), any order.
        horizons: times that the forecasts look ahead.
    """

    losses: Mapping[str, np.ndarray]
    time: np.ndarray
    horizons: Sequence[int]

    @cached_property
    def _place(self) -> np.ndarray:
        return np.unique(self.time, return_inverse=True)[1]

    def over_time(self, values: np.ndarray) -> np.ndarray:
        """Mean over the units of each time, ascending, (times,), of values (n,)."""
        return np.bincount(self._place, values) / np.bincount(self._place)

    def mean(self, model: str, horizon: int, kept: np.ndarray | None = None) -> float:
        """Mean over times of a model's mean loss, for the horizon of that number; `kept` as for `test`."""
        means = self.over_time(self.losses[model][:, horizon])
        return float((means if kept is None else means[kept]).mean())

    def test(self, a: str, b: str, horizon: int, kept: np.ndarray | None = None) -> DieboldMariano:
        """Model a against b, on all times or on those `kept`, bool (times,)."""
        differences = self.over_time(self.losses[a][:, horizon] - self.losses[b][:, horizon])
        return diebold_mariano(differences, self.horizons[horizon], kept)


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
    low, high = _ends(levels, coverage)
    return (quantiles[..., low] <= values) & (values <= quantiles[..., high])


def widening(
    values: np.ndarray, quantiles: np.ndarray, levels: Sequence[float], coverages: Sequence[float]
) -> np.ndarray:
    """Factors (..., L), at least 1, by which distances from the median grow so that intervals hold what they promise.

    An interval's is the conformal quantile of the least factor that would hold each of the values (n, ...), given
    their quantiles (n, ..., L): Romano, Patterson and Candès (2019), "Conformalized quantile regression", with
    factors in place of distances. `coverages` ascend; an outer interval is not to fall inside an inner one.
    """
    found, outer = np.ones(quantiles.shape[1:]), np.ones(quantiles.shape[1:-1])
    median = quantiles[..., int(np.argmin(np.abs(np.array(levels) - 0.5)))]
    for coverage in coverages:
        ends = _ends(levels, coverage)
        below, above = (quantiles[..., end] - median for end in ends)
        asked = np.where(values < median, (values - median) / below, (values - median) / above)
        rank = min(int(np.ceil((len(asked) + 1) * coverage)), len(asked)) - 1
        outer = np.maximum(np.sort(asked, axis=0)[rank], outer)
        found[..., ends] = outer[..., None]
    return found


def _ends(levels: Sequence[float], coverage: float) -> list[int]:
    """Places among the levels of the ends of the central interval."""
    return [int(np.argmin(np.abs(np.array(levels) - (1 + side * coverage) / 2))) for side in (-1, 1)]


def transform(values: np.ndarray, quantiles: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """Shares of values between neighbouring quantiles, over those promised: (L + 1,) for values (n,), 1 if calibrated.

    A histogram of the probability integral transform (Diebold, Gunther and Tay 1998) with the levels as edges.
    """
    place = (values[:, None] > quantiles).sum(axis=1)
    return np.bincount(place, minlength=len(levels) + 1) / len(values) / np.diff([0, *levels, 1])
