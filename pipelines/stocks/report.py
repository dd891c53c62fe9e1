"""Metrics, calibration and decisions, and what a reviewer gets to see."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipelines.core.contract import Settings
from pipelines.core.data.arrays import Part
from pipelines.core.evaluation.bootstrap import Bootstrap, Interval, bootstrap
from pipelines.core.evaluation.metrics import Curried
from pipelines.core.report import figures
from pipelines.core.tasks import forecasting
from pipelines.core.tasks.forecasting import Panel
from pipelines.stocks import trading
from pipelines.stocks.baselines import baselines, historical_quantiles, qlike
from pipelines.stocks.features import HAR, HAR_POOLED, HORIZONS, MONTH
from pipelines.stocks.model import LEVELS, MEDIAN

if TYPE_CHECKING:
    from pipelines.core.training.trial import Outcome

__all__ = ["baselines", "calibrate", "decide", "deficit", "metrics", "remarks", "report", "scores"]

H = len(HORIZONS)
YEAR = 252  # trading days
CERTAIN = 0.98
"""Two-sided level of the gates' intervals: a deficit that is below 0 is so at one-sided p < .01."""
COVERAGES = (0.8, 0.95)
STORMY = 0.2
"""Share of days that count as stormy: those for which HAR forecasts most. What a day turns out to be must not choose
it, or forecasts of extremes would win (Lerch et al. 2017, "Forecaster's dilemma")."""
AGAINST = ("constant", "har", "har_market", "har_pooled", "garch", "trees")
SHOWN = 126  # days of the fan chart, half a year
MOST = 40  # tickers in a figure


# ---------------------------------------------------------------------------------------- scores, metrics, decisions


def scores(outputs: np.ndarray, facts: dict) -> np.ndarray:
    """What the network says, float64 (n, 3 + 3 * 7): mean daily variance over each horizon, then quantiles of returns.

    The quantiles are widened as learnt; a baseline's scores are the first three columns alone.
    """
    outputs = outputs.astype(np.float64)
    variance, quantiles = np.exp(outputs[:, :H] + facts["excess"]), _quantiles(outputs)
    centre = quantiles[..., MEDIAN, None]
    widened = centre + (quantiles - centre) * np.array(facts.get("widening", np.ones((H, 1))))
    return np.concatenate([variance, widened.reshape(len(outputs), -1)], axis=1)


def _quantiles(values: np.ndarray) -> np.ndarray:
    """Quantiles of returns in scores, (n, 3, 7)."""
    return values[:, H:].reshape(len(values), H, len(LEVELS))


def metrics(part: Part) -> dict[str, Curried]:
    """QLIKE for each horizon, pooled over ticker-days, as a ratio to that of HAR; reads the first three scores."""
    reference = _har(part)
    return {f"qlike_ratio_har_{h}d": partial(_ratio, reference, place) for place, h in enumerate(HORIZONS)}


def _ratio(reference: np.ndarray, place: int, labels: np.ndarray, scores: np.ndarray) -> Any:
    losses, of_har = (qlike(labels[:, place], values[:, place]) for values in (scores, reference))

    def ratio(weights: np.ndarray) -> float:
        return float(weights @ losses / (weights @ of_har))

    return ratio


def _har(part: Part) -> np.ndarray:
    """HAR's forecasts of the variance, float64 (rows, 3): the network carries its coefficients."""
    return np.exp(part.inputs["har"][part.rows][:, HAR].astype(np.float64))


def calibrate(outputs: np.ndarray, part: Part, settings: Settings) -> dict:
    """Learns `widening`, (3, 7): the distance of each quantile from the median is multiplied by it.

    It is never below 1: half a year holds few independent months, and a calm one must not narrow what is to hold in a
    storm. The level of the variance stays as it is, for the same reason: corrected on half a year, QLIKE over a month
    was 29 and 72 % worse in two earlier periods of the demo prices.
    """
    quantiles = _quantiles(outputs.astype(np.float64))
    return {"widening": forecasting.widening(part.labels[:, H:], quantiles, LEVELS, COVERAGES).tolist()}


