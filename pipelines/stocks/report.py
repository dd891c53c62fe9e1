"""The gates' test, the sentences of the verdict, and what a reviewer sees of the forecasts of volatility."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipelines.core.evaluation.bootstrap import Interval
from pipelines.core.report import figures
from pipelines.core.report.items import Item
from pipelines.core.report.names import minus
from pipelines.core.tasks import forecasting
from pipelines.core.tasks.forecasting import Panel
from pipelines.stocks import returns, trading
from pipelines.stocks.baselines import baselines
from pipelines.stocks.features import HAR, HORIZONS, YEAR
from pipelines.stocks.returns import in_days
from pipelines.stocks.task import H

if TYPE_CHECKING:
    from pipelines.core.training.trial import Outcome

__all__ = ["baselines", "deficit", "remarks", "report"]

CERTAIN = 0.98
"""Two-sided level of the gates' intervals: a deficit that is below 0 is so at one-sided p < .01."""
STORMY = 0.2
"""Share of days that count as stormy: those with HAR's highest forecasts. Days must not be chosen by their observed
variance, or forecasts of extremes would win (Lerch et al. 2017, "Forecaster's dilemma")."""
AGAINST = ("constant", "har", "har_market", "har_pooled", "garch", "trees")
MOST = 40  # tickers in a figure
AGAINST_WORDS = (
    "The network's loss minus each model's, in percent of the latter: below 0 it is better. Look at the stormy days, "
    "when forecasts matter most; p is small where the lead is no chance (Diebold-Mariano)."
)
TICKERS = (
    "Each ticker's loss as a ratio to that of HAR, with 95 % intervals: left of 1 the network is better. Look for "
    "tickers that stand apart from the rest: their prices may be faulty."
)
TICKER_TABLE = (
    "The same ratios for each horizon, below 1 where the network is better than HAR; p is small where the lead over "
    "the next day is no chance."
)
REALISED = (
    "The forecast should rise and fall with what came about. Look whether it follows a jump only after it has "
    "happened, and whether it stays too low in calm or in restless years."
)


# -------------------------------------------------------------------------------------------------------- the verdict


def deficit(outcome: Outcome, than: str, level: float) -> Interval:
    """How far one-day QLIKE is above that of a baseline, in parts of HAR's, with its interval of that level.

    A Diebold-Mariano test over the panel's days: it is of daily means over the tickers, since these move together. A
    bootstrap of 21-day blocks would have some fifty blocks, too few for the tail of 1 %.
    """
    panel = losses(outcome)
    return panel.test("network", than, 0).interval(level, unit=panel.mean("har", 0))


def losses(outcome: Outcome) -> Panel:
    """QLIKE of every model, and always of HAR, on the headline rows of test, (rows, 3) each."""

    def panel(measures: Mapping[str, np.ndarray], name: str) -> np.ndarray:
        return np.stack([measures[f"{name}_{h}d"][outcome.counted] for h in HORIZONS], axis=1)

    by_model = {model: panel(scored.measures, "qlike") for model, scored in outcome.models.items()}
    har = panel(outcome.models["network"].measures, "har_qlike")
    by_model = {"network": by_model["network"], "har": har} | by_model
    return Panel(by_model, outcome.headline.frame["time"].to_numpy(), HORIZONS)


def remarks(outcome: Outcome) -> list[str]:
    """Sentences for the verdict: how good the forecasts are, what could be forecast, and what the trading check is."""
    panel, certain = losses(outcome), (1 - CERTAIN) / 2
    better = [all(panel.test("network", name, k).p < certain for name in ("constant", "har")) for k in range(H)]
    rivals = [name for name in panel.losses if name != "constant"]
    # Of so many models one beats the mean by chance: each gets its share of the level (Bonferroni).
    flat = [min(panel.test(name, "constant", k).p for name in rivals) > certain / len(rivals) for k in range(H)]
    sentences = [_against_har(outcome), returns.coverage(outcome)]
    if all(flat):
        nothing = "**Nothing could be forecast:** no model is better than each ticker's mean variance at any horizon."
        sentences.insert(0, nothing)
    elif not any(panel.test("network", "constant", k).p < certain for k in range(H)):
        nothing = "**Nothing could be forecast by the network:** it is never better than each ticker's mean variance."
        sentences.insert(0, nothing)
    else:
        if any(flat):
            sentences.append(f"No model is better than each ticker's mean variance over {_horizons(flat)}.")
        if any(better):
            sentences.append(f"Volatility over {_horizons(better)} is forecast better than by the mean and by HAR.")
        if not all(better):
            others = _horizons([not is_better for is_better in better])
            sentences.append(f"Over {others} the network is not shown to be better than both the mean and HAR.")
    if not any(ahead.low > 0 for ahead in returns.direction(outcome)["more than always up"]):
        sentences.append("Whether prices rise or fall could not be forecast better than by always saying up.")
    return [" ".join(sentences), trading.words(outcome)]


