"""Metrics, calibration and decisions, and what a reviewer gets to see."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pipelines.core.contract import Settings
from pipelines.core.data.arrays import Part
from pipelines.core.evaluation import calibration
from pipelines.core.evaluation.bootstrap import Interval, bootstrap
from pipelines.core.evaluation.metrics import Curried, average_precision, brier, roc_auc
from pipelines.core.report import classes, figures
from pipelines.fraud.baselines import baselines
from pipelines.fraud.history import entities

if TYPE_CHECKING:
    from pipelines.core.training.trial import Outcome

__all__ = ["baselines", "calibrate", "decide", "metrics", "report", "scores"]

CARDS = 100  # cards looked into each day by the Handbook's card precision
ALERTS = 0.01  # share of payments that are alerts where no budget is given
FEWEST_FRAUDS = 10  # of different customers or terminals in a slice, below which its average precision says nothing
AGES = {"under 30 days": 0, "30 to 90 days": 30, "over 90 days": 90}
HOURS = {"0 to 6 h": 0, "6 to 12 h": 6, "12 to 18 h": 12, "18 to 24 h": 18}
MISSES = 20


def metrics(part: Part) -> dict[str, Curried]:
    """Average precision, area under the ROC curve and, where the payments have cards and days, card precision."""
    found = {"average_precision": average_precision, "roc_auc": roc_auc}
    roles = part.records.attrs["roles"]
    if roles["time"] and roles["entities"]:
        days, cards = part.frame["time"].dt.normalize(), part.frame[roles["entities"][0]]
        found[f"card_precision_at_{CARDS}"] = partial(card_precision, pd.factorize(days)[0], pd.factorize(cards)[0])
    return found


def card_precision(
    days: np.ndarray, cards: np.ndarray, labels: np.ndarray, scores: np.ndarray, k: int = CARDS
) -> Callable[[np.ndarray], float]:
    """The share of cards with a fraud among the `k` cards of the highest scores, mean over days.

    A card counts by its highest score of the day; one that was rightly among the `k` is left out on later days (Fraud
    Detection Handbook, section 4.4). A day with fewer cards than `k` is judged by those that it has. A card's weight,
    that of the payment with its highest score, says how many cards it stands for.

    Args:
        days: int (n,), ascending numbers for later days.
        cards: int (n,), -1 where missing: such payments are left out.
        labels: (n,) 0 or 1.
        scores: (n,).
        k: cards a day.

    Returns:
        A function of the weights, float64 (n,).
    """
    order = np.lexsort((-scores, cards, days))
    order = order[cards[order] >= 0]
    day, card = days[order], cards[order]
    first = np.flatnonzero(np.diff(day, prepend=-1) | np.diff(card, prepend=-1))
    best, frauds = order[first], np.maximum.reduceat(labels[order], first) == 1
    ranked = np.lexsort((-scores[best], days[best]))
    best, frauds = best[ranked], frauds[ranked]
    ends = np.flatnonzero(np.diff(days[best], append=-1)) + 1

    def value(weights: np.ndarray) -> float:
        caught = np.zeros(cards.max() + 1, bool)
        shares = []
        for begin, end in zip([0, *ends[:-1]], ends, strict=True):
            # The first few hundred nearly always hold `k` cards by weight; all of them always do, if there are so many.
            for stop in (min(begin + 5 * k, end), end):
                at = np.arange(begin, stop)[~caught[cards[best[begin:stop]]]]
                weight = weights[best[at]]
                total = weight.cumsum()
                if len(total) and total[-1] >= k:
                    break
            chosen = np.clip(k - (total - weight), 0, weight)
            if chosen.sum() > 0:
                shares.append(chosen @ frauds[at] / chosen.sum())
            caught[cards[best[at[(chosen > 0) & frauds[at]]]]] = True
        return float(np.mean(shares)) if shares else np.nan

    return value


def calibrate(outputs: np.ndarray, part: Part, settings: Settings) -> dict:
    """Learns, on the calibration payments, the calibrating map and the threshold that keeps to the alert budget."""
    learnt = {"calibration": calibration.learn(outputs.ravel(), part.labels, part.weights)}
    rate = ALERTS
    if settings.alerts_per_day:
        time = part.frame["time"]
        days = (time.max() - time.min()) / pd.Timedelta(days=1)
        rate = min(1.0, settings.alerts_per_day * days / part.weights.sum())
    return learnt | {"threshold": calibration.threshold_at_rate(scores(outputs, learnt), rate, part.weights)}


def scores(outputs: np.ndarray, facts: dict) -> np.ndarray:
    """Probabilities of fraud, float64 (n,), from the network's outputs (n, 1); calibrated once that is learnt."""
    probability = outputs.ravel().astype(np.float64)
    return calibration.apply(facts["calibration"], probability) if "calibration" in facts else probability


