"""The fraud network: one tower for the payment, and one for the latest events of each entity.

The payment's tower reads how the payment stands to its entities' past, and their very latest events one by one. Two
convolutions read a longer row of events, whose order and distance in time no sum over a window holds.

Frauds begin and end at sharp edges (an amount, a number of days since a terminal's first fraud) that no network of
this size finds in a standardised column, and a smooth share of the risk is lost where a column is only cut into bins.
Each number therefore enters twice: standardised, and as the edges that it has passed (binning at the thresholds of a
decision tree: Gorishniy, Rubachev and Babenko (2022), On embeddings for numerical features in tabular deep learning).
With some thousand frauds to learn from, uninformative inputs do harm: an edge is kept only if its likelihood-ratio
statistic reaches EVIDENCE, and a column without an edge is left out.
The first layer multiplies what it finds by gates (Dauphin, Fan, Auli and Grangier (2017), Language modeling with gated
convolutional networks), because frauds show in conjunctions: online and dear and at night. The encoding is part of the
network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import keras
import numpy as np
from keras import KerasTensor, layers, ops
from sklearn.tree import DecisionTreeClassifier

from pipelines.fraud import Settings
from pipelines.fraud.data import Encoding, Facts
from pipelines.fraud.history import CATEGORIES, CHANNELS, LATEST, PAYMENT, STEPS

LOSS = keras.losses.BinaryCrossentropy()

LEGITIMATE_PER_FRAUD = 20
"""Legitimate training payments per fraud among which edges are sought; more take longer and move them little."""
SMALLEST_BIN = 10  # payments
EVIDENCE = 30.0
"""Likelihood-ratio statistic that an edge must reach; the best of 100,000 chance edges reaches about 20."""
FARTHEST = 5.0  # standard deviations from the mean, beyond which a number is taken to be there
MINUTE = 1 / 1440  # days


def adapt(facts: Facts, settings: Settings, x: Mapping[str, np.ndarray], y: np.ndarray) -> Facts:
    """The facts with the `encoding` that some training payments teach; arguments as for `build`."""
    values = ops.convert_to_numpy(_columns(x, facts))
    edges = _edges(values, y, settings.bins)
    informative = [place for place, found in enumerate(edges) if len(found)] or list(range(len(edges)))
    missing = np.flatnonzero(np.isnan(values[:, informative]).any(axis=0))
    encoding = Encoding(
        columns=tuple(informative),
        edges=tuple(tuple(edges[place].tolist()) for place in informative),
        missing=tuple(missing.tolist()),
        sizes=tuple(min(16, len(seen)) for seen in facts.categorical.values()),
    )
    return replace(facts, encoding=encoding)


def build(facts: Facts, settings: Settings, x: Mapping[str, np.ndarray], y: np.ndarray) -> keras.Model:
    """The network: inputs as `history.inputs` gives them, one output (n, 1), the probability of fraud.

    Args:
        facts: as learnt from the training payments, with `encoding` as `adapt` gives it.
        settings: `width`, `depth` and `dropout` shape the network.
        x: inputs of some training payments by name, whose means and deviations standardise the numbers.
        y: their labels, 0 or 1, (n,); not used.
    """
    encoding, entities = facts.encoding, facts.roles.tracked
    assert encoding is not None
    inputs = {PAYMENT: keras.Input(x[PAYMENT].shape[1:], name=PAYMENT)}
    inputs |= {entity: keras.Input((STEPS, len(CHANNELS)), name=entity) for entity in entities}
    informative = np.array(encoding.columns)
    columns = ops.take(_columns(inputs, facts), informative, axis=1)
    values = ops.convert_to_numpy(_columns(x, facts))[:, informative]
    edges = [np.array(thresholds) for thresholds in encoding.edges]
    parts = [_standardised(columns, values), _passed(columns, edges), _missing(columns, encoding.missing)]
    if facts.categorical:
        codes = inputs[CATEGORIES] = keras.Input((len(facts.categorical),), name=CATEGORIES, dtype="int32")
        for column, (seen, size) in enumerate(zip(facts.categorical.values(), encoding.sizes, strict=True)):
            parts.append(layers.Embedding(len(seen) + 1, size)(codes[:, column]))
    encoded = ops.concatenate(parts, axis=-1)
    gated = layers.Dense(settings.width)(encoded) * layers.Dense(settings.width, activation="sigmoid")(encoded)

    towers = [gated, *(_read(inputs[entity], settings.width // 4) for entity in entities)]
    hidden = ops.concatenate([layers.Dropout(settings.dropout)(tower) for tower in towers], axis=-1)
    for _ in range(settings.depth - 1):
        hidden = layers.Dropout(settings.dropout)(layers.Dense(settings.width, activation="relu")(hidden))
    probability = layers.Dense(1, activation="sigmoid", dtype="float32", name="probability")(hidden)
    return keras.Model(inputs, probability, name="fraud")


def _columns(inputs: Mapping[str, KerasTensor | np.ndarray], facts: Facts) -> KerasTensor:
    """The payment's columns and the very latest events of each entity side by side, (n, columns)."""
    width = LATEST * (len(CHANNELS) - 1)
    latest = [ops.reshape(inputs[entity][:, -LATEST:, 1:], (-1, width)) for entity in facts.roles.tracked]
    return ops.concatenate([inputs[PAYMENT], *latest], axis=1)