def decide(outputs: np.ndarray, facts: dict, part: Part) -> pd.DataFrame:
    """What a user gets for each ticker-day of the part, at its close.

    Columns, for each horizon of h trading days: `volatility_hd`, a year's, from open to close, in the mean of these
    days; `return_hd_P`, which the log return over these days is below with a probability of P percent. `error` says
    why there is no forecast, else it is empty.
    """
    found = scores(outputs, facts)
    table = pd.DataFrame({f"volatility_{h}d": np.sqrt(YEAR * found[:, place]) for place, h in enumerate(HORIZONS)})
    quantiles = _quantiles(found)
    for place, h in enumerate(HORIZONS):
        for level, values in zip(LEVELS, quantiles[:, place].T, strict=True):
            table[f"return_{h}d_{100 * level:g}"] = values
    young = (part.frame["history"] < MONTH).to_numpy()
    table[young] = np.nan
    table["error"] = np.where(young, f"fewer than {MONTH} days of history before this one", "")
    return table


# -------------------------------------------------------------------------------------------------------- the verdict


def deficit(outcome: Outcome, than: str | float) -> Interval:
    """How far one-day QLIKE is above that of a baseline, in parts of HAR's, with a 98 % interval.

    A Diebold-Mariano test over the panel's days: the daily mean over the tickers is what repeats, for they move
    together. The bootstrap of 21-day blocks would ask the same with some fifty blocks, too few for the tail of 1 %.
    """
    panel = losses(outcome)
    return panel.test("network", str(than), 0).interval(CERTAIN, unit=panel.mean("har", 0))


def losses(outcome: Outcome) -> Panel:
    """QLIKE of every model on the headline rows of test, (rows, 3) of each."""
    part = outcome.headline
    models = {"network": outcome.headline_scores[:, :H], "har": _har(part)}
    models |= {name: values[outcome.counted] for name, values in outcome.baselines.items()}
    found = {name: qlike(part.labels[:, :H], forecast) for name, forecast in models.items()}
    return Panel(found, part.frame["time"].to_numpy(), HORIZONS)


def remarks(outcome: Outcome) -> list[str]:
    """What could be forecast, and what could not, in sentences for the verdict."""
    panel, certain = losses(outcome), (1 - CERTAIN) / 2
    better = [all(panel.test("network", name, k).p < certain for name in ("constant", "har")) for k in range(H)]
    rivals = [name for name in panel.losses if name != "constant"]
    # Of so many models one beats the mean by chance: each is held to its share of the level (Bonferroni).
    flat = [min(panel.test(name, "constant", k).p for name in rivals) > certain / len(rivals) for k in range(H)]
    told = []
    if all(flat):
        told.append("**Nothing could be forecast:** at no horizon does any model beat each ticker's mean variance.")
    elif not any(panel.test("network", "constant", k).p < certain for k in range(H)):
        told.append("**Nothing could be forecast by the network:** it beats each ticker's mean variance at no horizon.")
    else:
        if any(flat):
            told.append(f"No model beats each ticker's mean variance over {_horizons(flat)}.")
        if any(better):
            told.append(f"Volatility over {_horizons(better)} is forecast better than by the mean and by HAR.")
        if not all(better):
            missed = _horizons([not is_better for is_better in better])
            told.append(f"Over {missed} the network is not shown to beat both the mean and HAR.")
    if not any(ahead.low > 0 for ahead in direction(outcome)["more than always up"]):
        told.append("The direction of returns could not be forecast better than by always saying up.")
    return [" ".join(told), trading.words(outcome)]


def _days(horizon: int) -> str:
    return f"{horizon} day{'s'[: horizon > 1]}"


def _horizons(which: Sequence[bool]) -> str:
    """The horizons of which it is true, in words: 1, 5 and 21 days."""
    *first, last = [h for h, wanted in zip(HORIZONS, which, strict=True) if wanted]
    return (f"{', '.join(map(str, first))} and " if first else "") + _days(last)


# --------------------------------------------------------------------------------------------------------- the report


