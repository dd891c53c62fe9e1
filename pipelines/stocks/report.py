"""Metrics, calibration and decisions, and what a reviewer gets to see."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pipelines.core import evaluate, figures, forecasts
from pipelines.core.evaluate import Interval
from pipelines.core.pipeline import Settings
from pipelines.core.rows import Part
from pipelines.stocks import trading
from pipelines.stocks.baselines import baselines, historical_quantiles, qlike
from pipelines.stocks.features import HAR, HAR_MARKET, HORIZONS, MONTH
from pipelines.stocks.model import LEVELS, MEDIAN

if TYPE_CHECKING:
    from pipelines.core.trial import Outcome

__all__ = ["baselines", "calibrate", "decide", "deficit", "metrics", "remarks", "report", "scores"]

H = len(HORIZONS)
YEAR = 252  # trading days
CERTAIN = 0.98
"""Two-sided level of the gates' intervals: a deficit that is below 0 is so at one-sided p < .01."""
COVERAGES = (0.8, 0.95)
STORMY = 0.2
"""Share of days that count as stormy: those for which HAR forecasts most. What a day turns out to be must not choose
it, or forecasts of extremes would win (Lerch et al. 2017, "Forecaster's dilemma")."""
AGAINST = ("constant", "har", "har_market", "garch", "trees")
SHOWN = 126  # days of the fan chart, half a year
MOST = 40  # tickers in a figure


# ---------------------------------------------------------------------------------------- scores, metrics, decisions


def scores(outputs: np.ndarray, facts: dict) -> np.ndarray:
    """What the network says, float64 (n, 3 + 3 * 7): mean daily variance over each horizon, then quantiles of returns.

    The quantiles are widened as learnt; a baseline's scores are the first three columns alone.
    """
    outputs = outputs.astype(np.float64)
    variance, quantiles = np.exp(outputs[:, :H]), _quantiles(outputs)
    centre = quantiles[..., MEDIAN, None]
    widened = centre + (quantiles - centre) * np.array(facts.get("widening", np.ones((H, 1))))
    return np.concatenate([variance, widened.reshape(len(outputs), -1)], axis=1)


def _quantiles(values: np.ndarray) -> np.ndarray:
    """Quantiles of returns in scores, (n, 3, 7)."""
    return values[:, H:].reshape(len(values), H, len(LEVELS))


def metrics(part: Part) -> dict[str, evaluate.Curried]:
    """QLIKE for each horizon, pooled over ticker-days, as a ratio to that of HAR; reads the first three scores."""
    reference = np.exp(part.inputs["har"][part.rows][:, HAR].astype(np.float64))
    return {f"qlike_ratio_har_{h}d": partial(_ratio, reference, place) for place, h in enumerate(HORIZONS)}


def _ratio(reference: np.ndarray, place: int, labels: np.ndarray, scores: np.ndarray) -> Any:
    losses, of_har = (qlike(labels[:, place], values[:, place]) for values in (scores, reference))

    def ratio(weights: np.ndarray) -> float:
        return float(weights @ losses / (weights @ of_har))

    return ratio


def calibrate(outputs: np.ndarray, part: Part, settings: Settings) -> dict:
    """Learns `widening`, (3, 7): the distance of each quantile from the median is multiplied by it.

    The factor of an interval is the conformal quantile of the least factor that would hold each calibration return
    (Romano, Patterson and Candès 2019, "Conformalized quantile regression", with factors in place of distances). It is
    never below 1: half a year holds few independent months, and a calm one must not narrow what is to hold in a storm.
    The level of the variance stays as it is, for the same reason: corrected on half a year, QLIKE over a month was 29
    and 72 % worse in two earlier periods of the demo prices.
    """
    quantiles, widening = _quantiles(scores(outputs, {})), np.ones((H, len(LEVELS)))
    distance = part.labels[:, H:] - quantiles[..., MEDIAN]
    for coverage in COVERAGES:
        low, high = (int(np.argmin(np.abs(np.array(LEVELS) - (1 + side * coverage) / 2))) for side in (-1, 1))
        ends = quantiles[..., [low, high]] - quantiles[..., MEDIAN, None]
        asked = np.where(distance < 0, distance / ends[..., 0], distance / ends[..., 1])
        rank = min(int(np.ceil((len(asked) + 1) * coverage)), len(asked)) - 1
        widening[:, [low, high]] = np.maximum(np.sort(asked, axis=0)[rank], 1)[:, None]
    # An outer interval is not to fall inside an inner one.
    widening[:, 0] = widening[:, -1] = np.maximum(widening[:, 0], widening[:, 1])
    return {"widening": widening.tolist()}


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
    days = Losses(outcome)
    return days.test("network", str(than), 0).interval(CERTAIN, unit=days.mean("har", 0))


