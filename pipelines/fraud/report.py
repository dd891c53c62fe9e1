"""What a reviewer sees of the alerts; the baselines are in `baselines`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pipelines.core.data.arrays import Part
from pipelines.core.evaluation import calibration
from pipelines.core.evaluation.bootstrap import Interval, bootstrap
from pipelines.core.evaluation.metrics import Metric, average_precision, brier, of_scores, ratio_of_sums
from pipelines.core.report import captions, class_figures, figures
from pipelines.core.report.items import Item
from pipelines.fraud.baselines import baselines
from pipelines.fraud.reading import DAY, Roles
from pipelines.fraud.task import CARD_PRECISION, TASK

if TYPE_CHECKING:
    from pipelines.core.training.trial import Outcome

__all__ = ["baselines", "remarks", "report"]

COST = (
    "The total cost on test at each threshold: of the frauds that are missed and of the alerts. If the threshold in "
    "use is far from the cheapest, change the number of alerts a day."
)
FEWEST_FRAUDS = 10  # of different customers or terminals in a slice, below which its average precision says nothing
AGES = {"under 30 days": 0, "30 to 90 days": 30, "over 90 days": 90}
HOURS = {"0 to 6 h": 0, "6 to 12 h": 6, "12 to 18 h": 12, "18 to 24 h": 18}
MISSES = 20
SHARES = {
    "recall_at_budget": "share of the frauds that get an alert",
    "precision_at_budget": "share of the alerts that are frauds",
    "money_caught_at_budget": "share of the stolen money whose payment gets an alert",
}
DAILY = (
    "Blue are frauds that got an alert, grey are false alerts. Look whether the number of alerts a day stays near the "
    "budget, and whether it changes over time."
)
SLICES = (
    "Average precision on parts of the test payments, with 95 % intervals; the line is that of all. A part with more "
    "frauds reaches more by itself: compare models on a part rather than parts. Those with too few frauds are left out."
)
MISSED = (
    "Frauds that got no alert, the largest amounts first (without amounts, the lowest scores). Look for a kind of "
    "fraud that they share, and for wrong labels."
)


def remarks(outcome: Outcome) -> list[str]:
    """How well the network does, in a fraud desk's words."""
    part, facts = outcome.headline, outcome.facts
    alert = outcome.headline_scores >= facts.threshold
    shares = _at_budget(outcome, alert)
    if "precision_at_budget" not in shares:
        return ["No test payment gets an alert: at the threshold in use the network finds no fraud."]
    per_day = _per_day(part, alert, facts.roles)
    alerts = "Alerts" if per_day is None else f"{per_day:.3g} alerts a day"
    found = f"{_percent(shares['recall_at_budget'])} of the frauds"
    if "money_caught_at_budget" in shares:
        found += f" and {_percent(shares['money_caught_at_budget'])} of the money"
    right = _percent(shares["precision_at_budget"])
    return [f"{alerts}, {right} of them right; they find {found}. In brackets: 95 % intervals."]


def _percent(share: Interval) -> str:
    """A share in percent with its interval: 71 % (65 to 76)."""
    return f"{share.value:.0%} ({100 * share.low:.0f} to {100 * share.high:.0f})".replace("%", " %")


