"""Figures of price series that tell prices of an exchange from series that none made; `inspection` has their limits.

Functions give a value for each ticker, or for each day, whose mean is the ticker's figure.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import pandas as pd

from pipelines.stocks.features import shifted

FEWEST = 250
"""Days of a ticker below which its figures are too uncertain to judge it by."""
COARSE = 0.5
"""Share of bars with fewer than four different prices from which a ticker has few prices to choose from. Dow Jones
tickers .05 to .15, indices .13 and .33, random walks .24; in simulations .38 where a day's range is some hundred ticks,
.6 from ten, .8 from four, and .6 of 16 trades a day."""
FEW_MOVES = 5.0
"""The same of close prices alone: median over 5 % quantile of the moves that are not 0. Dow Jones tickers 8.3 to 13.7,
indices 12, random walks 9.8 to 13; in simulations 4 to 5 where a day's range is some ten ticks."""
CLOSED = ((1, 1), (12, 25))
"""Month and day on which exchanges are closed nearly everywhere."""


class Series:
    """Prices in order of ticker and time, and figures of each ticker, float64 (tickers,), NaN for too short ones."""

    def __init__(self, records: pd.DataFrame) -> None:
        self.frame = records.sort_values(["ticker", "time"], kind="stable", ignore_index=True)
        self.code, self.tickers = pd.factorize(self.frame["ticker"])
        self.begin = np.flatnonzero(np.diff(self.code, prepend=-1))
        self.bars = "open" in self.frame

    def __getitem__(self, name: str) -> np.ndarray:
        return self.frame[name].to_numpy(np.float64)

    def previous(self, values: np.ndarray, days: int = 1) -> np.ndarray:
        """The values of the ticker's day before, or of several days before, or after if negative; NaN at its ends."""
        return shifted(values, days, self.code)

    def mean(self, values: np.ndarray, fewest: int = FEWEST) -> np.ndarray:
        """Mean of each ticker's known values, or share of the known days where they are 0 or 1."""
        known = np.isfinite(values)
        count = np.add.reduceat(known, self.begin, dtype=np.int64)
        total = np.add.reduceat(np.where(known, values, 0.0), self.begin)
        return np.divide(total, count, out=np.full(len(count), np.nan), where=count >= fewest)

    def correlation(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Correlation within each ticker; values beyond three deviations count as these, so that no crash decides."""
        known = np.isfinite(a) & np.isfinite(b)
        a, b = (self._standard(np.where(known, values, np.nan)) for values in (a, b))
        return self.mean(a * b) / np.sqrt(self.mean(a * a) * self.mean(b * b))

    def _standard(self, values: np.ndarray) -> np.ndarray:
        centred = values - self.mean(values)[self.code]
        deviation = np.sqrt(self.mean(centred**2))[self.code]
        z = np.divide(centred, deviation, out=np.full(len(values), np.nan), where=deviation > 0)
        clipped = np.clip(z, -3, 3)
        return clipped - self.mean(clipped)[self.code]

    def quantile(self, values: np.ndarray, share: float) -> np.ndarray:
        """Quantile of each ticker's known values."""
        return pd.Series(values).groupby(self.code).quantile(share).to_numpy()

    @cached_property
    def close(self) -> np.ndarray:
        return np.log(self["close"] * self["adjustment"])

    @cached_property
    def open(self) -> np.ndarray:
        return np.log(self["open"] * self["adjustment"])

    @cached_property
    def night(self) -> np.ndarray:
        """Log move from the close before to the open."""
        return self.open - self.previous(self.close)

    @cached_property
    def flat(self) -> np.ndarray:
        """Whether the day has one price alone; never where there are closes alone."""
        return self["high"] == self["low"] if self.bars else np.zeros(len(self.code), bool)

    @cached_property
    def coarse(self) -> np.ndarray:
        """Whether the ticker has few prices to choose from, so that days are equal by chance, bool (tickers,)."""
        if not self.bars:
            move = np.abs(self["close"] - self.previous(self["close"]))
            move[move == 0] = np.nan
            return self.quantile(move, 0.5) < FEW_MOVES * self.quantile(move, 0.05)
        prices = np.sort(self.frame[["open", "high", "low", "close"]].to_numpy(), axis=1)
        few = (np.diff(prices, axis=1) == 0).any(axis=1).astype(float)
        return self.mean(np.where(self.flat | self.frame["repaired"], np.nan, few), fewest=1) > COARSE

    def equals_previous(self, *names: str) -> np.ndarray:
        """Whether all of these columns equal those of the day before, float64 (n,), NaN on a ticker's first day."""
        equal = np.ones(len(self.code))
        for name in names:
            before = self.previous(self[name])
            equal *= np.where(np.isnan(before), np.nan, self[name] == before)
        return equal


# ---------------------------------------------------------------------------------------------------------- of each day


def repaired(series: Series) -> np.ndarray:
    """Whether high or low had to be repaired."""
    return series["repaired"]


def repeated_bars(series: Series) -> np.ndarray:
    """Whether all prices of a bar that is not flat are those of the day before."""
    return np.where(series.flat, 0, series.equals_previous("open", "high", "low", "close"))


def flat_bars(series: Series) -> np.ndarray:
    """Whether open, high, low and close are one price."""
    return series.flat.astype(float)


def repeated_closes(series: Series) -> np.ndarray:
    """Whether the close is that of the day before."""
    return series.equals_previous("close")


def holidays(series: Series) -> np.ndarray:
    """Whether the close is that of the day before, of days on which exchanges are closed."""
    time = series.frame["time"].dt
    closed = np.isin(time.month * 100 + time.day, [month * 100 + day for month, day in CLOSED])
    return np.where(closed & (time.day_of_week < 5), repeated_closes(series), np.nan)


def made_up_bars(series: Series) -> np.ndarray:
    """Whether open and close are high and low, of bars that are not flat.

    Unknown for a ticker of so few trades that flat days are common.
    """
    body = series.frame[["open", "close"]]
    ends = (series["high"] == body.max(axis=1)) & (series["low"] == body.min(axis=1)) & (series["repaired"] == 0)
    few_trades = series.mean(flat_bars(series))[series.code] > 0.02
    return np.where(series.flat | few_trades, np.nan, ends)


def rolling_extremes(series: Series) -> np.ndarray:
    """Whether the high alone or the low alone is that of the day before."""
    high, low = series.equals_previous("high"), series.equals_previous("low")
    return np.where(series.flat, 0, high + low == 1)


def straight_lines(series: Series) -> np.ndarray:
    """Whether the close moves as on the day before, to a fiftieth of the move."""
    move = series["close"] - series.previous(series["close"])
    return np.where(move == 0, 0, np.abs(move - series.previous(move)) <= 0.02 * np.abs(move))


# ------------------------------------------------------------------------------------------------------- of each ticker


def left_out(series: Series) -> np.ndarray:
    """Share of the ticker's rows, from its first to its last, that were left out."""
    count = series.mean(series["left_out"], fewest=1)
    return count / (count + np.bincount(series.code))


def spacing(series: Series) -> np.ndarray:
    """Median number of days from one price to the next, where it is as regular as of weeks or months; else 1.

    Of a ticker that is seldom traded it is not: days without trade come at random.
    """
    days = series.frame["time"].diff().dt.days.where(series["history"] > 0).to_numpy(np.float64)
    median = series.quantile(days, 0.5)
    regular = series.mean((np.abs(days / median[series.code] - 1) < 0.25).astype(float))
    return np.where((median > 5) & (regular > 0.8), median, 1)


def still_weekends(series: Series) -> np.ndarray:
    """By how much of the mean move of other days that of Saturdays and Sundays is smaller; 0 without weekends."""
    ends = (series.frame["time"].dt.day_of_week >= 5).to_numpy()
    move = np.abs(series["return"])
    of_ends, others = (series.mean(np.where(days, move, np.nan), fewest=20) for days in (ends, ~ends))
    return 1 - np.divide(of_ends, others, out=np.ones(len(others)), where=others > 0)


def stray_weekends(series: Series) -> np.ndarray:
    """Prices on Saturdays or on Sundays over those on the other days of the week, where they are rare; else 0."""
    count = np.bincount(series.code * 7 + series.frame["time"].dt.day_of_week, minlength=7 * len(series.tickers))
    count = count.reshape(-1, 7)
    share = count[:, 5:] / np.maximum(np.median(count[:, :5], axis=1), 1)[:, None]
    return np.where(share < 0.6, share, 0).max(axis=1)


def autocorrelation(series: Series) -> np.ndarray:
    """Correlation of the return with that of the day before."""
    returns = series["return"]
    return series.correlation(returns, series.previous(returns))


def later_close(series: Series) -> np.ndarray:
    """Distance from the open to the close of the day before over that to the close of the day after."""
    after = np.abs(series.open - series.previous(series.close, -1))
    return _ratio(series.mean(np.abs(series.night)), series.mean(after))


def earlier_close(series: Series) -> np.ndarray:
    """Distance from the open to the close of the day before over that to the close two days before."""
    before = np.abs(series.open - series.previous(series.close, 2))
    return _ratio(series.mean(np.abs(series.night)), series.mean(before))


def nights(series: Series) -> np.ndarray:
    """Mean move over night over that from open to close."""
    return _ratio(series.mean(np.abs(series.night)), series.mean(np.abs(series.close - series.open)))


def day_undone(series: Series) -> np.ndarray:
    """Correlation of the move from open to close with that over the next night, without its sign."""
    return np.abs(series.correlation(series.close - series.open, series.previous(series.night, -1)))


def shifted_range(series: Series) -> np.ndarray:
    """How differently often a day's range holds the open and close of the day after and those of the day before."""

    def held(days: int) -> np.ndarray:
        prices = [series.previous(series[name], days) for name in ("open", "close")]
        inside = (np.maximum(*prices) <= series["high"]) & (np.minimum(*prices) >= series["low"])
        return series.mean(np.where(np.isnan(prices[0]), np.nan, inside))

    return np.abs(held(-1) - held(1))


def later_volume(series: Series) -> np.ndarray:
    """Correlation of changes of log volume with those of log variance on the next day, less that on the same day."""
    volume, variance = np.log(series["volume"]), np.log(series["variance"])
    change, of_variance = volume - series.previous(volume), variance - series.previous(variance)
    later = series.correlation(change, series.previous(of_variance, -1))
    return np.where(later > 0.2, later - series.correlation(change, of_variance), 0)


def later_adjustment(series: Series) -> np.ndarray:
    """Correlation of the adjusted return with the close's of the next day, less that with the same day's."""
    close = np.log(series["close"])
    move = close - series.previous(close)
    same, later = (series.correlation(series["return"], series.previous(move, days)) for days in (0, -1))
    return later - same


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.full(len(a), np.nan), where=b > 0)