def remarks(outcome: Outcome) -> list[str]:
    """What could be forecast, and what could not, in sentences for the verdict."""
    days = Losses(outcome)
    beaten, not_beaten = [], []
    for place, h in enumerate(HORIZONS):
        better = all(days.test("network", name, place).p < (1 - CERTAIN) / 2 for name in ("constant", "har"))
        (beaten if better else not_beaten).append(_days(h))
    rivals = [name for name in days.losses if name != "constant"]
    # Of so many models one beats the mean by chance: each is held to its share of the level (Bonferroni).
    flat = [
        _days(h)
        for place, h in enumerate(HORIZONS)
        if min(days.test(name, "constant", place).p for name in rivals) > (1 - CERTAIN) / 2 / len(rivals)
    ]
    told = []
    if len(flat) == H:
        told.append("**Nothing could be forecast:** at no horizon does any model beat each ticker's mean variance.")
    else:
        if flat:
            told.append(f"No model beats each ticker's mean variance over {' and '.join(flat)}.")
        if beaten:
            told.append(f"Volatility over {' and '.join(beaten)} is forecast better than by the mean and by HAR.")
        if not_beaten:
            told.append(f"Over {' and '.join(not_beaten)} the network is not shown to beat both the mean and HAR.")
    signs = direction(outcome)
    if not (signs["more than always up, low"] > 0).any():
        told.append("The direction of returns could not be forecast better than by always saying up.")
    return [" ".join(told), trading.words(outcome)]


def _days(horizon: int) -> str:
    return f"{horizon} day{'s'[: horizon > 1]}"


class Losses:
    """QLIKE of every model on the headline rows of test, by day: what Diebold-Mariano tests compare.

    `losses` holds (rows, 3) of each model.
    """

    def __init__(self, outcome: Outcome) -> None:
        part = outcome.headline
        variance = part.labels[:, :H]
        self.frame = part.frame
        self.losses = {"network": qlike(variance, outcome.headline_scores[:, :H])}
        self.losses |= {name: qlike(variance, values[outcome.counted]) for name, values in outcome.baselines.items()}
        self.day = np.unique(self.frame["time"].to_numpy(), return_inverse=True)[1]
        forecast = part.inputs["har"][part.rows][:, HAR.start]
        level = np.bincount(self.day, forecast) / np.bincount(self.day)
        self.stormy = level >= np.quantile(level, 1 - STORMY)

    def mean(self, model: str, place: int) -> float:
        """Mean over days of the mean over tickers."""
        return float(self.daily(self.losses[model][:, place]).mean())

    def test(self, a: str, b: str, place: int, kept: np.ndarray | None = None) -> forecasts.DieboldMariano:
        """Model a against b over the panel, on all days or on those `kept`, bool (days,)."""
        daily = self.daily(self.losses[a][:, place] - self.losses[b][:, place])
        return forecasts.diebold_mariano(daily, HORIZONS[place], kept)

    def daily(self, values: np.ndarray) -> np.ndarray:
        """Mean over the tickers of each day, (days,), of values (rows,)."""
        return np.bincount(self.day, values) / np.bincount(self.day)

    def panel(self) -> pd.DataFrame:
        """The network against each baseline: loss less the baseline's in percent of it, statistic, one-sided p."""
        rows = []
        sides = {"all": None, "calm": ~self.stormy, "stormy": self.stormy}
        for name in (name for name in AGAINST if name in self.losses):
            for place, h in enumerate(HORIZONS):
                for days, kept in sides.items():
                    tested = self.test("network", name, place, kept)
                    of = self.daily(self.losses[name][:, place])[slice(None) if kept is None else kept].mean()
                    rows.append((name, h, days, tested.periods, 100 * tested.mean / of, tested.statistic, tested.p))
        columns = ["against", "horizon", "days", "number", "difference in %", "Diebold-Mariano", "p, network better"]
        return pd.DataFrame(rows, columns=columns)

    def by_ticker(self) -> tuple[pd.DataFrame, dict[str, Interval]]:
        """QLIKE of each ticker as a ratio to HAR's: a table with one-day tests, and the one-day ratios' intervals."""
        rows, intervals = [], {}
        for ticker, at in self.frame.reset_index(drop=True).groupby("ticker").indices.items():
            own, har = self.losses["network"][at], self.losses["har"][at]
            tested = forecasts.diebold_mariano(own[:, 0] - har[:, 0], HORIZONS[0])
            rows.append((ticker, len(at), *(own.mean(axis=0) / har.mean(axis=0)), tested.statistic, tested.p))
            ahead = tested.interval(0.95, unit=har[:, 0].mean())
            intervals[ticker] = Interval(1 + ahead.value, 1 + ahead.low, 1 + ahead.high)
        ratios = [f"ratio, {_days(h)}" for h in HORIZONS]
        columns = ["ticker", "days", *ratios, "Diebold-Mariano, 1 day", "p, network better"]
        ranked = dict(sorted(intervals.items(), key=lambda item: item[1].value))
        return pd.DataFrame(rows, columns=columns).sort_values(ratios[0], ignore_index=True), ranked


