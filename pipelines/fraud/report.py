"""Baselines on the same payments and the same inputs, from trivial to strong, and what a reviewer sees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from pipelines.core.data.arrays import Part, Rows
from pipelines.core.evaluation import calibration
from pipelines.core.evaluation.bootstrap import Interval, bootstrap
from pipelines.core.evaluation.metrics import average_precision, brier, of_scores
from pipelines.core.report import class_figures, figures
from pipelines.core.tasks.classification import Predict, prevalence
from pipelines.fraud import Settings
from pipelines.fraud.data import Facts
from pipelines.fraud.history import CATEGORIES, LATEST, PAYMENT
from pipelines.fraud.model import signed_log
from pipelines.fraud.reading import DAY, Roles
from pipelines.fraud.task import CARD_PRECISION, TASK

if TYPE_CHECKING:
    from pipelines.core.training.trial import Outcome

LEGITIMATE = 150_000
"""Legitimate training payments that a baseline is fitted on; where there are more, each stands for several."""
TREES = {"learning_rate": 0.05, "max_iter": 200, "max_leaf_nodes": 15, "l2_regularization": 10.0}
"""Settings that did best on the validation folds of `make bench-fraud`, where the network's were chosen too."""
PATIENCE = 20
"""Rounds without a lower loss on the validation payments before no more trees are added."""


# ---------------------------------------------------------------------------------------------------------- baselines


def baselines(facts: Facts, settings: Settings, train: Part, validation: Part) -> Iterator[tuple[str, Predict]]:
    """Pairs of name and predict, which gives one score a payment, float64 (n,), higher for the likelier fraud."""
    yield "prevalence", prevalence(train, 2)
    if amount := facts.roles.amount:
        yield "amount_rule", lambda part: part.frame[amount].to_numpy(np.float64)
    rows, weights = _thinned(train, settings.seed)
    sample = train.take(rows)
    yield "logistic_regression", _logistic_regression(facts, sample, weights)
    yield "trees", _trees(facts, settings, sample, weights, validation)


