"""Features of a ticker-day: its ticker's past days, market averages over those days, and HAR's linear forecasts.

Inside, ticker-days are in order of ticker and time; positions are places in that order. A ticker's first day has no
return, so its history begins with the second. Only `ahead` looks ahead, for the targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from pipelines.stocks.data import Facts

HORIZONS = (1, 5, 21)
"""Trading days that forecasts look ahead: a day, a week, a month."""
TARGETS = [f"variance_{h}d" for h in HORIZONS] + [f"return_{h}d" for h in HORIZONS]
"""Columns of the targets: for each horizon the mean variance of the days ahead, and the log return over them."""
WEEK, MONTH, YEAR = 5, 22, 252
"""Trading days; HAR averages over a week and a month (Corsi 2009)."""
FLOOR = 1e-6
"""Least variance of a day: a daily volatility of 0.1 %, below which prices tell little more than their rounding."""
LINEAR = (
    "log variance",
    "log variance, week",
    "log variance, month",
    "negative return",
    "absolute return",
    "market",
    "market, week",
    "market, month",
)
"""The regressors of the linear forecasts; HAR has the first three, its extension all of them."""
HAR, HAR_MARKET, HAR_POOLED = slice(0, 3), slice(3, 6), slice(6, 9)
"""Columns of the input `har`: the forecasts of HAR, one a horizon, of HAR with leverage and market, and of the same
with the coefficients of all tickers together."""
OWN = 250
"""Training days from which on a ticker gets separate coefficients; others share those of all tickers."""
Coefficients = tuple[tuple[tuple[float, ...], ...], ...]
"""Constant and slopes for each column of the input `har`, (1 + tickers, 6, 9), of all tickers together first."""


# ------------------------------------------------------------------------------------------------ prices, their means


def garman_klass(prices: pd.DataFrame) -> np.ndarray:
    """Variance of each day from open to close, float64 (n,), at least FLOOR; from open, high, low and close.

    0.5 ln(H/L)^2 - (2 ln 2 - 1) ln(C/O)^2: Garman and Klass (1980), "On the estimation of security price volatilities
    from historical data", without the overnight part.
    """
    spread = np.log(prices["high"] / prices["low"]).to_numpy()
    move = np.log(prices["close"] / prices["open"]).to_numpy()
    return np.maximum(0.5 * spread**2 - (2 * np.log(2) - 1) * move**2, FLOOR)


def derive(prices: pd.DataFrame) -> dict[str, np.ndarray]:
    """The `return` and `variance` of each day and the TARGETS, float64 (n,) each; rows by ticker and time.

    Variance is Garman and Klass's, or the squared return where there are close prices alone.
    """
    ticker = pd.factorize(prices["ticker"])[0]
    price = np.log(prices["close"] * prices["adjustment"]).to_numpy()
    returns = price - shifted(price, 1, ticker)
    variance = garman_klass(prices) if "open" in prices else np.maximum(returns**2, FLOOR)
    targets = [ahead(variance, h, ticker) for h in HORIZONS] + [shifted(price, -h, ticker) - price for h in HORIZONS]
    return {"return": returns, "variance": variance, **dict(zip(TARGETS, targets, strict=True))}


def rolling_mean(values: np.ndarray, length: int, group: np.ndarray) -> np.ndarray:
    """Mean of the latest `length` values up to each position, within its group, float64 (n,).

    Missing values are left out; NaN where there is none. Sums run over the window alone, newest first, so that the
    same window gives the same mean to the last bit, whatever came before it.
    """
    total, count = np.zeros(len(values)), np.zeros(len(values), np.int64)
    for back in range(min(length, len(values))):
        past = values[: len(values) - back]
        known = (group[back:] == group[: len(values) - back]) & ~np.isnan(past)
        total[back:] += np.where(known, past, 0)
        count[back:] += known
    return np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)


def ahead(values: np.ndarray, length: int, group: np.ndarray) -> np.ndarray:
    """Mean of the next `length` values after each position, NaN where its group has fewer, float64 (n,)."""
    total = np.zeros(len(values))
    for step in range(1, length + 1):
        total += shifted(values, -step, group)
    return total / length


def shifted(values: np.ndarray, steps: int, group: np.ndarray) -> np.ndarray:
    """The values `steps` positions earlier (later, if negative) within the group, NaN where there is none."""
    moved, n = np.full(len(values), np.nan), len(values)
    if abs(steps) < n:
        here, there = (slice(steps, n), slice(0, n - steps)) if steps >= 0 else (slice(0, n + steps), slice(-steps, n))
        moved[here] = np.where(group[here] == group[there], values[there], np.nan)
    return moved


# ------------------------------------------------------------------------------------------------------------- inputs


@dataclass(frozen=True, eq=False)
class Days:
    """Every ticker-day with what is known at its close, in order of ticker and time.

    Attributes:
        order: int64 (n,), row number of each position.
        place: int64 (n,), position of each row.
        code: int64 (n,), number of the ticker at each position.
        begin: int64 (n,), position at which the ticker's history begins.
        values: float32 (n, channels), see `channels`; 0 where unknown.
        linear: float32 (n, len(LINEAR)).
    """

    order: np.ndarray
    place: np.ndarray
    code: np.ndarray
    begin: np.ndarray
    values: np.ndarray
    linear: np.ndarray


class Window:
    """The latest `length` days up to each ticker-day, gathered when they are asked for."""

    dtype = np.dtype(np.float32)

    def __init__(self, days: Days, length: int) -> None:
        self.days = days
        self.shape = (len(days.order), length, days.values.shape[1])

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """The days up to those of `rows`, float32 (len(rows), length, channels); zero before the history begins."""
        now = self.days.place[rows][:, None]
        at = now + np.arange(1 - self.shape[1], 1)
        exists = at >= self.days.begin[now]
        return self.days.values[np.where(exists, at, 0)] * exists[..., None]


def channels(features: Sequence[str]) -> list[str]:
    """Channels of a day in `past`, in order, given the columns of the records."""
    ranged, volume = "open" in features, "volume" in features
    return [
        "exists",
        "return",
        "log variance",
        "negative return",
        "absolute return",
        "market return",
        "market log variance",
        *["overnight gap", "log range"] * ranged,
        *["log volume to past"] * volume,
    ]


def inputs(records: pd.DataFrame, facts: Facts) -> dict[str, np.ndarray | Window]:
    """The network's inputs for every record, in the order of the records, which may be any.

    Args:
        records: one row a ticker-day; reads `time`, `ticker`, `return`, `variance` and the price columns.
        facts: `features`, `tickers`, `window` and `har`, as learnt from the training records.

    Returns:
        `past`, a lazy float32 (n, window, channels): the ticker's latest days, see `channels`, the record's day last;
        zero where there are none. `linear`, float32 (n, 8): see LINEAR. `har`, float32 (n, 9): the logarithms of the
        linear variance forecasts, see HAR. `ticker`, int32 (n,): the place among the tickers learnt, from 1; 0 for
        another.
    """
    table = days(records, facts.features)
    linear = np.empty_like(table.linear)
    linear[table.order] = table.linear
    ticker = (pd.Index(facts.tickers).get_indexer(records["ticker"]) + 1).astype(np.int32)
    return {
        "past": Window(table, facts.window),
        "linear": linear,
        "har": har_forecast(linear, ticker, facts.har),
        "ticker": ticker,
    }


def days(records: pd.DataFrame, features: Sequence[str]) -> Days:
    """The features known at each ticker-day's close. Market averages are over the tickers of the same day."""
    code = pd.factorize(records["ticker"], sort=True)[0].astype(np.int64)
    order = np.lexsort((records["time"].to_numpy(), code))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    code, frame = code[order], records.iloc[order]
    begin = np.searchsorted(code, code) + 1

    returns = frame["return"].to_numpy(np.float64)
    variance = np.log(np.where(np.isnan(returns), np.nan, frame["variance"].to_numpy(np.float64)))
    dates, day = np.unique(frame["time"].to_numpy(), return_inverse=True)
    market_return, market = _average(returns, day, len(dates)), _average(variance, day, len(dates))
    one = np.zeros(len(dates), np.int64)

    columns = {
        "exists": np.ones(len(order)),
        "return": returns,
        "log variance": variance,
        "log variance, week": rolling_mean(variance, WEEK, code),
        "log variance, month": rolling_mean(variance, MONTH, code),
        "negative return": np.minimum(returns, 0),
        "absolute return": np.abs(returns),
        "market return": market_return[day],
        "market log variance": market[day],
        "market": market[day],
        "market, week": rolling_mean(market, WEEK, one)[day],
        "market, month": rolling_mean(market, MONTH, one)[day],
    }
    if "open" in features:
        columns["overnight gap"] = returns - np.log(frame["close"] / frame["open"]).to_numpy()
        spread = np.log(frame["high"] / frame["low"]).to_numpy()
        columns["log range"] = 0.5 * np.log(np.maximum(spread**2 / (4 * np.log(2)), FLOOR))  # Parkinson (1980)
    if "volume" in features:
        volume = np.log(frame["volume"] / frame["adjustment"]).to_numpy()
        columns["log volume to past"] = volume - rolling_mean(shifted(volume, 1, code), MONTH, code)

    def stacked(names: Sequence[str]) -> np.ndarray:
        return np.nan_to_num(np.stack([columns[name] for name in names], axis=1)).astype(np.float32)

    return Days(order, place, code, begin, stacked(channels(features)), stacked(LINEAR))