# --------------------------------------------------------------------------------------------------------- the report


def report(outcome: Outcome) -> Iterator[tuple[str, Any]]:
    """Figures, tables and numbers in reading order; see `Outcome`."""
    days = Losses(outcome)
    yield "tests against the baselines", days.panel()
    table, intervals = days.by_ticker()
    overall = outcome.bootstrap.values["network", "qlike_ratio_har_1d"]
    shown = dict(list(intervals.items())[:MOST])
    yield "qlike by ticker", figures.slices(shown, overall, "QLIKE ratio to HAR, 1 day")
    yield "table of tickers", table
    yield "forecast and realised volatility", _realised(outcome)

    scored, transforms = returns(outcome)
    for h in HORIZONS:
        row = scored[(scored["model"] == "network") & (scored["horizon"] == h)].iloc[0]
        yield f"pinball_{h}d", row["pinball"]
        yield f"crps_skill_{h}d", row["CRPS skill"]
        for coverage in COVERAGES:
            yield f"coverage_{100 * coverage:.0f}_{h}d", row[f"coverage of {coverage:.0%}"]
    yield "forecasts of returns", scored
    yield "probability integral transform", transforms
    yield "fan chart", _fan(outcome)
    signs = direction(outcome)
    yield "direction", signs
    yield from trading.check(outcome)


def _models(outcome: Outcome) -> dict[str, np.ndarray]:
    """Return quantiles (rows, 3, 7) of the headline rows: the network's, and two forecasts that any network must beat.

    `historical` are those of each ticker's training returns; `har_market` those of its standardised training returns
    times the volatility that HAR with leverage and market forecasts (filtered historical simulation).
    """
    train, part = outcome.parts["train"], outcome.headline

    def scale(of: Part) -> np.ndarray:
        return np.exp(of.inputs["har"][of.rows][:, HAR_MARKET].astype(np.float64) / 2) * np.sqrt(HORIZONS)

    standard = np.quantile(train.labels[:, H:] / scale(train), LEVELS, axis=0).T
    return {
        "network": _quantiles(outcome.headline_scores),
        "historical": historical_quantiles(train, LEVELS)(part),
        "har_market": standard * scale(part)[..., None],
    }