def signed_log(values: np.ndarray) -> np.ndarray:
    """Logarithm of 1 + the size of each value, with the value's sign."""
    return np.sign(values) * np.log1p(np.abs(values))


def _standardised(columns: KerasTensor, values: np.ndarray) -> KerasTensor:
    """Signed logarithms of the columns, with mean 0 and deviation 1 among the `values`; 0 where missing."""
    known = np.ma.masked_invalid(signed_log(values))
    mean, variance = known.mean(axis=0).filled(0), known.var(axis=0).filled(1)
    scale = layers.Normalization(mean=mean, variance=variance, dtype="float32")
    scaled = scale(ops.sign(columns) * ops.log1p(ops.abs(columns)))
    return ops.clip(ops.where(ops.isnan(scaled), np.float32(0), scaled), -FARTHEST, FARTHEST)


def _passed(columns: KerasTensor, edges: list[np.ndarray]) -> KerasTensor:
    """Whether each column has passed each of its edges, (n, edges) of 0 and 1; a missing value has passed none."""
    of_column = np.repeat(np.arange(len(edges)), [len(found) for found in edges])
    passed = ops.take(columns, of_column, axis=1) >= np.concatenate(edges).astype(np.float32)
    return ops.cast(passed, "float32")


def _missing(columns: KerasTensor, places: Sequence[int]) -> KerasTensor:
    """Whether a value is missing, 0 or 1, for each of the columns at these places."""
    return ops.cast(ops.isnan(ops.take(columns, np.array(places, int), axis=1)), "float32")


def _edges(values: np.ndarray, labels: np.ndarray, bins: int) -> list[np.ndarray]:
    """For each column the edges of the bins, at most `bins`, that best part the frauds, ascending; none if none do."""
    rng = np.random.default_rng(0)
    frauds, rest = np.flatnonzero(labels == 1), np.flatnonzero(labels != 1)
    rest = rng.permutation(rest)[: LEGITIMATE_PER_FRAUD * max(len(frauds), 100)]
    sample = np.concatenate([frauds, rest])
    return [_thresholds(numbers, labels[sample], bins) for numbers in values[sample].T]


def _thresholds(numbers: np.ndarray, labels: np.ndarray, bins: int) -> np.ndarray:
    """The thresholds of a decision tree of at most `bins` leaves on one column, ascending."""
    known = np.isfinite(numbers)
    if known.sum() < 2 * SMALLEST_BIN:
        return np.empty(0)
    tree = DecisionTreeClassifier(
        criterion="entropy",  # in bits, times the share of the rows; the statistic is 2 n times that in nats
        min_impurity_decrease=EVIDENCE / (2 * np.log(2) * known.sum()),
        max_leaf_nodes=bins,
        min_samples_leaf=SMALLEST_BIN,
        random_state=0,
    )
    tree.fit(numbers[known, None], labels[known])
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
