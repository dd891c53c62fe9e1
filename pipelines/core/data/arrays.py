"""Rows, Part and Request: how records reach a network or a baseline without being copied first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd


class Rows(Protocol):
    """One network input over all records: an array, a memory map, or a lazy window over an entity's past."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> Any: ...
    def __getitem__(self, rows: np.ndarray) -> np.ndarray: ...


class Gathered:
    """The rows at `places` of several arrays, such as memory maps, numbered one array after the other.

    They are read when they are asked for.
    """

    def __init__(self, arrays: Sequence[Rows], places: np.ndarray) -> None:
        self.arrays, self.places = arrays, places
        self.begins = np.cumsum([0, *(array.shape[0] for array in arrays)])
        self.shape, self.dtype = (len(places), *arrays[0].shape[1:]), arrays[0].dtype

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        places = self.places[rows]
        of_array = np.searchsorted(self.begins, places, side="right") - 1
        gathered = np.empty((len(places), *self.shape[1:]), self.dtype)
        for number in np.unique(of_array):
            here = of_array == number
            gathered[here] = self.arrays[number][places[here] - self.begins[number]]
        return gathered


def held(inputs: Mapping[str, Rows]) -> dict[str, Rows]:
    """Inputs for who gathers every row again and again, as training does.

    An input that is dear to compute has a method `held`, which gives the same rows in memory, if they are not too many.
    """
    return {name: values.held() if hasattr(values, "held") else values for name, values in inputs.items()}


@dataclass(frozen=True, eq=False)
class Part:
    """One side of a split: some rows of the shared inputs, with their labels and weights.

    Attributes:
        records: every record, context included; shape (records,).
        rows: int64 positions in `records` that belong to this part, shape (n,).
        inputs: network inputs by name, each over every record.
    """

    records: pd.DataFrame
    rows: np.ndarray
    inputs: Mapping[str, Rows]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def frame(self) -> pd.DataFrame:
        """The part's own records, in the order of `rows`."""
        return self.records.iloc[self.rows]

    @property
    def labels(self) -> np.ndarray:
        """Labels, shape (n,); where the records' attrs name columns as `targets`, these, shape (n, targets)."""
        return self.records[self.records.attrs.get("targets", "label")].to_numpy()[self.rows]

    @property
    def weights(self) -> np.ndarray:
        """Record weights, float64, shape (n,); ones where the records carry none."""
        if "weight" not in self.records:
            return np.ones(len(self))
        return self.records["weight"].to_numpy(np.float64)[self.rows]

    def x(self, at: np.ndarray | slice = slice(None)) -> dict[str, np.ndarray]:
        """Network inputs of the rows at positions `at` of this part (all by default)."""
        rows = self.rows[at]
        return {name: values[rows] for name, values in self.inputs.items()}

    def take(self, positions: np.ndarray) -> Part:
        """The part that holds only these positions (or this mask) of it."""
        return Part(self.records, self.rows[positions], self.inputs)

    def sample(self, most: int, seed: int) -> Part:
        """At most `most` rows drawn without replacement, in ascending order."""
        if len(self) <= most:
            return self
        rng = np.random.default_rng(seed)
        return self.take(np.sort(rng.choice(len(self), most, replace=False)))
