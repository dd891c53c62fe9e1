"""Arrays of records: the network's inputs and targets, gathered without being copied first, and parts of a split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pandas as pd

from pipelines.core.data.dataset import Dataset


class Rows(Protocol):
    """One input or target over all records: an array, a memory map, or a lazy window over an entity's past."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> Any: ...
    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray: ...


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


@dataclass(frozen=True, eq=False)
class Encoded:
    """What the network reads and what it is fitted to, by name, each over every record of a dataset.

    `targets` may be empty where nothing is known of them, as in a request. With one target the network has one output;
    with several, its outputs bear their names.
    """

    inputs: Mapping[str, Rows]
    targets: Mapping[str, Rows] = field(default_factory=dict)

    def materialised(self) -> Encoded:
        """The same for training, which gathers every row many times.

        An input that is slow to compute has a method `materialised`, which returns it in memory unless it is too large.
        """
        found = {n: rows.materialised() if hasattr(rows, "materialised") else rows for n, rows in self.inputs.items()}
        return Encoded(found, self.targets)


@dataclass(frozen=True, eq=False)
class Part:
    """Some rows of a dataset, such as one side of a split, with their inputs and targets.

    Attributes:
        data: every record, context included.
        rows: int64 positions in `data` that belong to this part, (n,).
        encoded: inputs and targets over every record of `data`.
    """

    data: Dataset[Any]
    rows: np.ndarray
    encoded: Encoded

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def inputs(self) -> Mapping[str, Rows]:
        """Inputs by name, each over every record of `data`."""
        return self.encoded.inputs

    @property
    def records(self) -> pd.DataFrame:
        """Every record of `data`."""
        return self.data.records

    @property
    def frame(self) -> pd.DataFrame:
        """The part's own records, in the order of `rows`."""
        return self.data.records.iloc[self.rows]

    @property
    def weights(self) -> np.ndarray:
        """Record weights, float64 (n,); ones where the records have none."""
        if "weight" not in self.data:
            return np.ones(len(self))
        return self.data.records["weight"].to_numpy(np.float64)[self.rows]

    @property
    def labels(self) -> np.ndarray:
        """The only target, (n, …).

        Raises:
            ValueError: if there are several targets, or none.
        """
        (target,) = self.encoded.targets.values()
        return target[self.rows]

    def x(self, at: np.ndarray | slice = slice(None)) -> dict[str, np.ndarray]:
        """Inputs of the rows at positions `at` of this part (all by default)."""
        rows = self.rows[at]
        return {name: values[rows] for name, values in self.encoded.inputs.items()}

    def y(self, at: np.ndarray | slice = slice(None)) -> dict[str, np.ndarray]:
        """Targets of the rows at positions `at` of this part (all by default)."""
        rows = self.rows[at]
        return {name: values[rows] for name, values in self.encoded.targets.items()}

    def take(self, positions: np.ndarray) -> Part:
        """The part that holds only these positions (or this mask) of it."""
        return Part(self.data, self.rows[positions], self.encoded)

    def sample(self, most: int, seed: int) -> Part:
        """At most `most` rows drawn without replacement, in ascending order."""
        if len(self) <= most:
            return self
        rng = np.random.default_rng(seed)
        return self.take(np.sort(rng.choice(len(self), most, replace=False)))


def only(values: Mapping[str, np.ndarray]) -> Any:
    """The array where there is one, as Keras takes it; else the mapping."""
    return next(iter(values.values())) if len(values) == 1 else dict(values)