def decide(outputs: np.ndarray, facts: dict, part: Part) -> pd.DataFrame:
    """What a user gets for each payment of the part.

    Columns: `probability` of fraud; `alert`, whether it is one of the payments to look into; and, where payments have
    a history, `earlier_payments` of the same customer among the given records: 0 was judged without history.
    """
    probability = scores(outputs, facts)
    decisions = pd.DataFrame({"probability": probability, "alert": probability >= facts["threshold"]})
    if entities(facts):
        decisions["earlier_payments"] = part.inputs[entities(facts)[0]].earlier(part.rows)
    return decisions


# ------------------------------------------------------------------------------------------------------------- report


def report(outcome: "Outcome") -> Iterator[tuple[str, Any]]:
    """Figures, tables and numbers on the headline rows, and the headline metrics on all rows of test.

    The table of the worst misses follows `--examples`: nothing, identifiers with their scores, or the payments too.
    """
    part, probability, roles = outcome.headline, outcome.headline_scores, outcome.facts["roles"]
    labels, weights, threshold = part.labels, part.weights, outcome.facts["threshold"]
    models = {name: values[outcome.counted] for name, values in outcome.baselines.items() if name != "prevalence"}
    yield "precision and recall", classes.pr_curve(labels, {"network": probability} | models, weights)
    yield from _at_budget(part, probability >= threshold, roles)
    if roles["time"]:
        yield (
            "daily alerts",
            figures.bars(_daily(part, probability >= threshold), "Alerts, right and false", "payments"),
        )
    if roles["amount"]:
        amount = part.frame[roles["amount"]].abs().to_numpy()
        curve = calibration.cost_curve(labels, probability, weights, amount, outcome.settings.alert_cost)
        yield (
            "cost against threshold",
            classes.cost_against_threshold(curve, threshold, "cost of missed frauds and of alerts"),
        )
    yield (
        "reliability",
        classes.reliability(labels, outcome.outputs.ravel()[outcome.counted], probability, weights),
    )
    yield "brier", brier(labels, probability)(weights)
    yield "expected_calibration_error", calibration.expected_calibration_error(labels, probability, weights)

    every = outcome.parts["test"]
    for name, metric in metrics(every).items():
        yield f"{name}_all_rows", metric(every.labels, outcome.scores)(every.weights)
    for name, metric in metrics(part).items():
        if name.startswith("card_precision"):
            yield f"{name}_ceiling", metric(labels, labels)(weights)

    table = _slices(outcome)
    drawn = {f"{row['slice']}, {row['part']}": row["interval"] for _, row in table.iterrows() if row["interval"]}
    if drawn:
        overall = outcome.bootstrap.values["network", "average_precision"]
        yield "slices", figures.slices(drawn, overall, "average_precision")
    yield "table of slices", table.assign(interval=table["interval"].map(lambda one: str(one or "too few frauds")))
    misses = _misses(outcome)
    if misses is not None:
        yield "worst misses", misses


def _at_budget(part: Part, alert: np.ndarray, roles: dict) -> Iterator[tuple[str, float]]:
    """What the alerts find: shares of the frauds and of their money, and how many of the alerts are right."""
    stolen = part.weights * (part.labels == 1)
    yield "recall_at_budget", float(stolen[alert].sum() / stolen.sum())
    if alert.any():
        yield "precision_at_budget", float(stolen[alert].sum() / part.weights[alert].sum())
    if roles["amount"]:
        money = stolen * part.frame[roles["amount"]].abs().to_numpy()
        yield "money_caught_at_budget", float(money[alert].sum() / money.sum())
    if roles["time"]:
        days = part.frame["time"].dt.normalize().nunique()
        yield "alerts_per_day", float(part.weights[alert].sum() / days)


