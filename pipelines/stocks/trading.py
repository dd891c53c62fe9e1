"""The trading check: would forecasts of volatility have been of use, after costs? It is no advice.

Each ticker has an equal share of the wealth, of which so much is invested as brings its forecast volatility to TARGET,
and at most all of it; the rest is cash without interest. A forecast made at a day's close is traded at the next day's
open. Beside it: the same shares always fully invested (equal weight), and bought once (buy and hold).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pipelines.core.evaluation.bootstrap import Interval
from pipelines.core.report import figures
from pipelines.core.report.items import Item
from pipelines.stocks.features import HORIZONS, YEAR

if TYPE_CHECKING:
    from pipelines.core.training.trial import Outcome

TARGET = 0.10
"""Volatility a year of each ticker's share: as in Harvey, Hoyle, Korgaonkar et al. (2018), "The impact of volatility
targeting"."""
BLOCK, DRAWS = 21, 500  # days, on average, of the stationary bootstrap's blocks (Politis and Romano 1994); resamplings
FORECASTS = ("network", "har_pooled", "constant")
"""Models whose forecasts set the holdings."""
EQUAL, HOLD = "equal weight", "buy and hold"
WORDS = (
    "The trading check tries the forecasts on past prices; it is not advice. The tickers in the data are those that "
    "survived, so that every holding looks better than it could have been"
)
HOLDINGS = (
    "What each way of holding the tickers would have earned a year, after costs. Compare Sharpe ratios, since a target "
    "lowers return and risk alike; where the last column's interval holds 0, there is no gain over equal weight."
)
CURVES = (
    "Wealth from 1, after costs. Look how deep and how long the falls are, rather than at the end: one lucky year "
    "moves the end of a curve."
)


@dataclass(frozen=True)
class Path:
    """A holding over time: `wealth` (days,) before each day's trade, from 1; `traded` (days,), in parts of it."""

    wealth: np.ndarray
    traded: np.ndarray

    @property
    def returns(self) -> np.ndarray:
        """From each day's open to the next, costs included, (days - 1,)."""
        return self.wealth[1:] / self.wealth[:-1] - 1


def simulate(prices: np.ndarray, wanted: np.ndarray, cost: float) -> Path:
    """Trade at each day's price to the wanted shares of the wealth, and pay the costs.

    Args:
        prices: (days, tickers), at which is traded.
        wanted: (days, tickers), shares of the wealth, at least 0 and together at most 1; NaN in the whole row for a
            day without a trade. They must have been known before that day's price.
        cost: of trading an amount, as a share of it.

    Returns:
        The path. Costs are paid from cash, and where there is none, from what is bought.
    """
    amounts, cash = np.zeros(prices.shape[1]), 1.0
    wealth, traded = np.ones(len(prices)), np.zeros(len(prices))
    for day, price in enumerate(prices):
        if day:
            amounts = amounts * price / prices[day - 1]
        wealth[day] = amounts.sum() + cash
        if np.isnan(wanted[day]).any():
            continue
        # Costs lower the wealth to invest, and so the trades that cause them: a few rounds converge.
        left = wealth[day]
        for _ in range(4):
            turnover = np.abs(wanted[day] * left - amounts).sum()
            left = wealth[day] - cost * turnover
        amounts = wanted[day] * left
        cash, traded[day] = left - amounts.sum(), turnover / wealth[day]
    return Path(wealth, traded)


def figures_of(path: Path) -> dict[str, float]:
    """Return, volatility and turnover of a year, and the deepest fall from a peak, all in percent of the wealth.

    Turnover is all that was bought and sold.
    """
    years = len(path.returns) / YEAR
    return {
        "return, %": 100 * (path.wealth[-1] ** (1 / years) - 1),
        "volatility, %": 100 * path.returns.std() * np.sqrt(YEAR),
        "drawdown, %": 100 * float((1 - path.wealth / np.maximum.accumulate(path.wealth)).max()),
        "turnover, %": 100 * path.traded.sum() / years,
    }


def sharpe(returns: np.ndarray) -> np.ndarray:
    """Mean over deviation of daily returns (days, ...), a year's; cash earns no interest."""
    deviation = returns.std(axis=0)
    return np.divide(returns.mean(axis=0), deviation, out=np.zeros_like(deviation), where=deviation > 0) * np.sqrt(YEAR)


