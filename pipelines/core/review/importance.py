"""Permutation importance: which inputs carry a result (Breiman 2001, Random Forests, section 10)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pipelines.core.data.arrays import Encoded, Part
from pipelines.core.training.batches import predict
from pipelines.core.training.trial import Outcome

ROWS = 5_000
"""Test records that are scored anew for each input, at most."""
MOST = 3


def strongest(outcome: Outcome) -> list[str]:
    """The inputs without which the network's headline figure falls most, each with the figure that is left.

    The columns of an input table are shuffled one by one, those of one quantity (such as "time of day, sine") together;
    any other input, such as an image, as a whole.
    """
    pipeline, facts = outcome.pipeline, outcome.facts
    headline, task = pipeline.headline, pipeline.task
    part = outcome.headline.sample(ROWS, 0)
    names = {name: getattr(rows, "names", None) for name, rows in pipeline.data.encode(part.data, facts).inputs.items()}
    x, y = part.x(), part.y()
    own = part.data.take(part.rows)

    def figure(inputs: dict[str, np.ndarray]) -> float:
        shuffled = Part(own, np.arange(len(own)), Encoded(inputs, y))
        measures = task.measures(task.scores(predict(outcome.network, shuffled), facts), shuffled)
        return task.metrics(facts)[headline.name](measures)(part.weights)

    sign, usual, order = 1 if headline.higher else -1, figure(x), np.random.default_rng(0).permutation(len(own))
    left = {}
    for name, columns, label in _quantities(x, names):
        values = x[name].copy()
        values[..., columns] = values[order][..., columns]
        left[label] = figure(x | {name: values})
    falls = sorted(left, key=lambda label: sign * left[label])
    return [
        f"{label} ({headline.words} {left[label]:.3f} when it is shuffled)"
        for label in falls[:MOST]
        if sign * (usual - left[label]) > 0
    ]


def _quantities(
    inputs: dict[str, np.ndarray], names: dict[str, list[str] | None]
) -> Iterator[tuple[str, np.ndarray | slice, str]]:
    """(input, its columns to shuffle together, what they are called)."""
    for name, values in inputs.items():
        if values.ndim != 2:
            yield name, slice(None), name
            continue
        columns = names[name] or [f"{name} {number + 1}" for number in range(values.shape[1])]
        quantities = [column.partition(",")[0] for column in columns]
        for quantity in dict.fromkeys(quantities):
            yield name, np.flatnonzero([one == quantity for one in quantities]), quantity