def report(outcome: Outcome) -> Iterator[tuple[str, Any]]:
    """Figures, tables and numbers in reading order; see `Outcome`.

    What rests on the training days, the forecasts of returns that are to be beaten and the trading check, is left out
    where there are none.
    """
    panel = losses(outcome)
    yield "loss less that of the baselines", against(outcome, panel)
    table, intervals = by_ticker(outcome, panel)
    overall = outcome.bootstrap.values["network", "qlike_ratio_har_1d"]
    shown = dict(list(intervals.items())[:MOST])
    yield "loss by ticker", figures.slices(shown, overall, "QLIKE ratio to HAR, 1 day,")
    yield "loss of each ticker", table
    yield "forecast and realised volatility", _realised(outcome)

    quantiles = return_quantiles(outcome)
    scored = returns(outcome, quantiles)
    for row in scored[scored["model"] == "network"].to_dict("records"):
        yield f"pinball_{row['horizon']}d", row["pinball, %"] / 100
        if "CRPS skill" in row:
            yield f"crps_skill_{row['horizon']}d", row["CRPS skill"].value
        for coverage in COVERAGES:
            yield f"coverage_{100 * coverage:.0f}_{row['horizon']}d", row[f"within {coverage:.0%}"]
    yield "forecasts of returns", scored
    yield "probability integral transform", _transform(outcome, quantiles["network"])
    yield "fan chart", _fan(outcome)
    yield "direction", direction(outcome)
    if len(outcome.parts["train"]):
        yield from trading.check(outcome)


def against(outcome: Outcome, panel: Panel) -> pd.DataFrame:
    """The network's loss less each baseline's in percent of it, and the Diebold-Mariano test's one-sided p.

    On all days, on calm and on stormy ones: those for which HAR forecasts most.
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
    for ticker, at in outcome.headline.frame.reset_index(drop=True).groupby("ticker").indices.items():
        own, har = panel.losses["network"][at], panel.losses["har"][at]
        tested = forecasting.diebold_mariano(own[:, 0] - har[:, 0], HORIZONS[0])
        rows.append((ticker, len(at), *(own.mean(axis=0) / har.mean(axis=0)), tested.p))
        ahead = tested.interval(0.95, unit=har[:, 0].mean())
        intervals[ticker] = Interval(1 + ahead.value, 1 + ahead.low, 1 + ahead.high)
    ratios = [f"ratio to HAR, {_days(h)}" for h in HORIZONS]
    table = pd.DataFrame(rows, columns=["ticker", "days", *ratios, "p, 1 day, network better"])
    ranked = dict(sorted(intervals.items(), key=lambda item: item[1].value))
    return table.sort_values(ratios[0], ignore_index=True), ranked


def return_quantiles(outcome: Outcome) -> dict[str, np.ndarray]:
    """Return quantiles (rows, 3, 7) of the headline rows: the network's, and two forecasts that any network must beat.

    `historical` are those of each ticker's training returns; `har_pooled` those of all standardised training
    returns times the volatility that the pooled linear model forecasts (filtered historical simulation).
    """
    train, part = outcome.parts["train"], outcome.headline
    own = {"network": _quantiles(outcome.headline_scores)}
    if not len(train):
        return own

    def scale(of: Part) -> np.ndarray:
        return np.exp(of.inputs["har"][of.rows][:, HAR_POOLED].astype(np.float64) / 2) * np.sqrt(HORIZONS)

    standard = np.quantile(train.labels[:, H:] / scale(train), LEVELS, axis=0).T
    return own | {
        "historical": historical_quantiles(train, LEVELS)(part),
        "har_pooled": standard * scale(part)[..., None],
    }


def returns(outcome: Outcome, models: dict[str, np.ndarray]) -> pd.DataFrame:
    """Scores of each model's quantiles of returns by horizon, losses in percent of the price.

    The CRPS skill is 1 less the ratio to the historical quantiles' score.
    """
    values = outcome.headline.labels[:, H:]
    scored = {name: forecasting.crps(values, quantiles, LEVELS) for name, quantiles in models.items()}

    def skill(place: int, labels: np.ndarray, scores: np.ndarray) -> Any:
        own, of_history = scores[:, place], scored["historical"][:, place]
        return lambda weights: float(1 - weights @ own / (weights @ of_history))

    skills = _resampled(outcome, skill, scored) if "historical" in scored else None
    rows = []
    for place, h in enumerate(HORIZONS):
        for name, quantiles in models.items():
            at, of = values[:, place], quantiles[:, place]
            losses = {
                "pinball, %": 100 * forecasting.pinball(at, of, LEVELS).mean(),
                "CRPS, %": 100 * scored[name][:, place].mean(),
            }
            if skills:
                losses["CRPS skill"] = skills.interval(name, str(h))
            held = {f"within {c:.0%}": forecasting.inside(at, of, LEVELS, c).mean() for c in COVERAGES}
            rows.append({"horizon": h, "model": name} | losses | held)
    return pd.DataFrame(rows)


def direction(outcome: Outcome) -> pd.DataFrame:
    """Share of returns whose sign the network's median has, beside always up."""
    ups = (outcome.headline.labels[:, H:] > 0).astype(float)
    medians = (_quantiles(outcome.headline_scores)[..., MEDIAN] > 0).astype(float)

    def hits(place: int, labels: np.ndarray, scores: np.ndarray) -> Any:
        hit = (scores[:, place] == ups[:, place]).astype(float)
        return lambda weights: float(weights @ hit / weights.sum())

    rates = _resampled(outcome, hits, {"network": medians, "up": np.ones_like(ups)})
    rows = [
        (h, rates.interval("network", str(h)), rates.interval("up", str(h)), rates.difference("network", "up", str(h)))
        for h in HORIZONS
    ]
    return pd.DataFrame(rows, columns=["horizon", "hit rate", "always up", "more than always up"])


