"""Baselines, the gates' test, the sentences of the verdict, and what a reviewer sees of the forecasts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipelines.core.data.arrays import Part
from pipelines.core.evaluation.bootstrap import Bootstrap, Interval, bootstrap
from pipelines.core.evaluation.metrics import Measures, Metric, mean_of, ratio_of_sums
from pipelines.core.evaluation.promises import promised, share
from pipelines.core.report import figures
from pipelines.core.tasks import forecasting
from pipelines.core.tasks.forecasting import Panel
from pipelines.stocks import trading
from pipelines.stocks.baselines import baselines, historical_quantiles
from pipelines.stocks.features import HAR, HAR_POOLED, HORIZONS, YEAR
from pipelines.stocks.model import LEVELS, MEDIAN
from pipelines.stocks.task import COVERAGES, H, by_horizon, return_quantiles

if TYPE_CHECKING:
    from pipelines.core.training.trial import Outcome

__all__ = ["baselines", "deficit", "remarks", "report"]

CERTAIN = 0.98
"""Two-sided level of the gates' intervals: a deficit that is below 0 is so at one-sided p < .01."""
STORMY = 0.2
"""Share of days that count as stormy: those with HAR's highest forecasts. Days must not be chosen by their observed
variance, or forecasts of extremes would win (Lerch et al. 2017, "Forecaster's dilemma")."""
AGAINST = ("constant", "har", "har_market", "har_pooled", "garch", "trees")
MISSED = 0.25
"""Share by which returns outside of an interval may exceed what is promised."""
SHOWN = 126  # days of the fan chart, half a year
MOST = 40  # tickers in a figure


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
    """Sentences for the verdict on what could be forecast and what could not."""
    panel, certain = losses(outcome), (1 - CERTAIN) / 2
    better = [all(panel.test("network", name, k).p < certain for name in ("constant", "har")) for k in range(H)]
    rivals = [name for name in panel.losses if name != "constant"]
    # Of so many models one beats the mean by chance: each gets its share of the level (Bonferroni).
    flat = [min(panel.test(name, "constant", k).p for name in rivals) > certain / len(rivals) for k in range(H)]
    sentences = []
    if all(flat):
        sentences.append("**Nothing could be forecast:** no model beats each ticker's mean variance at any horizon.")
    elif not any(panel.test("network", "constant", k).p < certain for k in range(H)):
        sentences.append("**Nothing could be forecast by the network:** it never beats each ticker's mean variance.")
    else:
        if any(flat):
            sentences.append(f"No model beats each ticker's mean variance over {_horizons(flat)}.")
        if any(better):
            sentences.append(f"Volatility over {_horizons(better)} is forecast better than by the mean and by HAR.")
        if not all(better):
            others = _horizons([not is_better for is_better in better])
            sentences.append(f"Over {others} the network is not shown to beat both the mean and HAR.")
    if not any(ahead.low > 0 for ahead in direction(outcome)["more than always up"]):
        sentences.append("The direction of returns could not be forecast better than by always saying up.")
    return [" ".join(sentences), trading.words(outcome)]


def _days(horizon: int) -> str:
    return f"{horizon} day{'s'[: horizon > 1]}"


def _horizons(which: Sequence[bool]) -> str:
    """The horizons of which it is true, in words: 1, 5 and 21 days."""
    *first, last = [h for h, wanted in zip(HORIZONS, which, strict=True) if wanted]
    return (f"{', '.join(map(str, first))} and " if first else "") + _days(last)


# --------------------------------------------------------------------------------------------------------- the report