def _against_har(outcome: Outcome) -> str:
    """How much lower the loss is than HAR's at each horizon, in a sentence."""
    said = []
    for h in HORIZONS:
        ratio = outcome.resampled.interval("network", f"qlike_ratio_har_{h}d")
        # The lower the ratio, the further ahead: the ends change places.
        value, low, high = (100 * (1 - end) for end in (ratio.value, ratio.high, ratio.low))
        word = "better" if value > 0 else "worse"
        said.append(f"{abs(value):.0f} % {word} over {in_days(h)} ({low:.0f} to {high:.0f})")
    return minus(
        f"Against HAR, volatility is forecast {', '.join(said)}; in brackets 95 % intervals of how much better."
    )


def _horizons(which: Sequence[bool]) -> str:
    """The horizons of which it is true, in words: 1, 5 and 21 days."""
    *first, last = [h for h, wanted in zip(HORIZONS, which, strict=True) if wanted]
    return (f"{', '.join(map(str, first))} and " if first else "") + in_days(last)


# --------------------------------------------------------------------------------------------------------- the report


def report(outcome: Outcome) -> Iterator[Item]:
    """Figures, tables and numbers in reading order; see `Outcome`.

    Without training days the baselines of return forecasts and the trading check, which learn from them, are left out.
    """
    panel = losses(outcome)
    yield Item("forecast and realised volatility", _realised(outcome), REALISED)
    yield Item("loss relative to the baselines", against(outcome, panel), AGAINST_WORDS)
    table, intervals = by_ticker(outcome, panel)
    overall = outcome.resampled.values["network", "qlike_ratio_har_1d"]
    shown = dict(list(intervals.items())[:MOST])
    yield Item("loss by ticker", figures.slices(shown, overall, "QLIKE ratio to HAR, 1 day,"), TICKERS)
    yield Item("loss of each ticker", table, TICKER_TABLE)
    yield from returns.items(outcome)
    if len(outcome.parts["train"]):
        yield from trading.check(outcome)


def against(outcome: Outcome, panel: Panel) -> pd.DataFrame:
    """The network's loss minus each baseline's in percent of the latter, with one-sided p of Diebold-Mariano tests.

    On all days, on calm and on stormy ones, see STORMY.
    """
    part = outcome.headline
    level = panel.over_time(part.inputs["har"][part.rows][:, HAR.start])
    stormy = level >= np.quantile(level, 1 - STORMY)
    rows = []
    for name in (name for name in AGAINST if name in panel.losses):
        for place, h in enumerate(HORIZONS):
            row: dict[str, Any] = {"against": name, "horizon": h}
            for days, kept in {"all days": None, "calm": ~stormy, "stormy": stormy}.items():
                tested = panel.test("network", name, place, kept)
                row[f"{days}, %"] = 100 * tested.mean / panel.mean(name, place, kept)
                row[f"p, {days}"] = tested.p
            rows.append(row)
    return pd.DataFrame(rows)


def by_ticker(outcome: Outcome, panel: Panel) -> tuple[pd.DataFrame, dict[str, Interval]]:
    """QLIKE of each ticker as a ratio to HAR's: a table with one-day tests, and the one-day ratios' intervals."""
    rows, intervals = [], {}
    for ticker, place in outcome.headline.frame.reset_index(drop=True).groupby("ticker").indices.items():
        own, har = panel.losses["network"][place], panel.losses["har"][place]
        tested = forecasting.diebold_mariano(own[:, 0] - har[:, 0], HORIZONS[0])
        rows.append((ticker, len(place), *(own.mean(axis=0) / har.mean(axis=0)), tested.p))
        ahead = tested.interval(0.95, unit=har[:, 0].mean())
        intervals[ticker] = Interval(1 + ahead.value, 1 + ahead.low, 1 + ahead.high)
    ratios = [f"ratio to HAR, {in_days(h)}" for h in HORIZONS]
    table = pd.DataFrame(rows, columns=["ticker", "days", *ratios, "p, 1 day, network better"])
    ranked = dict(sorted(intervals.items(), key=lambda item: item[1].value))
    return table.sort_values(ratios[0], ignore_index=True), ranked


def _realised(outcome: Outcome) -> Figure:
    """Forecast and realised volatility over five days, from the mean variance of each day's tickers."""
    part, place = outcome.headline, HORIZONS.index(5)
    variance = {"realised": part.labels[:, place], "network": outcome.headline_scores[:, place]}
    daily = pd.DataFrame(variance).groupby(part.frame["time"].to_numpy()).mean()
    return figures.lines(100 * np.sqrt(YEAR * daily), "Volatility of the next 5 days, all tickers", "% a year")