def report(outcome: Outcome) -> Iterator[Item]:
    """Figures, tables and numbers on the headline rows, and the headline metrics on all rows of test.

    The table of the worst misses follows `--examples`: nothing, identifiers with their scores, or the payments too.
    """
    part, probability, roles = outcome.headline, outcome.headline_scores, outcome.facts.roles
    labels, weights, threshold = part.labels, part.weights, outcome.facts.threshold
    models = {name: values[outcome.counted] for name, values in outcome.baselines.items() if name != "prevalence"}
    curves = class_figures.pr_curve(labels, {"network": probability} | models, weights, threshold)
    yield Item("precision and recall", curves, captions.PRECISION_RECALL)
    raw = TASK.raw_scores(outcome.outputs)[outcome.counted]
    reliability = class_figures.reliability(labels, raw, probability, weights, "frauds")
    yield Item("reliability", reliability, captions.RELIABILITY)
    yield from _alerts(outcome, probability >= threshold)
    if roles.amount:
        amount = part.frame[roles.amount].abs().to_numpy()
        curve = calibration.cost_curve(labels, probability, weights, amount, outcome.settings.alert_cost)
        what = "cost of missed frauds and of alerts"
        costs = class_figures.cost_against_threshold(curve, threshold, what)
        yield Item("cost against threshold", costs, COST)
    yield Item("brier", brier(labels, probability)(weights), "mean squared error of the probabilities")
    error = calibration.expected_calibration_error(labels, probability, weights)
    yield Item("expected_calibration_error", error, "mean distance of predicted and observed share")

    yield from (Item(*promise) for promise in TASK.promises(outcome))

    every = outcome.parts["test"]
    metrics, measures = TASK.metrics(outcome.facts), TASK.measures(outcome.scores, every)
    for name, metric in metrics.items():
        yield Item(f"{name}_all_rows", metric(measures)(every.weights), "known victims included")
    if CARD_PRECISION in metrics:
        perfect = metrics[CARD_PRECISION](TASK.measures(labels.astype(np.float64), part))(weights)
        yield Item(f"{CARD_PRECISION}_ceiling", perfect, "what a perfect ranking would reach")

    table = _slices(outcome)
    drawn = {f"{row['slice']}, {row['part']}": row["interval"] for _, row in table.iterrows() if row["interval"]}
    if drawn:
        overall = outcome.resampled.values["network", "average_precision"]
        yield Item("slices", figures.slices(drawn, overall, "average_precision"), SLICES)
    cells = table.assign(interval=table["interval"].map(lambda one: str(one or "too few frauds")))
    yield Item("table of slices", cells, "The payments and frauds of each slice.", shown=False)
    misses = _misses(outcome)
    if misses is not None:
        yield Item("worst misses", misses, MISSED)


def _alerts(outcome: Outcome, alert: np.ndarray) -> Iterator[Item]:
    """What the alerts find, with intervals; how many there are a day, and on each day."""
    part, roles = outcome.headline, outcome.facts.roles
    for name, share in _at_budget(outcome, alert).items():
        for end, value in (("", share.value), ("_low", share.low), ("_high", share.high)):
            yield Item(f"{name}{end}", value, SHARES[name])
    per_day = _per_day(part, alert, roles)
    if per_day is not None:
        yield Item("alerts_per_day", per_day, "on test, with the threshold in use")
        daily = _daily(part, alert)
        yield Item("daily alerts", figures.bars(daily, "True and false alerts per day", "payments"), DAILY)


def _at_budget(outcome: Outcome, alert: np.ndarray) -> dict[str, Interval]:
    """Shares of the frauds and of their money that the alerts find, and of the alerts that are right."""
    part, roles = outcome.headline, outcome.facts.roles
    fraud = (part.labels == 1).astype(float)
    measures = {"fraud": fraud, "alert": alert.astype(float), "found": fraud * alert}
    metrics: dict[str, Metric] = {"recall_at_budget": ratio_of_sums("found", "fraud")}
    if alert.any():
        metrics["precision_at_budget"] = ratio_of_sums("found", "alert", empty=0.0)
    if roles.amount:
        money = fraud * part.frame[roles.amount].abs().to_numpy()
        measures |= {"money": money, "caught": money * alert}
        metrics["money_caught_at_budget"] = ratio_of_sums("caught", "money", empty=0.0)
    drawn = bootstrap(metrics, {"network": measures}, part.weights, outcome.splits.clusters_of(part), count=200)
    return {name: drawn.interval("network", name) for name in metrics}


def _per_day(part: Part, alert: np.ndarray, roles: Roles) -> float | None:
    """Alerts a day, weighted; None where payments have no time."""
    if not roles.time:
        return None
    return float(part.weights[alert].sum() / part.frame["time"].dt.normalize().nunique())