def report(outcome: Outcome) -> Iterator[tuple[str, Any]]:
    """Figures, tables and numbers in reading order; see `Outcome`.

    Without training days the baselines of return forecasts and the trading check, which learn from them, are left out.
    """
    panel = losses(outcome)
    yield "loss relative to the baselines", against(outcome, panel)
    table, intervals = by_ticker(outcome, panel)
    overall = outcome.resampled.values["network", "qlike_ratio_har_1d"]
    shown = dict(list(intervals.items())[:MOST])
    yield "loss by ticker", figures.slices(shown, overall, "QLIKE ratio to HAR, 1 day,")
    yield "loss of each ticker", table
    yield "forecast and realised volatility", _realised(outcome)

    quantiles = quantile_forecasts(outcome)
    scored = returns(outcome, quantiles)
    for row in scored[scored["model"] == "network"].to_dict("records"):
        yield f"pinball_{row['horizon']}d", row["pinball, %"] / 100
        if "CRPS skill" in row:
            yield f"crps_skill_{row['horizon']}d", row["CRPS skill"].value
        for coverage in COVERAGES:
            yield f"coverage_{100 * coverage:.0f}_{row['horizon']}d", row[f"within {coverage:.0%}"]
    yield from _coverage(outcome, quantiles["network"])
    yield "forecasts of returns", scored
    yield "probability integral transform", _transform(outcome, quantiles["network"])
    yield "fan chart", _fan(outcome)
    yield "direction", direction(outcome)
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
    ratios = [f"ratio to HAR, {_days(h)}" for h in HORIZONS]
    table = pd.DataFrame(rows, columns=["ticker", "days", *ratios, "p, 1 day, network better"])
    ranked = dict(sorted(intervals.items(), key=lambda item: item[1].value))
    return table.sort_values(ratios[0], ignore_index=True), ranked


def quantile_forecasts(outcome: Outcome) -> dict[str, np.ndarray]:
    """Return quantiles (rows, 3, 7) of the headline rows: the network's and two baselines'.

    `historical` are those of each ticker's training returns; `har_pooled` those of all standardised training
    returns times the volatility that the pooled linear model forecasts (filtered historical simulation).
    """
    train, part = outcome.parts["train"], outcome.headline
    own = {"network": return_quantiles(outcome.headline_scores)}
    if not len(train):
        return own

    def scale(of: Part) -> np.ndarray:
        return np.exp(of.inputs["har"][of.rows][:, HAR_POOLED].astype(np.float64) / 2) * np.sqrt(HORIZONS)

    standard = np.quantile(train.labels[:, H:] / scale(train), LEVELS, axis=0).T
    return own | {
        "historical": historical_quantiles(train, LEVELS)(part),
        "har_pooled": standard * scale(part)[..., None],
    }


