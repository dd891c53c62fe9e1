"""Tickers that know one another's days: one series under two names or twice under one, and tickers misdated by a day.

Limits were measured on the 31 tickers of Dow Jones 2006 to 2017, two indices 1999 to 2018, and random walks.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.ndimage import maximum_filter1d

from pipelines.core.contract import InputError
from pipelines.stocks.inspection.series import Series

AROUND = 10
"""Days before and after a move that must be the largest of them for it to be looked up elsewhere."""
ORDERED = 4
"""Days before and after it whose order of size is its fingerprint: 9! = 362,880 of them."""
ROUNDING = 0.05
"""Difference of two moves, as a share of the ticker's mean move, below which they may be equal but for rounding."""
SAME = 0.8
"""Share of days, between the first and the last fingerprint that two series share, with equal moves, from which they
are one. No two clean tickers share three fingerprints; the indices share two, and .10 of the moves between them."""
FEWEST_PRINTS, FEWEST_DAYS = 3, 60
"""Fingerprints and days that copies share at least."""
LAGS = (-2, -1, 1, 2)
NEARLY, LATER = 0.99, 0.9
"""Correlation of two tickers' returns from which they are nearly one, and from which one knows the other's next days.
Clean: at most .90 on the same day, .06 on others; a copy at a quarter of the price, rounded to cents, .999."""
MISDATED, AHEAD = 0.2, 0.1
"""Mean correlation of a ticker with the others a day or two apart from which it may be misdated, if it is by this much
above that of the same day. Clean: at most .01 a day or two apart, where it is .36 to .90 on the same day; dates of one
ticker moved by a day .48."""


def find_copies(series: Series) -> Iterator[str]:
    """Warnings of tickers that are one series on the same days, but for a factor.

    Raises:
        InputError: for a series that is another's, or its own, on other days.
    """
    time, name = series.frame["time"], series.tickers[series.code]
    same: dict[tuple[str, str], int] = {}
    for stretch in copies(series["return"], series.code).itertuples():
        (first, second), days = (stretch.first, stretch.second), stretch.days
        if time[first] == time[second]:
            pair = name[first], name[second]
            same[pair] = same.get(pair, 0) + days
            continue
        raise InputError(
            f"{name[second]} from {time[second]:%Y-%m-%d} on: expected prices that are nowhere else in the data. "
            f"Received: the moves of {name[first]} from {time[first]:%Y-%m-%d} on, for {days:,} days, so that one "
            "gives the next days of the other away; leave one out."
        )
    for (first, second), days in same.items():
        yield (
            f"{first} and {second} move alike on {days:,} days or more, as one series under two names, which then "
            "counts twice: leave one out."
        )


def copies(returns: np.ndarray, code: np.ndarray) -> pd.DataFrame:
    """Stretches of days on which two series move alike, whatever their price levels and dates.

    A fingerprint is the order of size of the returns around a ticker's largest moves: it is the same for a multiple of
    a price, and needs no common dates. Where two series share some at one distance, their returns are compared.

    Args:
        returns: by ticker and time, NaN on each ticker's first day.
        code: number of the ticker.

    Returns:
        One row a stretch: `first` and `second`, the positions where it begins, the lower one first, and `days`.
    """
    place, prints = _fingerprints(returns, code)
    order = np.argsort(prints, kind="stable")
    place, prints = place[order], prints[order]
    pairs, step = [np.empty((0, 2), np.int64)], 1
    while step < len(prints) and (equal := prints[step:] == prints[:-step]).any():
        pairs.append(np.stack([place[:-step][equal], place[step:][equal]], axis=1))
        step += 1
    lower, upper = np.sort(np.concatenate(pairs), axis=1).T
    shared = pd.DataFrame({"a": code[lower], "b": code[upper], "distance": upper - lower, "place": lower})
    spans = shared.groupby(["a", "b", "distance"])["place"].agg(["size", "min", "max"]).reset_index()
    scale = pd.Series(np.abs(returns)).groupby(code).mean().to_numpy()
    found = []
    for span in spans[spans["size"] >= FEWEST_PRINTS].itertuples():
        rows = np.arange(span.min - ORDERED, span.max + ORDERED + 1)
        alike = np.abs(returns[rows] - returns[rows + span.distance]) < ROUNDING * scale[span.a]
        if len(rows) >= FEWEST_DAYS and alike.mean() >= SAME:
            found.append((rows[0], rows[0] + span.distance, len(rows)))
    return pd.DataFrame(found, columns=["first", "second", "days"])