def _daily(part: Part, alert: np.ndarray) -> pd.DataFrame:
    """Right and false alerts of each day, or of each hour where there are few days; weighted."""
    time = part.frame["time"].reset_index(drop=True)
    step = "D" if time.dt.normalize().nunique() > 3 else "h"
    columns = {
        "frauds": part.weights * (alert & (part.labels == 1)),
        "false": part.weights * (alert & (part.labels == 0)),
    }
    return pd.DataFrame(columns).set_axis(pd.DatetimeIndex(time)).resample(step).sum()


def _parts(part: Part, roles: Roles) -> Iterator[tuple[str, pd.Categorical]]:
    """Ways to slice the payments: (name, (n,) categories in their order)."""
    frame = part.frame
    if roles.amount:
        amount = frame[roles.amount].reset_index(drop=True)
        quarter = pd.qcut(amount.rank(method="first"), 4, labels=False)
        ranges = amount.groupby(quarter).agg(["min", "max"])
        names = [f"quarter {1 + number}, {low:g} to {high:g}" for number, low, high in ranges.itertuples()]
        yield "amount", pd.Categorical.from_codes(quarter, names)
    if roles.time:
        yield "hour", _binned(frame["time"].dt.hour, HOURS)
        for entity in roles.entities:
            first = part.records.groupby(entity)["time"].transform("min").iloc[part.rows]
            yield f"age of {entity}", _binned((frame["time"] - first) / DAY, AGES)


def _binned(values: pd.Series, lows: Mapping[str, int]) -> pd.Categorical:
    return pd.cut(values.to_numpy(), [*lows.values(), np.inf], right=False, labels=list(lows))


def _slices(outcome: Outcome) -> pd.DataFrame:
    """Average precision of the network on each slice of the headline rows, with its interval.

    A slice's own share of frauds sets the level of its average precision: compare models, not slices.
    """
    rows = []
    for name, values in _parts(outcome.headline, outcome.facts.roles):
        present = values.remove_unused_categories().categories
        for value in present if len(present) > 1 else ():
            at = np.asarray(values == value)
            here = outcome.headline.take(at)
            share = np.average(here.labels, weights=here.weights)
            interval = _average_precision(here, outcome.headline_scores[at], outcome.splits.clusters_of(here))
            rows.append((name, value, len(here), int(here.labels.sum()), share, interval))
    return pd.DataFrame(rows, columns=["slice", "part", "rows", "frauds", "share of frauds", "interval"])


def _average_precision(part: Part, scores: np.ndarray, ties: Mapping[str, np.ndarray]) -> Interval | None:
    """The network's average precision with its interval; None where too few frauds are independent of one another."""
    frauds = part.labels == 1
    if min([frauds.sum(), *(len(np.unique(codes[frauds])) for codes in ties.values())]) < FEWEST_FRAUDS:
        return None
    metrics, measures = {"average_precision": of_scores(average_precision)}, {"label": part.labels, "score": scores}
    drawn = bootstrap(metrics, {"network": measures}, part.weights, ties, count=200)
    return drawn.interval("network", "average_precision")


def _misses(outcome: Outcome) -> pd.DataFrame | None:
    """The missed frauds of the largest amounts, or without amounts of the lowest scores; None where not allowed."""
    allowed = outcome.settings.examples
    if allowed == "none":
        return None
    part, probability, facts = outcome.headline, outcome.headline_scores, outcome.facts
    missed = np.flatnonzero((part.labels == 1) & (probability < facts.threshold))
    frame, amount = part.frame.iloc[missed], facts.roles.amount
    order = np.argsort(-frame[amount].to_numpy() if amount else probability[missed], kind="stable")[:MISSES]
    table = pd.DataFrame({"id": frame["id"].to_numpy()[order], "probability": probability[missed][order]})
    if allowed == "full":
        named = dict.fromkeys([*["time"] * ("time" in frame), *facts.roles.entities, *facts.features])
        own = frame.iloc[order][list(named)].reset_index(drop=True)
        table = table.merge(own, left_index=True, right_index=True, suffixes=("", " (column)"))
    return table
