"""Checks of prices before training: series that no exchange made, days it was closed, columns that know another day.

Each check is a figure of every ticker with two limits: beyond one it is a warning, beyond the other the figures of a
run would be worthless. Limits lie between clean prices and broken ones. "Clean" says the range over the 31 tickers of
Dow Jones 2006 to 2017, two indices 1999 to 2018 and random walks; "broken" that over ten of these tickers, the indices,
random walks and simulated prices of clustering volatility, with the fault planted in them. Ticks of cheap shares and
days of few trades make some figures large by chance: these checks leave such tickers out, see `series.COARSE`.

All rows are looked at, since nothing found here feeds a network or a baseline; and once more those of the test period,
in which alone a fault may be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pipelines.core.contract import InputError
from pipelines.core.data.splits import Splits
from pipelines.stocks.inspection import series as of
from pipelines.stocks.inspection import twins
from pipelines.stocks.inspection.series import Series

if TYPE_CHECKING:
    from pipelines.core.data.dataset import Dataset

REFUSED = 0.1
"""Share of the ticker-days, in tickers beyond the second limit, from which the data are refused; below, they are named
in a warning."""
NAMED = 5
"""Tickers that a message names."""
LONGEST_GAP = 90
"""Days without any price from which the dates before or after them may be mistaken."""
NEVER = np.inf


@dataclass(frozen=True)
class Check:
    """A figure of each ticker, its limits, and what is said of the tickers beyond them.

    Attributes:
        figure: a value for each ticker, or for each day, whose mean is the ticker's.
        warn, refuse: the limits.
        seen: what a figure beyond them means.
        advice: how to go on.
        form: of the figure in a message.
        needs: a column without which there is no figure.
        fine: whether tickers with few possible prices are left out.
        fewest: days that the figure of a ticker takes, if it is a mean.
    """

    figure: Callable[[Series], np.ndarray]
    warn: float
    refuse: float
    seen: str
    advice: str
    form: str = "{:.1%} of days"
    needs: str = "close"
    fine: bool = False
    fewest: int = of.FEWEST


REPLACE = "replace these tickers or leave them out"
ALIGN = "put the columns on their own days"
TRADED = "leave out the days without trade, on which a source repeats the price before"
CHECKS = (
    # Weekly prices 7, monthly 30 or 31.
    Check(of.spacing, 5, 5, "prices are not daily", "use daily prices", "every {:.0f} days"),
    # Clean 0 to .001.
    Check(of.left_out, 0.2, NEVER, "rows lack a price above 0 and are left out", REPLACE, "{:.1%} of rows"),
    # Simulated prices of every day of the week 0 to .08; broken 1.
    Check(of.still_weekends, 0.85, 0.9, "prices stand still on Saturdays and Sundays", TRADED, "{:.0%} calmer"),
    # Simulated 0 to .08; broken 1.
    Check(
        of.holidays,
        0.5,
        NEVER,
        "prices stand still on 1 January and 25 December",
        TRADED,
        "{:.0%} of these days",
        fine=True,
        fewest=3,
    ),
    # Clean 0; broken (days and months exchanged) .3.
    Check(
        of.stray_weekends,
        0.03,
        NEVER,
        "some prices are of Saturdays or Sundays, but few",
        "see whether days and months of dates were exchanged, or leave these days out",
        "{:.0%} of other days",
    ),
    # Clean 0 to .004; broken (a column of another day) .10 to .71.
    Check(of.repaired, 0.02, 0.08, "high and low do not hold open and close", ALIGN, needs="open"),
    # Clean 0; of closes alone 1.
    Check(
        of.flat_bars,
        0.02,
        0.1,
        "open, high, low and close are one price",
        "where only closes are known, leave out the columns open, high and low",
        needs="open",
        fine=True,
    ),
    # Clean 0.
    Check(of.repeated_bars, 0.005, 0.05, "all prices are those of the day before", TRADED, needs="open", fine=True),
    # Clean 0 to .019, simulated up to .08 of closes alone.
    Check(of.repeated_closes, 0.1, 0.25, "closes are those of the day before", TRADED, fine=True),
    # Clean .004 to .016, simulated up to .028; broken (5 % of days interpolated) .052 to .062.
    Check(
        of.straight_lines,
        0.045,
        0.1,
        "closes lie on straight lines, as if interpolated",
        "leave out the days without a price",
        fine=True,
    ),
    # Clean -1.05 to -.96; broken .97 to 1.09.
    Check(
        of.later_adjustment,
        -0.3,
        0,
        "the adjusted close moves as the close of the next day rather than of the same",
        ALIGN,
        "by {:.2f} in correlation",
        needs="adj_close",
    ),
    # Clean .001 to .047, simulated up to .07; broken (over two days or more) .40 to .60.
    Check(
        of.rolling_extremes,
        0.2,
        0.3,
        "highs or lows are those of the day before, as if taken over several days",
        "use the high and low of each day",
        needs="open",
        fine=True,
    ),
    # Clean 0 to .077; broken .29 to .67.
    Check(
        of.shifted_range,
        0.2,
        0.25,
        "high and low hold the open and close of the next day far more or less often than those of the day before",
        ALIGN,
        "by {:.0%} of days",
        needs="open",
    ),
    # Clean .07 to .44, simulated up to .97 where trades are few; broken (open of the next day) 1.05 to 1.44.
    Check(
        of.later_close,
        1.05,
        1.1,
        "the open is nearer to the close of the next day than to that of the day before",
        f"see whether days are in reverse order, or {ALIGN}",
        "by {:.2f} times",
        needs="open",
    ),
    # Clean .09 to .48, simulated up to .69; broken (close of the next day) 1.49 to 10.
    Check(
        of.earlier_close,
        1.05,
        1.15,
        "the open is nearer to the close of two days before than to that of the day before, as if closes were those of "
        "the next day",
        ALIGN,
        "by {:.2f} times",
        needs="open",
    ),
    # Clean 0, as on no ticker volume follows the next day's variance; broken .47 to 1.3.
    Check(
        of.later_volume,
        0.2,
        0.3,
        "volume changes with the variance of the next day rather than of the same",
        "put the volume on its own day, or leave it out",
        "by {:.2f} in correlation",
        needs="volume",
    ),
    # Clean .10 to .67, simulated up to 2.5 for prices that move at night; broken (days and months exchanged) 2.6 to
    # 4.1, days in no order 15 to 60.
    Check(
        of.nights,
        3,
        6,
        "moves from a close to the next open are far larger than those of a day, as if dates were mistaken",
        "see whether days and months were exchanged, or several series are under one name",
        "{:.1f} times",
        needs="open",
        fine=True,
    ),
    # Clean -.15 to .04; broken (means of two days) .44 to .52, of five .74 to .81, exponential .22 to .34.
    Check(
        of.autocorrelation,
        0.2,
        0.4,
        "returns go with those of the day before, as of smoothed or interpolated prices",
        "use prices as they were traded",
        "correlation {:.2f}",
    ),
    # The same with the other sign; broken (days in no order) .32 to .5.
    Check(
        lambda series: -of.autocorrelation(series),
        0.3,
        NEVER,
        "moves are undone the next day, as if dates were mistaken",
        "see whether several series are under one name, or days in no order",
        "correlation -{:.2f}",
        fine=True,
    ),
    # Clean 0 to .10, simulated up to .06; broken .33 to .69.
    Check(
        of.day_undone,
        0.25,
        0.5,
        "moves from open to close go with those of the next night, as if opens or closes were of another day",
        ALIGN,
        "correlation {:.2f}",
        needs="open",
        fine=True,
    ),
    # Clean 0 to .02, simulated up to .31 of six trades a day; broken 1.
    Check(
        of.made_up_bars,
        0.6,
        NEVER,
        "high and low are always open or close, as if made of closes",
        "leave out the columns open, high and low",
        needs="open",
    ),
)


def inspect(data: Dataset[Any], splits: Splits, facts: Any, settings: Any) -> Splits:
    """The splits, with a warning for each fault of the prices that is seen and does not spoil the figures.

    Raises:
        InputError: for prices on which figures would be worthless, with tickers, days and how to go on.
    """
    series = Series(data.records)
    test = Series(data.records[data.records["time"] >= data.records["time"].iloc[splits.test].min()])
    unnamed = np.ones(len(series.tickers), bool)
    warnings = [*_dates(series), *_judge(series, "Prices", unnamed)]
    warnings += _judge(test, "Prices of the test period", unnamed[series.tickers.get_indexer(test.tickers)])
    copied = list(twins.find_copies(series))
    warnings += copied or twins.compare_days(series)
    return replace(splits, warnings=(*splits.warnings, *warnings))


def _judge(series: Series, what: str, unnamed: np.ndarray) -> Iterator[str]:
    """Warnings of the checks, each ticker named once: by the first, since others often follow from the same fault.

    Args:
        series: some days of the tickers.
        what: they are called.
        unnamed: tickers that no warning names yet, bool (tickers,); changed in place.

    Raises:
        InputError: if tickers beyond a second limit have REFUSED of the days or more.
    """
    days = np.bincount(series.code)
    for check in CHECKS:
        if check.needs not in series.frame:
            continue
        values = check.figure(series)
        figures = series.mean(values, check.fewest) if len(values) == len(series.code) else values
        figures = np.where(np.isfinite(figures) & ~(check.fine & series.coarse), figures, -np.inf)
        worthless = figures > check.refuse
        if days[worthless].sum() >= REFUSED * days.sum():
            raise InputError(_sentence(series, check, what, values, figures, worthless))
        if (warned := (figures > check.warn) & unnamed).any():
            unnamed &= ~warned
            yield _sentence(series, check, what, values, figures, warned)


def _sentence(
    series: Series, check: Check, what: str, values: np.ndarray, figures: np.ndarray, tickers: np.ndarray
) -> str:
    """What is seen in these tickers, the worst first, and how to go on."""
    worst = np.flatnonzero(tickers)[np.argsort(-figures[tickers], kind="stable")]
    named = [f"{series.tickers[ticker]} ({check.form.format(figures[ticker])})" for ticker in worst[:NAMED]]
    if len(worst) > NAMED:
        named.append(f"{len(worst) - NAMED} more tickers")
    example = ""
    if len(values) == len(series.code):
        day = np.flatnonzero((series.code == worst[0]) & (values == 1))[0]
        example = f", such as on {series.frame['time'][day]:%Y-%m-%d}"
    return f"{what} of {', '.join(named)}: {check.seen}{example}; {check.advice}."


def _dates(series: Series) -> Iterator[str]:
    """Warnings of dates that lie apart from all others, or in the future."""
    days = np.unique(series.frame["time"].to_numpy())
    gaps = np.diff(days) / np.timedelta64(1, "D")
    widest = int(gaps.argmax())
    if gaps[widest] > max(LONGEST_GAP, 20 * np.median(gaps)):
        fewer = "before" if widest + 1 < len(days) / 2 else "after"
        yield (
            f"No ticker has a price between {days[widest]:.10} and {days[widest + 1]:.10}: see whether the dates "
            f"{fewer} that are mistaken, and leave them out if so."
        )
    future = series.frame["time"] > pd.Timestamp.now() + pd.Timedelta(days=2)  # it may be tomorrow elsewhere
    if future.any():
        row = series.frame[future].iloc[0]
        yield (
            f"{int(future.sum()):,} prices are of days to come, such as {row['ticker']} on {row['time']:%Y-%m-%d}: "
            "correct their dates or leave them out, unless prices are simulated."
        )
