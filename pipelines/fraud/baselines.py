"""What the network has to beat, from trivial to strong, on the same rows and the same inputs."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from pipelines.core.pipeline import Settings
from pipelines.core.rows import Part, Rows
from pipelines.fraud.history import CATEGORIES, PAYMENT, entities

Predict = Callable[[Part], np.ndarray]

EVENTS = 3
"""Latest events of each entity that the trees see as columns."""
LEGITIMATE = 300_000
"""Legitimate training payments that a baseline is fitted on; where there are more, each stands for several."""
TREES = (
    {"max_leaf_nodes": 15, "l2_regularization": 10.0, "max_iter": 200},
    {"max_leaf_nodes": 7, "l2_regularization": 1.0, "max_iter": 200},
    {"max_leaf_nodes": 31, "l2_regularization": 30.0, "max_iter": 200},
)
"""Settings that the validation payments choose from, by average precision; the first where there are no frauds."""


def baselines(facts: dict, settings: Settings, train: Part, validation: Part) -> Iterator[tuple[str, Predict]]:
    """Yields (name, predict); predict gives one score a payment, float64 (n,), higher for the likelier fraud."""
    rate = np.average(train.labels, weights=train.weights)
    yield "prevalence", lambda part: np.full(len(part), rate)
    amount = facts["roles"]["amount"]
    if amount:
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


def _logistic_regression(facts: dict, sample: Part, weights: np.ndarray) -> Predict:
    """On the payment's columns, log-scaled and standardised, with a flag for what is missing, and its categories."""
    numbers = make_pipeline(
        FunctionTransformer(_signed_log),
        StandardScaler(),
        SimpleImputer(strategy="constant", fill_value=0.0, add_indicator=True, keep_empty_features=True),
    )
    width = sample.inputs[PAYMENT].shape[1]
    columns = [
        ("numbers", numbers, slice(0, width)),
        ("codes", OneHotEncoder(handle_unknown="ignore"), slice(width, None)),
    ]
    model = make_pipeline(
        ColumnTransformer(columns[: 1 + bool(facts["categorical"])]), LogisticRegression(max_iter=300)
    )
    model.fit(_flat(sample), sample.labels, logisticregression__sample_weight=weights)
    return lambda part: model.predict_proba(_flat(part))[:, 1]


def _trees(facts: dict, settings: Settings, sample: Part, weights: np.ndarray, validation: Part) -> Predict:
    """Boosted trees on the payment's columns, its categories and the latest events of each entity."""
    events = entities(facts)
    width = sample.inputs[PAYMENT].shape[1]
    categorical = [width + at for at, values in enumerate(facts["categorical"].values()) if len(values) < 255]
    shared = {"learning_rate": 0.05, "early_stopping": False, "random_state": settings.seed}

    def predict(model: HistGradientBoostingClassifier, part: Part) -> np.ndarray:
        return model.predict_proba(_flat(part, events))[:, 1]

    def reached(model: HistGradientBoostingClassifier) -> float:
        scores = predict(model, validation)
        return average_precision_score(validation.labels, scores, sample_weight=validation.weights)

    choice = TREES if (validation.labels == 1).any() else TREES[:1]
    models = [HistGradientBoostingClassifier(**each, **shared, categorical_features=categorical) for each in choice]
    x = _flat(sample, events)
    for model in models:
        model.fit(x, sample.labels, sample_weight=weights)
    return partial(predict, models[0] if len(models) == 1 else max(models, key=reached))


def _flat(part: Part, events: Sequence[str] = ()) -> np.ndarray:
    """The payment's columns and categories, and the latest `EVENTS` events of the given entities, (n, columns)."""
    columns = [part.inputs[name][part.rows] for name in (PAYMENT, CATEGORIES) if name in part.inputs]
    return np.concatenate(columns + [_latest(part.inputs[entity], part.rows) for entity in events], axis=1)


def _latest(history: Rows, rows: np.ndarray) -> np.ndarray:
    """The latest events of each payment side by side; gathered in pieces, since the network's input is far longer."""
    pieces = [history[piece][:, -EVENTS:, 1:] for piece in np.array_split(rows, len(rows) // 50_000 + 1)]
    return np.concatenate(pieces).reshape(len(rows), -1)


def _signed_log(values: np.ndarray) -> np.ndarray:
    return np.sign(values) * np.log1p(np.abs(values))