def _average(values: np.ndarray, day: np.ndarray, days: int) -> np.ndarray:
    """Mean over the tickers of each day, NaN where none has a value, float64 (days,)."""
    known = ~np.isnan(values)
    count = np.bincount(day[known], minlength=days)
    total = np.bincount(day[known], values[known], minlength=days)
    return np.divide(total, count, out=np.full(days, np.nan), where=count > 0)


# ---------------------------------------------------------------------------------------------------------------- HAR


def fit_linear(
    records: pd.DataFrame, columns: Sequence[str], tickers: Sequence[str]
) -> tuple[Coefficients, tuple[float, ...]]:
    """Fit HAR and HAR with leverage and market, for all tickers together and for each.

    The logarithm of the mean variance over each horizon is regressed on HAR's averages of log variance (Corsi 2009,
    "A simple approximate long-memory model of realized volatility"), and on all of LINEAR. The forecast is
    exp(mu + s^2 / 2), with s^2 the variance of the residuals, whose half is part of the constant here.

    Args:
        records: of training.
        columns: the features, see `channels`.
        tickers: those to fit, numbered from 1; one with fewer than OWN rows gets the coefficients of all together.

    Returns:
        The coefficients; and for each horizon the log of the expected variance less the expected log, by the pooled
        forecast: half the variance of its errors.
    """
    table = days(records, columns)
    frame = records.iloc[table.order]
    # The first month of each ticker's training rows lacks the days before them, which are context.
    full = frame.groupby("ticker").cumcount().to_numpy() >= MONTH
    targets, linear = frame[TARGETS[: len(HORIZONS)]].to_numpy()[full], table.linear[full]
    number = pd.Index(tickers).get_indexer(frame["ticker"][full])
    pooled = _coefficients(linear, targets)
    of_ticker = (number == ticker for ticker in range(len(tickers)))
    har = (pooled, *(_coefficients(linear[r], targets[r]) if r.sum() >= OWN else pooled for r in of_ticker))
    forecast = har_forecast(linear, np.zeros(len(linear), int), har)[:, HAR_POOLED]
    return har, tuple((forecast - np.log(targets)).mean(axis=0).tolist())