def _resampled(outcome: Outcome, metric: Callable, models: dict[str, np.ndarray]) -> Bootstrap:
    """`metric(place, labels, scores)` of each model for each horizon, over resampled blocks of days."""
    part = outcome.headline
    named = {str(h): partial(metric, place) for place, h in enumerate(HORIZONS)}
    clusters = {name: part.frame[name] for name in outcome.splits.clusters}
    return bootstrap(named, part.labels, models, part.weights, clusters)


def _realised(outcome: Outcome) -> Figure:
    """Forecast and realised volatility over five days, from the mean variance of each day's tickers."""
    part, place = outcome.headline, HORIZONS.index(5)
    found = {"realised": part.labels[:, place], "network": outcome.headline_scores[:, place]}
    daily = pd.DataFrame(found).groupby(part.frame["time"].to_numpy()).mean()
    return figures.lines(100 * np.sqrt(YEAR * daily), "Volatility of the next 5 days, all tickers", "% a year")


def _transform(outcome: Outcome, quantiles: np.ndarray) -> Figure:
    """How often returns fell between neighbouring quantiles, over how often they should."""
    values = outcome.headline.labels[:, H:]
    found = {_days(h): forecasting.transform(values[:, k], quantiles[:, k], LEVELS) for k, h in enumerate(HORIZONS)}
    title = "Probability that was forecast for so low a return: a flat histogram is calibrated"
    return figures.histograms(found, [0, *LEVELS, 1], title, "forecast probability", "found / expected")


def _fan(outcome: Outcome) -> Figure:
    """The five-day returns of the first ticker in the last half year, with the intervals forecast for them."""
    part, place = outcome.headline, HORIZONS.index(5)
    ticker = part.frame["ticker"].iloc[0]
    rows = np.flatnonzero(part.frame["ticker"] == ticker)[-SHOWN:]
    quantiles = 100 * _quantiles(outcome.headline_scores)[rows, place]
    returns = pd.Series(100 * part.labels[rows, H + place], index=pd.DatetimeIndex(part.frame["time"].iloc[rows]))
    bands = {f"{COVERAGES[1]:.0%}": quantiles[:, [0, -1]], f"{COVERAGES[0]:.0%}": quantiles[:, [1, -2]]}
    title = f"{ticker}: return over the 5 days after each close, and what was forecast then"
    return figures.fan(returns, quantiles[:, MEDIAN], bands, title, "log return, %")
