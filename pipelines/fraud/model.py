"""The fraud network: one tower for the payment, and one for the latest events of each entity.

The payment's tower reads how the payment stands to its entities' past, and their very latest events one by one. Two
convolutions read a longer row of events, whose order and distance in time no sum over a window holds.

Frauds begin and end at sharp edges (an amount, a number of days since a terminal's first fraud) that no network of
this size finds in a column standardised to mean 0. Each number is therefore cut into bins at the edges that best part
frauds from the rest in the training payments, and enters twice: as the share of each bin that it has filled
(piecewise-linear encoding: Gorishniy, Rubachev and Babenko (2022), On embeddings for numerical features in tabular
deep learning) and as the edges that it has passed. The encoding is part of the network.
"""

import keras
import numpy as np
from keras import KerasTensor, layers, ops
from sklearn.tree import DecisionTreeClassifier

from pipelines.core.pipeline import Settings
from pipelines.fraud.history import CATEGORIES, CHANNELS, LATEST, PAYMENT, STEPS, entities

LOSS = keras.losses.BinaryCrossentropy()

LEGITIMATE_PER_FRAUD = 20
"""Legitimate training payments per fraud among which edges are sought; more take longer and move them little."""
SMALLEST_BIN = 10  # payments
MINUTE = 1 / 1440  # days


def build(facts: dict, settings: Settings, x: dict[str, np.ndarray], y: np.ndarray) -> keras.Model:
    """The network: inputs as `history.inputs` gives them, one output (n, 1), the probability of fraud.

    Args:
        facts: as learnt from the training payments.
        settings: `bins`, `width`, `depth` and `dropout` shape the network.
        x: inputs of some training payments by name, at which the edges of the bins are found.
        y: their labels, 0 or 1, (n,).
    """
    inputs = {PAYMENT: keras.Input(x[PAYMENT].shape[1:], name=PAYMENT)}
    inputs |= {entity: keras.Input((STEPS, len(CHANNELS)), name=entity) for entity in entities(facts)}
    values = ops.convert_to_numpy(_columns(x, facts))
    towers = [_binned(_columns(inputs, facts), values, y, settings.bins)]
    if facts["categorical"]:
        codes = inputs[CATEGORIES] = keras.Input((len(facts["categorical"]),), name=CATEGORIES, dtype="int32")
        for column, seen in enumerate(facts["categorical"].values()):
            towers.append(layers.Embedding(len(seen) + 1, min(16, len(seen)))(codes[:, column]))
    judged = layers.Dense(settings.width, activation="relu")(ops.concatenate(towers, axis=-1))
    judged = layers.Dropout(settings.dropout)(judged)

    towers = [judged]
    for entity in entities(facts):
        towers.append(layers.Dropout(settings.dropout)(_read(inputs[entity], settings.width // 4)))
    hidden = ops.concatenate(towers, axis=-1)
    for _ in range(settings.depth - 1):
        hidden = layers.Dropout(settings.dropout)(layers.Dense(settings.width, activation="relu")(hidden))
    probability = layers.Dense(1, activation="sigmoid", dtype="float32", name="probability")(hidden)
    return keras.Model(inputs, probability, name="fraud")


def _columns(inputs: dict, facts: dict) -> KerasTensor:
    """The payment's columns and the very latest events of each entity side by side, (n, columns)."""
    width = LATEST * (len(CHANNELS) - 1)
    latest = [ops.reshape(inputs[entity][:, -LATEST:, 1:], (-1, width)) for entity in entities(facts)]
    return ops.concatenate([inputs[PAYMENT], *latest], axis=1)


def _binned(columns: KerasTensor, values: np.ndarray, labels: np.ndarray, bins: int) -> KerasTensor:
    """Encodes (n, F) columns as (n, F x (2 bins + 1)): shares of bins filled, edges passed, and what is missing."""
    edges, lows, slopes = _bins(values, labels, bins)
    missing = ops.isnan(columns)
    filled = ops.where(missing, np.float32(-1e9), columns)[..., None]  # below every bin
    shares = ops.clip((filled - lows) * slopes, 0.0, 1.0)
    passed = ops.cast(filled >= edges, "float32")
    encoded = ops.concatenate([shares, passed, ops.cast(missing, "float32")[..., None]], axis=-1)
    return layers.Flatten(dtype="float32")(encoded)


def _bins(values: np.ndarray, labels: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inner edges, lower ends and slopes (1 / width) of each column's bins, float32 (F, bins - 1), twice (F, bins).

    A column with fewer bins is padded by edges that no value passes and bins that none fills.
    """
    rng = np.random.default_rng(0)
    frauds, rest = np.flatnonzero(labels == 1), np.flatnonzero(labels != 1)
    rest = rng.permutation(rest)[: LEGITIMATE_PER_FRAUD * max(len(frauds), 100)]
    sample = np.concatenate([frauds, rest])
    edges = np.full((values.shape[1], bins - 1), np.inf, np.float32)
    lows = np.zeros((values.shape[1], bins), np.float32)
    slopes = np.zeros((values.shape[1], bins), np.float32)
    for column, numbers in enumerate(values[sample].T):
        known = np.isfinite(numbers)
        inner = _edges(numbers[known], labels[sample][known], bins)
        if known.any():
            low, high = np.quantile(numbers[known], [0.001, 0.999])
            ends = np.concatenate([[low], inner[(low < inner) & (inner < high)], [max(high, low + 1e-6)]])
            edges[column, : len(inner)] = inner
            lows[column, : len(ends) - 1] = ends[:-1]
            slopes[column, : len(ends) - 1] = 1 / np.diff(ends)
    return edges, lows, slopes


def _edges(numbers: np.ndarray, labels: np.ndarray, bins: int) -> np.ndarray:
    """The edges of at most `bins` bins that best part the frauds, ascending: the thresholds of a decision tree."""
    if len(numbers) < 2 * SMALLEST_BIN:
        return np.empty(0)
    tree = DecisionTreeClassifier(
        max_leaf_nodes=bins, min_samples_leaf=SMALLEST_BIN, criterion="entropy", random_state=0
    )
    tree.fit(numbers[:, None], labels)
    return np.unique(tree.tree_.threshold[tree.tree_.feature >= 0])


def _read(events: KerasTensor, width: int) -> KerasTensor:
    """What two convolutions find among the latest events of an entity, (n, STEPS, CHANNELS): (n, 3 x width)."""
    exists, age = events[..., :1], events[..., CHANNELS.index("age") :][..., :1]
    # Ages count by their order of magnitude: bursts are minutes apart, habits weeks. About -1 to 3.
    magnitude = exists * (ops.log(age + MINUTE) - np.log(MINUTE) - 4) / 4
    found = ops.concatenate([events, magnitude], axis=-1)
    found = layers.Conv1D(width, 3, padding="causal", activation="relu")(found)
    found = layers.Conv1D(width, 3, padding="causal", strides=2, activation="relu")(found)
    return ops.concatenate([ops.max(found, axis=1), ops.mean(found, axis=1), found[:, -1]], axis=-1)
