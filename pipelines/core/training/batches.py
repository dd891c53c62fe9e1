"""Batches: the only feeder of `fit` and `predict`, on every backend."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from pipelines.core.data.arrays import Part, only

MOST, MOST_BYTES = 8_192, 8 << 20
"""Rows of a batch that is not trained on, and bytes of their inputs; layers make many times as many of these."""

Augment = Callable[[dict[str, np.ndarray], Any, np.random.Generator], tuple[dict[str, np.ndarray], Any]]
"""From inputs by name, targets and a generator, to inputs and targets; targets are an array, or arrays by name."""


class Batches(keras.utils.PyDataset):
    """A part's rows in batches.

    With a seed the rows are shuffled anew each epoch and `augment` is drawn anew for each record; both generators are
    keyed by seed, epoch and batch, so that the order in which workers run changes nothing. Without a seed the rows
    come in order.
    """

    def __init__(
        self,
        part: Part,
        batch_size: int,
        seed: int | None = None,
        augment: Augment | None = None,
        workers: int = 1,
    ) -> None:
        super().__init__(workers=workers, max_queue_size=16)
        self.part, self.batch_size, self.seed, self.augment = part, batch_size, seed, augment
        self._epoch = 0
        self._shuffle()

    def __len__(self) -> int:
        return -(-len(self.part) // self.batch_size)

    def __getitem__(self, batch: int) -> tuple[dict[str, np.ndarray], Any]:
        at = self._order[batch * self.batch_size : (batch + 1) * self.batch_size]
        x, y = self.part.x(at), only(self.part.y(at))
        if self.augment is not None and self.seed is not None:
            x, y = self.augment(x, y, np.random.default_rng((self.seed, self._epoch, batch)))
        return x, y

    def on_epoch_end(self) -> None:
        self._epoch += 1
        self._shuffle()

    def _shuffle(self) -> None:
        self._order = np.arange(len(self.part))
        if self.seed is not None:
            np.random.default_rng((self.seed, self._epoch)).shuffle(self._order)


def prediction_batch_size(part: Part) -> int:
    """Rows of the part in a batch for prediction: at most MOST, whose inputs take at most MOST_BYTES."""
    row = sum(np.dtype(rows.dtype).itemsize * math.prod(rows.shape[1:]) for rows in part.inputs.values())
    return max(min(MOST, MOST_BYTES // max(row, 1)), 1)


def predict(model: keras.Model, part: Part) -> Any:
    """The network's outputs for every row of the part, in order: float32 (n, …), or arrays by output name."""
    size = prediction_batch_size(part)
    # Not `model.predict`, which makes a pipeline of data anew in every call: a fifth of the time of scoring payments.
    outputs = [model.predict_on_batch(part.x(slice(at, at + size))) for at in range(0, len(part), size)]
    if isinstance(outputs[0], dict):
        return {name: np.concatenate([some[name] for some in outputs]).astype(np.float32) for name in outputs[0]}
    return np.concatenate(outputs).astype(np.float32)