def _coefficients(linear: np.ndarray, targets: np.ndarray) -> tuple[tuple[float, ...], ...]:
    logs, coefficients = np.log(targets), np.zeros((6, 1 + linear.shape[1]))
    for rows, width in ((HAR, 3), (HAR_MARKET, linear.shape[1])):
        x, mean = linear[:, :width].astype(np.float64), linear[:, :width].mean(axis=0, dtype=np.float64)
        # The least-norm solution, since the market of a single ticker is the ticker itself.
        slopes = np.linalg.pinv((x - mean).T @ (x - mean), rcond=1e-8, hermitian=True) @ (x - mean).T @ logs
        residuals = logs - x @ slopes
        coefficients[rows, 1 : 1 + width] = slopes.T
        coefficients[rows, 0] = residuals.mean(axis=0) + residuals.var(axis=0) / 2
    return tuple(map(tuple, coefficients.tolist()))


def har_forecast(linear: np.ndarray, ticker: np.ndarray, coefficients: Coefficients) -> np.ndarray:
    """Logarithms of the forecast variances, float32 (n, 9), see HAR, HAR_MARKET and HAR_POOLED."""
    table = np.array(coefficients)
    logs = np.empty((len(linear), 3 * len(HORIZONS)), np.float32)
    for number in np.unique(ticker):
        rows = ticker == number
        logs[rows, : HAR_POOLED.start] = linear[rows] @ table[number, :, 1:].T + table[number, :, 0]
    logs[:, HAR_POOLED] = linear @ table[0, HAR_MARKET, 1:].T + table[0, HAR_MARKET, 0]
    return logs