def _thinned(train: Part, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of all frauds and at most `LEGITIMATE` others, and the weight that makes up for those left out."""
    frauds, rest = np.flatnonzero(train.labels == 1), np.flatnonzero(train.labels != 1)
    kept = np.random.default_rng(seed).permutation(rest)[:LEGITIMATE]
    weights = np.concatenate([np.ones(len(frauds)), np.full(len(kept), len(rest) / max(len(kept), 1))])
    rows = np.concatenate([frauds, kept])
    order = np.argsort(rows)
    return rows[order], weights[order]


def _logistic_regression(facts: Facts, sample: Part, weights: np.ndarray) -> Predict:
    """On the payment's columns, log-scaled and standardised, with a flag for what is missing, and its categories."""
    numbers = make_pipeline(
        FunctionTransformer(signed_log),
        StandardScaler(),
        SimpleImputer(strategy="constant", fill_value=0.0, add_indicator=True, keep_empty_features=True),
    )
    width = sample.inputs[PAYMENT].shape[1]
    columns = [
        ("numbers", numbers, slice(0, width)),
        ("codes", OneHotEncoder(handle_unknown="ignore"), slice(width, None)),
    ]
    encoder = ColumnTransformer(columns[: 1 + bool(facts.categorical)])
    model = make_pipeline(encoder, LogisticRegression(max_iter=300))
    model.fit(_flat(sample), sample.labels, logisticregression__sample_weight=weights)
    return lambda part: model.predict_proba(_flat(part))[:, 1]


def _trees(facts: Facts, settings: Settings, sample: Part, weights: np.ndarray, validation: Part) -> Predict:
    """Boosted trees on what the network reads: the payment's columns, its categories and the very latest events.

    They stop where the loss on the validation payments does, as the network does; without such payments all are grown.
    """
    events = facts.roles.tracked
    width = sample.inputs[PAYMENT].shape[1]
    model = HistGradientBoostingClassifier(
        **TREES,
        categorical_features=[width + at for at, seen in enumerate(facts.categorical.values()) if len(seen) < 255],
        early_stopping=len(validation) > 0,
        n_iter_no_change=PATIENCE,
        random_state=settings.seed,
    )
    judged = {}
    if len(validation):
        judged = {
            "X_val": _flat(validation, events),
            "y_val": validation.labels,
            "sample_weight_val": validation.weights,
        }
    # Even weights are left out: given any, scikit-learn takes twice as long.
    uneven = weights if np.ptp(weights) > 0 else None
    columns = _flat(sample, events)
    columns[:, np.isnan(columns).all(axis=0)] = 0  # scikit-learn cannot bin a column without a number
    model.fit(columns, sample.labels, sample_weight=uneven, **judged)
    return lambda part: model.predict_proba(_flat(part, events))[:, 1]


def _flat(part: Part, events: Sequence[str] = ()) -> np.ndarray:
    """The payment's columns and categories, and the latest `LATEST` events of the given entities, (n, columns)."""
    columns = [part.inputs[name][part.rows] for name in (PAYMENT, CATEGORIES) if name in part.inputs]
    return np.concatenate(columns + [_latest(part.inputs[entity], part.rows) for entity in events], axis=1)


def _latest(history: Rows, rows: np.ndarray) -> np.ndarray:
    """The latest events of each payment side by side; gathered in pieces, since the network's input is far longer."""
    pieces = [history[piece][:, -LATEST:, 1:] for piece in np.array_split(rows, len(rows) // 50_000 + 1)]
    return np.concatenate(pieces).reshape(len(rows), -1)


# ------------------------------------------------------------------------------------------------------------- report

FEWEST_FRAUDS = 10  # of different customers or terminals in a slice, below which its average precision says nothing
AGES = {"under 30 days": 0, "30 to 90 days": 30, "over 90 days": 90}
HOURS = {"0 to 6 h": 0, "6 to 12 h": 6, "12 to 18 h": 12, "18 to 24 h": 18}
MISSES = 20


def report(outcome: Outcome) -> Iterator[tuple[str, Any]]:
    """Figures, tables and numbers on the headline rows, and the headline metrics on all rows of test.

    The table of the worst misses follows `--examples`: nothing, identifiers with their scores, or the payments too.
    """
    part, probability, roles = outcome.headline, outcome.headline_scores, outcome.facts.roles
    labels, weights, threshold = part.labels, part.weights, outcome.facts.threshold
    models = {name: values[outcome.counted] for name, values in outcome.baselines.items() if name != "prevalence"}
    yield "precision and recall", class_figures.pr_curve(labels, {"network": probability} | models, weights)
    yield from _at_budget(part, probability >= threshold, roles)
    if roles.time:
        daily = _daily(part, probability >= threshold)
        yield "daily alerts", figures.bars(daily, "True and false alerts per day", "payments")
    if roles.amount:
        amount = part.frame[roles.amount].abs().to_numpy()
        curve = calibration.cost_curve(labels, probability, weights, amount, outcome.settings.alert_cost)
        what = "cost of missed frauds and of alerts"
        yield "cost against threshold", class_figures.cost_against_threshold(curve, threshold, what)
    raw = TASK.raw_scores(outcome.outputs)[outcome.counted]
    yield "reliability", class_figures.reliability(labels, raw, probability, weights)
    yield "brier", brier(labels, probability)(weights)
    yield "expected_calibration_error", calibration.expected_calibration_error(labels, probability, weights)

    yield from TASK.promises(outcome)

    every = outcome.parts["test"]
    metrics, measures = TASK.metrics(outcome.facts), TASK.measures(outcome.scores, every)
    for name, metric in metrics.items():
        yield f"{name}_all_rows", metric(measures)(every.weights)
    if CARD_PRECISION in metrics:
        perfect = TASK.measures(labels.astype(np.float64), part)
        yield f"{CARD_PRECISION}_ceiling", metrics[CARD_PRECISION](perfect)(weights)

    table = _slices(outcome)
    drawn = {f"{row['slice']}, {row['part']}": row["interval"] for _, row in table.iterrows() if row["interval"]}
    if drawn:
        overall = outcome.resampled.values["network", "average_precision"]
        yield "slices", figures.slices(drawn, overall, "average_precision")
    yield "table of slices", table.assign(interval=table["interval"].map(lambda one: str(one or "too few frauds")))
    misses = _misses(outcome)
    if misses is not None:
        yield "worst misses", misses


def _at_budget(part: Part, alert: np.ndarray, roles: Roles) -> Iterator[tuple[str, float]]:
    """What the alerts find: shares of the frauds and of their money, and how many of the alerts are right."""
    stolen = part.weights * (part.labels == 1)
    yield "recall_at_budget", float(stolen[alert].sum() / stolen.sum())
    if alert.any():
        yield "precision_at_budget", float(stolen[alert].sum() / part.weights[alert].sum())
    if roles.amount:
        money = stolen * part.frame[roles.amount].abs().to_numpy()
        yield "money_caught_at_budget", float(money[alert].sum() / money.sum())
    if roles.time:
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
            interval = _average_precision(here, outcome.headline_scores[at], outcome.splits.clusters)
            rows.append((name, value, len(here), int(here.labels.sum()), share, interval))
    return pd.DataFrame(rows, columns=["slice", "part", "rows", "frauds", "share of frauds", "interval"])


def _average_precision(part: Part, scores: np.ndarray, clusters: Sequence[str]) -> Interval | None:
    """The network's average precision with its interval; None where too few frauds are independent of one another."""
    frauds = part.frame[part.labels == 1]
    if min([len(frauds), *(frauds[column].nunique() for column in clusters)]) < FEWEST_FRAUDS:
        return None
    ties = {column: part.frame[column] for column in clusters}
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
