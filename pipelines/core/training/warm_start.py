"""Warm start: a network that begins with the weights of a registered version, as far as they fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import keras
import numpy as np

from pipelines.core.contract import InputError
from pipelines.core.data.arrays import Rows


@dataclass(frozen=True, eq=False)
class Start:
    """The version that a network starts from.

    Attributes:
        name, number: of the registered version.
        ancestors: numbers of the version and of those that it goes back to, separated by spaces.
        network: its network; None where it is no longer needed.
        facts: what it learnt from its training records.
    """

    name: str
    number: int
    ancestors: str
    network: keras.Model
    facts: Any

    def adapted(self, learnt: Any, adapted: Any, inputs: Mapping[str, Rows]) -> Any:
        """The facts for a network that starts from this version: what `adapt` adds is the version's if inputs match.

        Args:
            learnt: facts before `adapt`.
            adapted: facts after it.
            inputs: of the new network.

        Raises:
            InputError: where the version's inputs have other names.
        """
        shapes = {tensor.name: tuple(tensor.shape[1:]) for tensor in self.network.inputs}
        given = {name: tuple(rows.shape[1:]) for name, rows in inputs.items()}
        if set(shapes) != set(given):
            raise InputError(
                f"--from: expected data for the inputs of version {self.number}, {', '.join(shapes)}. "
                f"Received: {', '.join(given)}."
            )
        if shapes != given:
            return adapted
        added = [one.name for one in fields(adapted) if getattr(learnt, one.name) != getattr(adapted, one.name)]
        return replace(adapted, **{name: getattr(self.facts, name) for name in added})


def reuse(network: keras.Model, start: Start) -> str:
    """Copy weights and normalisation into `network`, layer by layer where the shapes fit; say what was reused.

    Layers correspond by their class and their place among those of it. An embedding or an output layer that has grown
    keeps what it knew in its first rows, or columns, and is new behind.
    """
    before, reused, grown, fresh = _layers(start.network), 0, [], []
    outputs = {id(tensor) for tensor in network.outputs}
    for key, layer in _layers(network).items():
        old = before.get(key)
        mine, theirs = _shapes(layer), _shapes(old) if old else []
        if old is not None and mine == theirs:
            layer.set_weights(old.get_weights())
            if isinstance(layer, keras.layers.Normalization):
                layer.input_mean, layer.input_variance = old.input_mean, old.input_variance
                layer.mean, layer.variance = old.mean, old.variance
            reused += 1
        elif old and _grown(layer, outputs, mine, theirs):
            layer.set_weights([_laid_over(*pair) for pair in zip(layer.get_weights(), old.get_weights(), strict=True)])
            grown.append(f"{layer.name} from {theirs[0]} to {mine[0]}")
        else:
            fresh.append(layer.name)
    summary = f"Starts from version {start.number} of {start.name}: {reused} layers as they were"
    summary += f"; grown: {', '.join(grown)}" if grown else ""
    return summary + (f"; new: {', '.join(fresh)}." if fresh else ".")


def _layers(network: keras.Model) -> dict[tuple[str, int], keras.Layer]:
    """The layers that have weights or normalise, by class and place among those of the class."""
    seen: Counter[str] = Counter()
    found = {}
    for layer in network.layers:
        if _shapes(layer):
            kind = type(layer).__name__
            found[kind, seen[kind]] = layer
            seen[kind] += 1
    return found


def _shapes(layer: keras.Layer) -> list[tuple[int, ...]]:
    """Shapes of the layer's weights, for a normalisation of constants those of these."""
    if isinstance(layer, keras.layers.Normalization):
        return [tuple(layer.mean.shape), tuple(layer.variance.shape)]
    return [tuple(weight.shape) for weight in layer.weights]


def _grown(layer: keras.Layer, outputs: set[int], mine: list[tuple[int, ...]], theirs: list[tuple[int, ...]]) -> bool:
    """Whether an embedding has more rows, or an output layer more columns, than the layer with the other shapes."""
    embedding = isinstance(layer, keras.layers.Embedding)
    if len(mine) != len(theirs) or not (embedding or id(layer.output) in outputs):
        return False
    axis, kept = (0, slice(1, None)) if embedding else (-1, slice(-1))
    return all(a[kept] == b[kept] and a[axis] >= b[axis] for a, b in zip(mine, theirs, strict=True))


def _laid_over(whole: np.ndarray, part: np.ndarray) -> np.ndarray:
    """`whole` with `part` at its beginning."""
    whole = whole.copy()
    whole[tuple(map(slice, part.shape))] = part
    return whole
