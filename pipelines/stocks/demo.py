"""Embedded data: real prices of two indices, and random walks, of which nothing can be forecast."""

import numpy as np
import pandas as pd

TICKERS, DAYS = 10, 3_000
STEPS = 78
"""Steps of a simulated trading day: one in five minutes."""
NIGHT = 0.2
"""Share of a day's variance that falls between close and open."""
DAILY = (0.008, 0.025)
"""Lowest and highest volatility of a ticker, per day: 13 to 40 % a year."""


def indices() -> pd.DataFrame:
    """S&P 500 and NASDAQ Composite, every trading day of 1999 to 2018, as the package `arch` holds them.

    A long table: Date (datetime64), Ticker, Open, High, Low, Close, Adj Close, Volume.
    """
    from arch.data import nasdaq, sp500

    tables = {"NASDAQ": nasdaq.load(), "SP500": sp500.load()}
    return pd.concat([table.reset_index().assign(Ticker=ticker) for ticker, table in tables.items()], ignore_index=True)


def random_walk(seed: int) -> pd.DataFrame:
    """Ten tickers over 3,000 days, each a Gaussian random walk of constant volatility, which differs between tickers.

    Open, high, low and close are those of a path of `STEPS` steps a day, and the overnight step has `NIGHT` of the
    day's variance. Volume is drawn independently of everything. Columns as in `indices`, without Adj Close.
    """
    rng = np.random.default_rng(seed)
    volatility = rng.uniform(*DAILY, (TICKERS, 1))
    steps = rng.standard_normal((TICKERS, DAYS, STEPS), np.float32) * np.sqrt((1 - NIGHT) / STEPS)
    path = np.cumsum(steps, axis=2)  # from the open, in units of the ticker's volatility
    night = rng.standard_normal((TICKERS, DAYS)) * np.sqrt(NIGHT)
    opening = np.cumsum(night + path[:, :, -1], axis=1) - path[:, :, -1]
    walks = {
        "Open": opening,
        "High": opening + np.maximum(path.max(axis=2), 0),
        "Low": opening + np.minimum(path.min(axis=2), 0),
        "Close": opening + path[:, :, -1],
    }
    columns = {name: (100 * np.exp(volatility * walk)).ravel() for name, walk in walks.items()}
    return pd.DataFrame(
        {
            "Date": np.tile(pd.bdate_range("2006-01-02", periods=DAYS), TICKERS),
            "Ticker": np.repeat([f"WALK{number}" for number in range(TICKERS)], DAYS),
            **columns,
            "Volume": rng.lognormal(14, 0.4, TICKERS * DAYS).round(),
        }
    )
