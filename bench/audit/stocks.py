"""Daily prices with planted faults: days that never traded, prices and volume of tomorrow, tickers that are one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.signal import lfilter

from bench.audit.faults import Domain, Fault
from pipelines.stocks import PIPELINE

TICKERS, DAYS, STEPS = 6, 900, 60
RANGE = ["Open", "High", "Low", "Close"]


def clean(rng: np.random.Generator) -> pd.DataFrame:
    """Six tickers over 900 days; see `simulated`."""
    return simulated(rng, clustering=0.35)


def simulated(rng: np.random.Generator, clustering: float) -> pd.DataFrame:
    """Random walks within each day whose log variance is autoregressive, and volume that rises with variance.

    Args:
        rng: generator.
        clustering: standard deviation of the log variance; 0 makes the variance constant, so that nothing can be
            forecast.
    """
    shocks = (rng.standard_normal((TICKERS, DAYS)) + rng.standard_normal(DAYS)) / np.sqrt(2)
    slow, fast = lfilter([np.sqrt(1 - 0.98**2)], [1, -0.98], shocks), rng.standard_normal((TICKERS, DAYS))
    level = rng.uniform(np.log(0.008), np.log(0.02), (TICKERS, 1))
    daily = np.exp(level + clustering * slow + 0.5 * clustering * fast)[..., None]
    steps = (rng.standard_normal((TICKERS, DAYS, STEPS)) + 0.7 * rng.standard_normal((DAYS, STEPS))) / 1.22
    path = np.cumsum(
        daily * steps * np.sqrt(0.8 / STEPS), axis=2
    )  # from the open; a fifth of the variance is overnight
    night = daily[..., 0] * np.sqrt(0.2) * rng.standard_normal((TICKERS, DAYS))
    opening = rng.uniform(3.5, 5.5, (TICKERS, 1)) + np.cumsum(night + path[..., -1], axis=1) - path[..., -1]
    high, low = np.maximum(path.max(axis=2), 0), np.minimum(path.min(axis=2), 0)
    habit = lfilter([0.3], [1, -0.9], rng.standard_normal((TICKERS, DAYS)))
    volume = np.exp(14 + 1.2 * np.log((high - low) / daily[..., 0].mean()) + habit)
    return pd.DataFrame(
        {
            "Date": np.tile(pd.bdate_range("2015-01-02", periods=DAYS), TICKERS),
            "Ticker": np.repeat([f"TICK{number}" for number in range(TICKERS)], DAYS),
            **dict(zip(RANGE, [np.exp(opening + part).ravel().round(2) for part in (0, high, low, path[..., -1])],
                       strict=True)),
            "Volume": volume.ravel().round(),
        }
    )  # fmt: skip


def write(table: pd.DataFrame, folder: Path) -> Path:
    """The prices as one CSV file."""
    folder.mkdir()
    table.to_csv(folder / "prices.csv", index=False)
    return folder / "prices.csv"


# ------------------------------------------------------------------------------------------------------------- plants

Prices = pd.DataFrame
Plant = Callable[[Prices, np.random.Generator], Prices]
CELLS = [*RANGE, "Volume"]


def _by_ticker(change: Callable[[Prices, np.random.Generator], Prices], tickers: int = TICKERS) -> Plant:
    """Apply a change to the rows of the first so many tickers, each in order of time."""

    def plant(prices: Prices, rng: np.random.Generator) -> Prices:
        parts = [rows for _, rows in prices.groupby("Ticker")]
        changed = [change(rows.reset_index(drop=True), rng) for rows in parts[:tickers]]
        return pd.concat([*changed, *parts[tickers:]], ignore_index=True)

    return plant


def _every_day(rows: Prices, rng: np.random.Generator, how: str = "ffill") -> Prices:
    """Every day of the calendar; Saturdays and Sundays are forward-filled, or lie on the line to Monday."""
    full = rows.set_index("Date").asfreq("D")
    filled = full[CELLS].interpolate() if how == "line" else full[CELLS].ffill()
    return filled.assign(Ticker=rows["Ticker"].iloc[0]).reset_index()


def _stale(share: float) -> Callable[[Prices, np.random.Generator], Prices]:
    """Rows that repeat the day before."""

    def change(rows: Prices, rng: np.random.Generator) -> Prices:
        traded = rng.random(len(rows)) >= share
        traded[0] = True
        return rows.assign(
            **rows[CELLS].iloc[np.maximum.accumulate(np.arange(len(rows)) * traded)].set_axis(rows.index)
        )

    return change


def _flat(rows: Prices, rng: np.random.Generator) -> Prices:
    flat = rng.random(len(rows)) < 0.3
    return rows.assign(**{name: rows[name].where(~flat, rows["Close"]) for name in RANGE})


def _smoothed(rows: Prices, rng: np.random.Generator) -> Prices:
    return rows.assign(**rows[RANGE].rolling(5, min_periods=1).mean().round(2))


def _interpolated(rows: Prices, rng: np.random.Generator) -> Prices:
    """Known on Fridays alone, on the line between them otherwise."""
    known = (rows["Date"].dt.dayofweek == 4) | (rows.index == 0) | (rows.index == len(rows) - 1)
    return rows.assign(**rows[RANGE].where(known).interpolate().round(2))


def _of_tomorrow(*columns: str) -> Callable[[Prices, np.random.Generator], Prices]:
    """Cells of these columns are those of the next day."""
    return lambda rows, rng: rows.assign(**rows[list(columns)].shift(-1)).iloc[:-1]


def _range_of_tomorrow(rows: Prices, rng: np.random.Generator) -> Prices:
    """Open and close of today, and around them as wide a range as tomorrow has."""
    body = rows[["Open", "Close"]]
    upper = (rows["High"] / body.max(axis=1)).shift(-1, fill_value=1)
    lower = (rows["Low"] / body.min(axis=1)).shift(-1, fill_value=1)
    return rows.assign(High=(body.max(axis=1) * upper).round(2), Low=(body.min(axis=1) * lower).round(2))


def _crossed(rows: Prices, rng: np.random.Generator) -> Prices:
    """Half of the rows have high and low exchanged."""
    crossed = rng.random(len(rows)) < 0.5
    return rows.assign(High=rows["High"].where(~crossed, rows["Low"]), Low=rows["Low"].where(~crossed, rows["High"]))


def _backwards(rows: Prices, rng: np.random.Generator) -> Prices:
    return rows.assign(Date=rows["Date"].to_numpy()[::-1]).iloc[::-1]


def _another(change: Callable[[Prices], Prices]) -> Plant:
    """Add a ticker ALIAS made from the first one."""

    def plant(prices: Prices, rng: np.random.Generator) -> Prices:
        first = prices[prices["Ticker"] == "TICK0"].reset_index(drop=True)
        return pd.concat([prices, change(first).assign(Ticker="ALIAS")], ignore_index=True)

    return plant


def _weekly(rows: Prices, rng: np.random.Generator) -> Prices:
    """One row a week, over as many rows as before: from 1990 on."""
    return rows.assign(Date=pd.date_range("1990-01-05", periods=len(rows), freq="W-FRI"))


def _twice(prices: Prices, rng: np.random.Generator) -> Prices:
    other = prices.sample(frac=0.1, random_state=1)
    return pd.concat([prices, other.assign(**{name: other[name] * 1.01 for name in RANGE})], ignore_index=True)


WEEKEND, SAME, SMOOTH = (
    r"weekend|saturday|sunday",
    r"equal|stale|repeat|same as|unchanged|of the day before",
    r"correlat|smooth|interpol",
)
ALIAS = r"ALIAS.*TICK0|TICK0.*ALIAS"
CALM = "days that never traded are forecast with ease"

FAULTS = (
    Fault("weekends filled with Friday's prices", CALM, "refused", f"{WEEKEND}|{SAME}", _by_ticker(_every_day),
          fast=True),
    Fault("weekends on the line to Monday", "Saturday tells where Monday goes", "refused", f"{WEEKEND}|{SMOOTH}",
          _by_ticker(lambda rows, rng: _every_day(rows, rng, "line"))),
    Fault("a sixth of the rows repeat the day before", CALM, "refused", SAME, _by_ticker(_stale(0.16))),
    Fault("one ticker with stale prices", CALM, "warned", f"TICK0.*({SAME})|({SAME}).*TICK0", _by_ticker(
        _stale(0.4), tickers=1)),
    Fault("a third of the days are flat", "closing prices alone: the variance of these days is the floor", "refused",
          r"flat|no range|high.*low", _by_ticker(_flat)),
    Fault("prices smoothed over five days", "a mean over days tells most of tomorrow's", "refused", SMOOTH,
          _by_ticker(_smoothed), fast=True),
    Fault("one ticker with smoothed prices", "a mean over days tells most of tomorrow's", "warned",
          f"TICK0.*({SMOOTH})|({SMOOTH}).*TICK0", _by_ticker(_smoothed, tickers=1)),
    Fault("weekly prices interpolated to days", "Monday tells where Friday goes", "refused", SMOOTH,
          _by_ticker(_interpolated)),
    Fault("volume of the day after", "volume rises with variance: it tells tomorrow's", "refused", "volume",
          _by_ticker(_of_tomorrow("Volume"))),
    Fault("one ticker with the volume of the day after", "volume rises with variance: it tells tomorrow's", "warned",
          r"volume", _by_ticker(_of_tomorrow("Volume"), tickers=1)),
    Fault("high and low of the day after", "the range is the forecast's target", "refused", r"repair|high|range",
          _by_ticker(_of_tomorrow("High", "Low"))),
    Fault("range of the day after around today's prices", "the range is the forecast's target", "warned",
          r"range|high", _by_ticker(_range_of_tomorrow)),
    Fault("close of the day after", "the return is a target too", "refused", r"repair|close|range",
          _by_ticker(_of_tomorrow("Close"))),
    Fault("two tickers that are one", "one is forecast twice, and intervals count it twice", "warned", ALIAS,
          _another(lambda rows: rows), fast=True),
    Fault("a ticker that is another one's multiple", "a share class or a depositary receipt in another currency",
          "warned", ALIAS, _another(lambda rows: rows.assign(**(rows[RANGE] * 2.5).round(2)))),
    Fault("a ticker that follows another by a day", "one's today is the other's tomorrow", "warned", ALIAS,
          _another(lambda rows: rows.assign(**rows[CELLS].shift(1)).iloc[1:])),
    Fault("half of the rows have high and low exchanged", "repaired rows have no range of their own", "refused",
          r"repair|high", _by_ticker(_crossed)),
    Fault("weekly prices", "the horizons are weeks, not days", "refused", r"week|days? apart|daily",
          _by_ticker(_weekly)),
    Fault("dates in reverse", "prices of the future come first", "warned",
          r"revers|backwards?|overnight|open", _by_ticker(_backwards)),
    Fault("two prices for a ticker and day", "different instruments under one name", "refused",
          "one row for each ticker and day", _twice),
)  # fmt: skip

DOMAIN = Domain(PIPELINE, clean, write, FAULTS)
