"""The forecasting task: scores of variance and returns, QLIKE against HAR, widening of intervals, decisions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pipelines.core.data.arrays import Part
from pipelines.core.evaluation.metrics import Metric, ratio_of_sums
from pipelines.core.tasks import forecasting
from pipelines.core.tasks.task import Task
from pipelines.stocks.features import HAR, HORIZONS, MONTH, YEAR
from pipelines.stocks.model import LEVELS, MEDIAN

if TYPE_CHECKING:
    from pipelines.stocks.data import Facts

H = len(HORIZONS)
COVERAGES = (0.8, 0.95)
"""Of the central intervals of returns whose ends are among the quantiles."""


class StocksTask(Task):
    """Forecasts of the mean daily variance and of return quantiles over each horizon."""

    kind = "quantity"

    def scores(self, outputs: np.ndarray, facts: Facts) -> np.ndarray:
        """Mean daily variance over each horizon, then quantiles of returns, float64 (n, 3 + 3 * 7).

        The quantiles are widened once that is learnt; a baseline's scores are the first three columns alone.
        """
        outputs = outputs.astype(np.float64)
        variance, quantiles = np.exp(outputs[:, :H] + np.array(facts.excess)), return_quantiles(outputs)
        centre = quantiles[..., MEDIAN, None]
        widened = centre + (quantiles - centre) * np.array(facts.widening or np.ones((H, 1)))
        return np.concatenate([variance, widened.reshape(len(outputs), -1)], axis=1)

    def measures(self, scores: np.ndarray, part: Part) -> dict[str, np.ndarray]:
        """QLIKE of the scores and of HAR for each horizon: `qlike_1d`, `har_qlike_1d` and so on."""
        variance = part.labels[:, :H]
        losses, har = qlike(variance, scores[:, :H]), qlike(variance, har_variance(part))
        return by_horizon("qlike", losses) | by_horizon("har_qlike", har)

    def metrics(self, facts: Facts) -> Mapping[str, Metric]:
        """QLIKE for each horizon, pooled over ticker-days, as a ratio to that of HAR."""
        return {f"qlike_ratio_har_{h}d": ratio_of_sums(f"qlike_{h}d", f"har_qlike_{h}d") for h in HORIZONS}

    def calibrate(self, predict: Callable[[Part], np.ndarray], part: Part, settings: Any, facts: Facts) -> Facts:
        """The facts with `widening`, (3, 7): factors for the distance of each quantile from the median.

        No factor is below 1: half a year has few independent months, and intervals must not be narrowed on a calm one
        that have to cover a storm. The level of the variance is not calibrated, for the same reason: corrected on half
        a year, QLIKE over a month was 29 and 72 % worse in two earlier periods of the demo prices.
        """
        quantiles = return_quantiles(predict(part).astype(np.float64))
        factors = forecasting.widening(part.labels[:, H:], quantiles, LEVELS, COVERAGES)
        return replace(facts, widening=tuple(map(tuple, factors.tolist())))

    def decide(self, outputs: np.ndarray, facts: Facts, part: Part) -> pd.DataFrame:
        """The forecasts for each ticker-day of the part, made at its close.

        Columns, for each horizon of h trading days: `volatility_hd`, a year's, from open to close, in the mean of these
        days; `return_hd_P`, the level that the log return over these days is below with a probability of P percent.
        `error` says why there is no forecast, else it is empty.
        """
        scores = self.scores(outputs, facts)
        table = pd.DataFrame({f"volatility_{h}d": np.sqrt(YEAR * scores[:, k]) for k, h in enumerate(HORIZONS)})
        quantiles = return_quantiles(scores)
        for k, h in enumerate(HORIZONS):
            for level, values in zip(LEVELS, quantiles[:, k].T, strict=True):
                table[f"return_{h}d_{100 * level:g}"] = values
        young = (part.frame["history"] < MONTH).to_numpy()
        table[young] = np.nan
        table["error"] = np.where(young, f"fewer than {MONTH} days of history before this one", "")
        return table


def qlike(variance: np.ndarray, forecast: np.ndarray) -> np.ndarray:
    """v/h - ln(v/h) - 1, element by element, 0 where the forecast is right.

    Ranks forecasts as the true variance would, although v is a noisy proxy of it: Patton (2011), "Volatility forecast
    comparison using imperfect volatility proxies".
    """
    ratio = variance / forecast
    return ratio - np.log(ratio) - 1


def by_horizon(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    """The columns of values (n, 3) as measures, one a horizon: NAME_1d and so on."""
    return {f"{name}_{h}d": column for h, column in zip(HORIZONS, values.T, strict=True)}


def har_variance(part: Part) -> np.ndarray:
    """HAR's forecasts of the variance, float64 (rows, 3), whose coefficients the facts hold."""
    return np.exp(part.inputs["har"][part.rows][:, HAR].astype(np.float64))


def return_quantiles(values: np.ndarray) -> np.ndarray:
    """The quantiles of returns in scores or outputs, (n, 3, 7)."""
    return values[:, H:].reshape(len(values), H, len(LEVELS))


TASK = StocksTask()
