"""Baselines on the same payments and the same inputs, from trivial to strong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from pipelines.core.data.arrays import Part, Rows
from pipelines.core.tasks.classification import Predict, prevalence
from pipelines.fraud import Settings
from pipelines.fraud.data import Facts
from pipelines.fraud.history import CATEGORIES, LATEST, PAYMENT
from pipelines.fraud.model import signed_log

LEGITIMATE = 150_000
"""Legitimate training payments that a baseline is fitted on; where there are more, each stands for several."""
TREES = {"learning_rate": 0.05, "max_iter": 200, "max_leaf_nodes": 15, "l2_regularization": 10.0}
"""Settings that did best on the validation folds of `make bench-fraud`, where the network's were chosen too."""
PATIENCE = 20
"""Rounds without a lower loss on the validation payments before no more trees are added."""


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
    model.fit(_fitted_to(sample), sample.labels, logisticregression__sample_weight=weights)
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
    model.fit(_fitted_to(sample, events), sample.labels, sample_weight=uneven, **judged)
    return lambda part: model.predict_proba(_flat(part, events))[:, 1]


def _fitted_to(part: Part, events: Sequence[str] = ()) -> np.ndarray:
    """What `_flat` gives, with 0 in columns without a number, which scikit-learn can neither bin nor scale."""
    columns = _flat(part, events)
    columns[:, np.isnan(columns).all(axis=0)] = 0
    return columns


def _flat(part: Part, events: Sequence[str] = ()) -> np.ndarray:
    """The payment's columns and categories, and the latest `LATEST` events of the given entities, (n, columns)."""
    columns = [part.inputs[name][part.rows] for name in (PAYMENT, CATEGORIES) if name in part.inputs]
    return np.concatenate(columns + [_latest(part.inputs[entity], part.rows) for entity in events], axis=1)


def _latest(history: Rows, rows: np.ndarray) -> np.ndarray:
    """The latest events of each payment side by side; gathered in pieces, since the network's input is far longer."""
    pieces = [history[piece][:, -LATEST:, 1:] for piece in np.array_split(rows, len(rows) // 50_000 + 1)]
    return np.concatenate(pieces).reshape(len(rows), -1)