def returns(outcome: Outcome) -> tuple[pd.DataFrame, Any]:
    """Scores of each model's quantiles of returns by horizon, and the figure of their probability integral transform.

    The interval of the CRPS skill, 1 less the ratio to the historical quantiles' score, resamples blocks of days.
    """
    part, models = outcome.headline, _models(outcome)
    values = part.labels[:, H:]
    losses = {name: forecasts.crps(values, quantiles, LEVELS) for name, quantiles in models.items()}

    def skill(place: int) -> evaluate.Curried:
        def metric(labels: np.ndarray, scores: np.ndarray) -> Any:
            own, of_history = scores[:, place], losses["historical"][:, place]
            return lambda weights: float(1 - weights @ own / (weights @ of_history))

        return metric

    named = {str(h): skill(place) for place, h in enumerate(HORIZONS)}
    clusters = {name: part.frame[name] for name in outcome.splits.clusters}
    bootstrap = evaluate.bootstrap(named, part.labels, losses, part.weights, clusters)
    rows = []
    for place, h in enumerate(HORIZONS):
        for name, quantiles in models.items():
            at, of = values[:, place], quantiles[:, place]
            held = {f"coverage of {c:.0%}": forecasts.inside(at, of, LEVELS, c).mean() for c in COVERAGES}
            ahead = bootstrap.interval(name, str(h))
            worth = {"CRPS": losses[name][:, place].mean(), "CRPS skill": ahead.value, "low": ahead.low}
            loss = {"pinball": forecasts.pinball(at, of, LEVELS).mean()}
            rows.append({"horizon": h, "model": name} | loss | worth | {"high": ahead.high} | held)
    middle = np.convolve([0, *LEVELS, 1], [0.5, 0.5], "valid")
    found = {
        _days(h): forecasts.transform(values[:, k], models["network"][:, k], LEVELS) for k, h in enumerate(HORIZONS)
    }
    curve = pd.DataFrame(found, index=pd.Index(middle, name="probability that was forecast for so low a return"))
    return pd.DataFrame(rows), figures.lines(curve, "How often returns fall where (1: as forecast)", "found / forecast")


def direction(outcome: Outcome) -> pd.DataFrame:
    """Share of returns whose sign the network's median has, beside always up, with intervals over blocks of days."""
    part = outcome.headline
    ups = (part.labels[:, H:] > 0).astype(float)
    medians = (_quantiles(outcome.headline_scores)[..., MEDIAN] > 0).astype(float)

    def hits(place: int) -> evaluate.Curried:
        def metric(labels: np.ndarray, scores: np.ndarray) -> Any:
            hit = (scores[:, place] == ups[:, place]).astype(float)
            return lambda weights: float(weights @ hit / weights.sum())

        return metric

    named = {str(h): hits(place) for place, h in enumerate(HORIZONS)}
    clusters = {name: part.frame[name] for name in outcome.splits.clusters}
    guesses = {"network": medians, "up": np.ones_like(ups)}
    bootstrap = evaluate.bootstrap(named, part.labels, guesses, part.weights, clusters)
    rows = []
    for h in HORIZONS:
        own, up = (bootstrap.interval(name, str(h)) for name in ("network", "up"))
        more = bootstrap.difference("network", "up", str(h))
        rows.append((h, own.value, own.low, own.high, up.value, more.value, more.low, more.high))
    names = ["hit rate", "low", "high", "always up", "more than always up"]
    columns = ["horizon", *names, "more than always up, low", "more than always up, high"]
    return pd.DataFrame(rows, columns=columns)


def _realised(outcome: Outcome) -> Any:
    """Forecast and realised volatility over five days, the median of the tickers of each day, percent a year."""
    part, place = outcome.headline, HORIZONS.index(5)
    table = pd.DataFrame(
        {
            "time": part.frame["time"].to_numpy(),
            "realised": part.labels[:, place],
            "network": outcome.headline_scores[:, place],
        }
    )
    shown = 100 * np.sqrt(YEAR * table.groupby("time").median())
    return figures.lines(shown, "Volatility of the next 5 days, median of the tickers", "% a year")


def _fan(outcome: Outcome) -> Any:
    """The five-day returns of the first ticker in the last half year, with the intervals forecast for them."""
    part, place = outcome.headline, HORIZONS.index(5)
    ticker = part.frame["ticker"].iloc[0]
    rows = np.flatnonzero(part.frame["ticker"] == ticker)[-SHOWN:]
    quantiles = 100 * _quantiles(outcome.headline_scores)[rows, place]
    returns = pd.Series(100 * part.labels[rows, H + place], index=pd.DatetimeIndex(part.frame["time"].iloc[rows]))
    bands = {f"{COVERAGES[1]:.0%}": quantiles[:, [0, -1]], f"{COVERAGES[0]:.0%}": quantiles[:, [1, -2]]}
    return figures.fan(returns, quantiles[:, MEDIAN], bands, f"{ticker}: return over the next 5 days", "%")