def _daily(part: Part, alert: np.ndarray) -> pd.DataFrame:
    """Right and false alerts of each day, or of each hour where there are few days; weighted."""
    time = part.frame["time"].reset_index(drop=True)
    step = "D" if time.dt.normalize().nunique() > 3 else "h"
    columns = {
        "frauds": part.weights * (alert & (part.labels == 1)),
        "false": part.weights * (alert & (part.labels == 0)),
    }
    return pd.DataFrame(columns).set_axis(pd.DatetimeIndex(time)).resample(step).sum()


def _parts(part: Part, roles: dict) -> Iterator[tuple[str, pd.Categorical]]:
    """Ways to slice the payments: (name, (n,) categories in their order)."""
    frame = part.frame
    if roles["amount"]:
        amount = frame[roles["amount"]].reset_index(drop=True)
        quarter = pd.qcut(amount.rank(method="first"), 4, labels=False)
        ranges = amount.groupby(quarter).agg(["min", "max"])
        names = [f"quarter {1 + number}, {low:g} to {high:g}" for number, low, high in ranges.itertuples()]
        yield "amount", pd.Categorical.from_codes(quarter, names)
    if roles["time"]:
        yield "hour", _binned(frame["time"].dt.hour, HOURS)
        for entity in roles["entities"]:
            first = part.records.groupby(entity)["time"].transform("min").iloc[part.rows]
            yield f"age of {entity}", _binned((frame["time"] - first) / pd.Timedelta(days=1), AGES)


def _binned(values: pd.Series, lows: dict[str, int]) -> pd.Categorical:
    return pd.cut(values.to_numpy(), [*lows.values(), np.inf], right=False, labels=list(lows))


def _slices(outcome: "Outcome") -> pd.DataFrame:
    """Average precision of the network on each slice of the headline rows, with its interval.

    A slice's own share of frauds sets the level of its average precision: compare models, not slices.
    """
    rows = []
    for name, values in _parts(outcome.headline, outcome.facts["roles"]):
        present = values.remove_unused_categories().categories
        for value in present if len(present) > 1 else ():
            at = np.asarray(values == value)
            here = outcome.headline.take(at)
            share = np.average(here.labels, weights=here.weights)
            interval = _average_precision(here, outcome.headline_scores[at], outcome.splits.clusters)
            rows.append((name, value, len(here), int(here.labels.sum()), share, interval))
    return pd.DataFrame(rows, columns=["slice", "part", "rows", "frauds", "share of frauds", "interval"])


def _average_precision(part: Part, scores: np.ndarray, clusters: Sequence[str]) -> Interval | None:
    """The network's average precision with its interval; None where too few frauds are independent of one another."""
    frauds = part.frame[part.labels == 1]
    if min([len(frauds), *(frauds[column].nunique() for column in clusters)]) < FEWEST_FRAUDS:
        return None
    ties = {column: part.frame[column] for column in clusters}
    metric = {"average_precision": average_precision}
    drawn = bootstrap(metric, part.labels, {"network": scores}, part.weights, ties, count=200)
    return drawn.interval("network", "average_precision")


def _misses(outcome: "Outcome") -> pd.DataFrame | None:
    """The missed frauds of the largest amounts, or without amounts of the lowest scores; None where not allowed."""
    allowed = outcome.settings.examples
    if allowed == "none":
        return None
    part, probability, amount = outcome.headline, outcome.headline_scores, outcome.facts["roles"]["amount"]
    missed = np.flatnonzero((part.labels == 1) & (probability < outcome.facts["threshold"]))
    frame = part.frame.iloc[missed]
    order = np.argsort(-frame[amount].to_numpy() if amount else probability[missed], kind="stable")[:MISSES]
    told = pd.DataFrame({"id": frame["id"].to_numpy()[order], "probability": probability[missed][order]})
    if allowed == "full":
        named = ["time"] * ("time" in frame) + outcome.facts["roles"]["entities"] + outcome.facts["features"]
        own = frame.iloc[order][list(dict.fromkeys(named))].reset_index(drop=True)
        told = told.merge(own, left_index=True, right_index=True, suffixes=("", " (column)"))
    return told
