"""Evaluation of the forecast returns: quantile scores, coverage, direction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipelines.core.data.arrays import Part
from pipelines.core.evaluation.bootstrap import Bootstrap, bootstrap
from pipelines.core.evaluation.metrics import Measures, Metric, mean_of, ratio_of_sums
from pipelines.core.evaluation.promises import Promise, promised, share
from pipelines.core.report import figures
from pipelines.core.report.items import Item
from pipelines.core.tasks import forecasting
from pipelines.stocks.baselines import historical_quantiles
from pipelines.stocks.features import HAR_POOLED, HORIZONS
from pipelines.stocks.model import LEVELS, MEDIAN
from pipelines.stocks.task import COVERAGES, H, by_horizon, return_quantiles

if TYPE_CHECKING:
    from pipelines.core.training.trial import Outcome

MISSED = 0.25
"""Share by which returns outside of an interval may exceed what is promised."""
SHOWN = 126  # days of the fan chart, half a year
SCORES = (
    "Forecasts of the return over each horizon. Pinball and CRPS are losses, lower is better; skill above 0 is better "
    "than the returns of the past; the last columns should be near the share in their head."
)
TRANSFORM = (
    "Where the observed returns fell within their forecasts. Bars at the dashed line are calibrated; high bars at both "
    "ends mean that the intervals are too narrow, a slope that the forecasts lean to one side."
)
FAN = (
    "Dots are returns, bands their forecast made at the close. About one dot in five should lie outside the darker "
    "band and one in twenty outside both; the bands should widen before restless weeks."
)
DIRECTION = (
    "How often the sign of the return was forecast, beside always saying up. Where the last column's interval holds 0, "
    "the direction could not be forecast."
)


def items(outcome: Outcome) -> Iterator[Item]:
    """Numbers, tables and figures of the forecast returns."""
    quantiles = quantile_forecasts(outcome)
    scored = scores(outcome, quantiles)
    for row in scored[scored["model"] == "network"].to_dict("records"):
        h = row["horizon"]
        yield Item(f"pinball_{h}d", row["pinball, %"] / 100, "loss of the forecast quantiles of returns")
        if "CRPS skill" in row:
            skill = row["CRPS skill"]
            for end, value in (("", skill.value), ("_low", skill.low), ("_high", skill.high)):
                yield Item(f"crps_skill_{h}d{end}", value, "above 0: better than the returns of the past")
        for coverage in COVERAGES:
            inside = row[f"within {coverage:.0%}"]
            what = f"share of returns in their {100 * coverage:.0f} % interval"
            yield Item(f"coverage_{100 * coverage:.0f}_{h}d", inside, what)
    yield from (Item(*promise) for promise in _promises(outcome, quantiles["network"]))
    yield Item("forecasts of returns", scored, SCORES)
    yield Item("probability integral transform", _transform(outcome, quantiles["network"]), TRANSFORM)
    yield Item("fan chart", _fan(outcome), FAN)
    yield Item("direction", direction(outcome), DIRECTION)


def _promises(outcome: Outcome, quantiles: np.ndarray) -> Iterator[tuple[str, Promise]]:
    """Shares of returns within the intervals of each horizon, as promises."""
    part = outcome.headline
    observed, clusters, every = part.labels[:, H:], outcome.splits.clusters_of(part), np.ones(len(part), bool)
    for place, h in enumerate(HORIZONS):
        for wanted in COVERAGES:
            hits = forecasting.inside(observed[:, place], quantiles[:, place], LEVELS, wanted)
            yield from promised(
                f"returns over {in_days(h)} within the {wanted:.0%} interval",
                wanted,
                share(hits, every, part.weights, clusters),
                at_most=False,
                tolerance=MISSED * (1 - wanted),
                remedy="Returns were wilder than in the validation year: take wider intervals, or train on newer days.",
            )


def coverage(outcome: Outcome) -> str:
    """How often the returns fell into their intervals, in a sentence."""
    observed, quantiles = outcome.headline.labels[:, H:], return_quantiles(outcome.headline_scores)
    said = []
    for wanted in COVERAGES:
        shares = [forecasting.inside(observed[:, k], quantiles[:, k], LEVELS, wanted).mean() for k in range(H)]
        inside = ", ".join(f"{100 * share:.0f}" for share in shares)
        said.append(f"{inside} % fell into the {100 * wanted:.0f} % intervals")
    *first, last = [str(h) for h in HORIZONS]
    return f"Of the returns over {', '.join(first)} and {last} days, {' and '.join(said)}."


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


def scores(outcome: Outcome, models: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Scores of each model's quantiles of returns by horizon, losses in percent of the price.

    The CRPS skill is 1 minus the ratio to the historical quantiles' score.
    """
    observed = outcome.headline.labels[:, H:]
    crps = {name: forecasting.crps(observed, quantiles, LEVELS) for name, quantiles in models.items()}
    skills = None
    if "historical" in crps:
        reference = by_horizon("historical", crps["historical"])
        measures = {name: by_horizon("crps", values) | reference for name, values in crps.items()}
        skills = _resampled(outcome, {f"{h}d": _skill(f"crps_{h}d", f"historical_{h}d") for h in HORIZONS}, measures)
    rows = []
    for place, h in enumerate(HORIZONS):
        for name, quantiles in models.items():
            values, forecast = observed[:, place], quantiles[:, place]
            row: dict[str, Any] = {
                "horizon": h,
                "model": name,
                "pinball, %": 100 * forecasting.pinball(values, forecast, LEVELS).mean(),
                "CRPS, %": 100 * crps[name][:, place].mean(),
            }
            if skills:
                row["CRPS skill"] = skills.interval(name, f"{h}d")
            for coverage in COVERAGES:
                row[f"within {coverage:.0%}"] = forecasting.inside(values, forecast, LEVELS, coverage).mean()
            rows.append(row)
    return pd.DataFrame(rows)


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


def _transform(outcome: Outcome, quantiles: np.ndarray) -> Figure:
    """Share of returns between neighbouring quantiles, over the expected share."""
    values = outcome.headline.labels[:, H:]
    ratios = {in_days(h): forecasting.transform(values[:, k], quantiles[:, k], LEVELS) for k, h in enumerate(HORIZONS)}
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


def in_days(horizon: int) -> str:
    """A horizon in words."""
    return f"{horizon} day{'s'[: horizon > 1]}"