def returns(outcome: Outcome, models: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Scores of each model's quantiles of returns by horizon, losses in percent of the price.

    The CRPS skill is 1 minus the ratio to the historical quantiles' score.
    """
    observed = outcome.headline.labels[:, H:]
    scores = {name: forecasting.crps(observed, quantiles, LEVELS) for name, quantiles in models.items()}
    skills = None
    if "historical" in scores:
        reference = by_horizon("historical", scores["historical"])
        measures = {name: by_horizon("crps", values) | reference for name, values in scores.items()}
        skills = _resampled(outcome, {f"{h}d": _skill(f"crps_{h}d", f"historical_{h}d") for h in HORIZONS}, measures)
    rows = []
    for place, h in enumerate(HORIZONS):
        for name, quantiles in models.items():
            values, forecast = observed[:, place], quantiles[:, place]
            row: dict[str, Any] = {
                "horizon": h,
                "model": name,
                "pinball, %": 100 * forecasting.pinball(values, forecast, LEVELS).mean(),
                "CRPS, %": 100 * scores[name][:, place].mean(),
            }
            if skills:
                row["CRPS skill"] = skills.interval(name, f"{h}d")
            for coverage in COVERAGES:
                row[f"within {coverage:.0%}"] = forecasting.inside(values, forecast, LEVELS, coverage).mean()
            rows.append(row)
    return pd.DataFrame(rows)


def _coverage(outcome: Outcome, quantiles: np.ndarray) -> Iterator[tuple[str, Any]]:
    """Promises: shares of returns within the intervals of each horizon."""
    part = outcome.headline
    observed, clusters, every = part.labels[:, H:], outcome.splits.clusters_of(part), np.ones(len(part), bool)
    for place, h in enumerate(HORIZONS):
        for coverage in COVERAGES:
            hits = forecasting.inside(observed[:, place], quantiles[:, place], LEVELS, coverage)
            yield from promised(
                f"returns over {_days(h)} within the {coverage:.0%} interval",
                coverage,
                share(hits, every, part.weights, clusters),
                at_most=False,
                tolerance=MISSED * (1 - coverage),
                remedy="Returns were wilder than in the validation year: take wider intervals, or train on newer days.",
            )


def _skill(loss: str, reference: str) -> Metric:
    """1 minus the ratio of two summed losses."""
    ratio_of = ratio_of_sums(loss, reference)

    def metric(measures: Measures) -> Any:
        ratio = ratio_of(measures)
        return lambda weights: 1 - ratio(weights)

    return metric


def direction(outcome: Outcome) -> pd.DataFrame:
    """Share of returns whose sign the network's median has, beside always up."""
    ups = outcome.headline.labels[:, H:] > 0
    medians = return_quantiles(outcome.headline_scores)[..., MEDIAN] > 0
    hits = {"network": by_horizon("hit", medians == ups), "up": by_horizon("hit", ups)}
    rates = _resampled(outcome, {f"{h}d": mean_of(f"hit_{h}d") for h in HORIZONS}, hits)
    rows = []
    for h in HORIZONS:
        own, up = rates.interval("network", f"{h}d"), rates.interval("up", f"{h}d")
        rows.append((h, own, up, rates.difference("network", "up", f"{h}d")))
    return pd.DataFrame(rows, columns=["horizon", "hit rate", "always up", "more than always up"])


def _resampled(outcome: Outcome, metrics: Mapping[str, Metric], models: Mapping[str, Measures]) -> Bootstrap:
    """The metrics of each model's measures on the headline rows, over resampled blocks of days."""
    part = outcome.headline
    return bootstrap(metrics, models, part.weights, outcome.splits.clusters_of(part))


def _realised(outcome: Outcome) -> Figure:
    """Forecast and realised volatility over five days, from the mean variance of each day's tickers."""
    part, place = outcome.headline, HORIZONS.index(5)
    variance = {"realised": part.labels[:, place], "network": outcome.headline_scores[:, place]}
    daily = pd.DataFrame(variance).groupby(part.frame["time"].to_numpy()).mean()
    return figures.lines(100 * np.sqrt(YEAR * daily), "Volatility of the next 5 days, all tickers", "% a year")


def _transform(outcome: Outcome, quantiles: np.ndarray) -> Figure:
    """Share of returns between neighbouring quantiles, over the expected share."""
    values = outcome.headline.labels[:, H:]
    ratios = {_days(h): forecasting.transform(values[:, k], quantiles[:, k], LEVELS) for k, h in enumerate(HORIZONS)}
    title = "Forecast probability of returns up to the observed one: a flat histogram is calibrated"
    return figures.histograms(ratios, [0, *LEVELS, 1], title, "forecast probability", "observed / expected")


def _fan(outcome: Outcome) -> Figure:
    """Five-day returns of the first ticker in the last half year, with their forecast intervals."""
    part, place = outcome.headline, HORIZONS.index(5)
    ticker = part.frame["ticker"].iloc[0]
    rows = np.flatnonzero(part.frame["ticker"] == ticker)[-SHOWN:]
    quantiles = 100 * return_quantiles(outcome.headline_scores)[rows, place]
    returns = pd.Series(100 * part.labels[rows, H + place], index=pd.DatetimeIndex(part.frame["time"].iloc[rows]))
    bands = {f"{COVERAGES[1]:.0%}": quantiles[:, [0, -1]], f"{COVERAGES[0]:.0%}": quantiles[:, [1, -2]]}
    title = f"{ticker}: return over the 5 days after each close, with its forecast"
    return figures.fan(returns, quantiles[:, MEDIAN], bands, title, "log return, %")