def sharpe_intervals(returns: pd.DataFrame) -> pd.DataFrame:
    """Each column's Sharpe ratio, and it less that of EQUAL, with 95 % intervals from a stationary bootstrap."""
    from arch.bootstrap import StationaryBootstrap

    drawn = StationaryBootstrap(BLOCK, returns.to_numpy(), seed=0).apply(sharpe, DRAWS)
    value, equal = sharpe(returns.to_numpy()), [returns.columns.get_loc(EQUAL)]
    columns = {}
    for name, values, draws in (
        ("Sharpe ratio", value, drawn),
        ("over equal weight", value - value[equal], drawn - drawn[:, equal]),
    ):
        bounds = np.quantile(draws, [0.025, 0.975], axis=0)
        columns[name] = [Interval(*row) for row in np.stack([values, *bounds], axis=1)]
    return pd.DataFrame(columns, index=returns.columns)


def holdings(outcome: Outcome) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Prices to trade at, (days, tickers), and the shares of the wealth that each holding wants then, as these.

    The days are those that follow a test day. Forecasts of variance are from open to close: the factor that makes them
    forecasts of a whole day's return is each ticker's on training days (of all tickers for one that is new).
    """
    train, part = outcome.parts["train"], outcome.parts["test"]
    frame, records = part.frame.reset_index(drop=True), part.records
    open_or_close = "open" if "open" in records else "close"
    price = records[open_or_close] * records["adjustment"]
    if "open" not in records and "adj_close" in records:
        price = records["adj_close"]
    table = records.assign(price=price).pivot(index="time", columns="ticker", values="price")
    table = table[sorted(frame["ticker"].unique())].ffill()

    labels = train.labels
    sums = pd.DataFrame({"squared": labels[:, len(HORIZONS)] ** 2, "variance": labels[:, 0]})
    sums = sums.groupby(train.frame["ticker"].to_numpy()).sum()
    whole = (sums["squared"] / sums["variance"]).reindex(frame["ticker"])
    factor = whole.fillna(sums["squared"].sum() / sums["variance"].sum()).to_numpy()
    tests = np.unique(frame["time"])
    first, last = np.searchsorted(table.index, [tests[0], tests[-1]])
    days = slice(first + 1, last + 2)
    wanted, models = {}, {"network": outcome.scores, **outcome.baselines}
    for name in FORECASTS:
        deviation = np.sqrt(YEAR * factor * models[name][:, 0])
        shares = frame.assign(share=np.minimum(TARGET / deviation, 1) / table.shape[1])
        known = shares.pivot(index="time", columns="ticker", values="share").reindex(table.index)
        # Shifted by a day: a forecast at a close is traded at the next open. A ticker without a forecast keeps its last
        # one, and is not bought before its first.
        wanted[name] = known.shift(1).ffill().fillna(0)[days].to_numpy()
    exists = table[days].notna().to_numpy()
    wanted[EQUAL] = np.where(exists, 1 / table.shape[1], 0)
    wanted[HOLD] = np.full(wanted[EQUAL].shape, np.nan)
    wanted[HOLD][0] = wanted[EQUAL][0]
    wanted = {name: np.where(exists | np.isnan(shares), shares, 0) for name, shares in wanted.items()}
    return table[days].bfill(), wanted  # a ticker's price before its first day is never traded at


def check(outcome: Outcome) -> Iterator[Item]:
    """Items of the report: a table of figures of each holding, and equity curves."""
    prices, wanted = holdings(outcome)
    rate = outcome.settings.cost_bp / 10_000
    paths = {name: simulate(prices.to_numpy(), shares, rate) for name, shares in wanted.items()}
    returns = pd.DataFrame({name: path.returns for name, path in paths.items()})
    table = pd.DataFrame({name: figures_of(path) for name, path in paths.items()}).T
    table = table.join(sharpe_intervals(returns))
    targeted = {name: f"target by {name}" for name in FORECASTS}
    yield Item("trading check, no advice", table.rename(index=targeted).rename_axis("holding").reset_index(), HOLDINGS)
    curves = pd.DataFrame({name: path.wealth for name, path in paths.items()}, index=prices.index)
    targets = f"{', '.join(FORECASTS)} target {TARGET:.0%} a year"
    title = f"Wealth after costs of {outcome.settings.cost_bp / 100:g} %; {targets}"
    yield Item("equity curves", figures.lines(curves, title, "wealth, from 1"), CURVES)


def words(outcome: Outcome) -> str:
    """Caution to read with the trading check."""
    without = "" if "adj_close" in outcome.parts["test"].records else "; dividends are missing from the prices"
    price = "open" if "open" in outcome.parts["test"].records else "close"
    return (
        f"{WORDS}{without}. A forecast is traded at the next {price}, and each trade costs "
        f"{outcome.settings.cost_bp / 100:g} % of what is bought or sold."
    )