def _fingerprints(returns: np.ndarray, code: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of each ticker's largest moves and the order of the returns around them as one number, int64 each."""
    size = np.abs(np.nan_to_num(returns))
    peak = np.flatnonzero((size > 0) & (size == maximum_filter1d(size, 2 * AROUND + 1)))
    peak = peak[(peak >= AROUND) & (peak < len(code) - AROUND)]
    peak = peak[code[peak - AROUND] == code[peak + AROUND]]
    around = returns[peak[:, None] + np.arange(-ORDERED, ORDERED + 1)]
    rank = np.argsort(around, axis=1)
    distinct = (np.diff(np.take_along_axis(around, rank, axis=1), axis=1) > 0).all(axis=1)  # else the order is chance
    return peak[distinct], (rank @ 10 ** np.arange(rank.shape[1]))[distinct]


def compare_days(series: Series) -> Iterator[str]:
    """Warnings of tickers that are nearly one, and of those that move with the others of another day.

    Raises:
        InputError: for a ticker whose returns are nearly those of another on later days.
    """
    table = _table(series)
    names, known = series.tickers, (table != 0).astype(np.float32)
    means = {}
    for lag in (0, *LAGS):
        early, late = table[max(-lag, 0) : len(table) - max(lag, 0)], table[max(lag, 0) : len(table) - max(-lag, 0)]
        correlation = early.T @ late  # of one ticker with another, `lag` days later
        np.fill_diagonal(correlation, 0)
        means[lag] = correlation.sum(axis=1) / max(len(names) - 1, 1)
        for first, second in np.argwhere(correlation > (LATER if lag else NEARLY)):
            if known[:, first] @ known[:, second] < FEWEST_DAYS or (lag == 0 and first > second):
                continue
            value = f"{correlation[first, second]:.3f}"
            if lag:
                raise InputError(
                    f"{names[first]}: expected returns that do not give the next days of another ticker away. "
                    f"Received: a correlation of {value} with those of {names[second]} {_apart(lag)}; correct the "
                    "dates of one, or leave it out."
                )
            yield (
                f"Returns of {names[first]} and {names[second]} have a correlation of {value}, as of one series under "
                "two names, which then counts twice: leave one out."
            )
    yield from _misdated(means, names)


def _misdated(means: dict[int, np.ndarray], names: pd.Index) -> Iterator[str]:
    values = np.stack([means[lag] for lag in LAGS])
    for ticker, best in enumerate(values.argmax(axis=0)):
        then, same = values[best, ticker], means[0][ticker]
        if then > MISDATED and then - same > AHEAD:
            yield (
                f"Returns of {names[ticker]} go with those of the other tickers {_apart(LAGS[best])} (mean correlation "
                f"{then:.2f}) rather than of the same day ({same:.2f}): correct its dates, unless its exchange closes "
                "at another time of the day."
            )


def _apart(lag: int) -> str:
    return f"{abs(lag)} day{'s'[: abs(lag) > 1]} {'later' if lag > 0 else 'before'}"


def _table(series: Series) -> np.ndarray:
    """Returns by day and ticker, 0 where unknown, of norm 1; beyond three deviations they count as these. float32."""
    returns, (days, day) = series["return"], np.unique(series.frame["time"], return_inverse=True)
    known = np.isfinite(returns)
    table = np.zeros((len(days), len(series.tickers)), np.float32)
    table[day[known], series.code[known]] = returns[known]
    count = np.maximum((table != 0).sum(axis=0), 1)
    deviation = np.sqrt((table**2).sum(axis=0) / count)
    table = np.clip(np.divide(table, deviation, out=np.zeros_like(table), where=deviation > 0), -3, 3)
    norm = np.linalg.norm(table, axis=0)
    return np.divide(table, norm, out=np.zeros_like(table), where=norm > 0)
