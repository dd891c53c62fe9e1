"""Small datasets and parts, made of columns and arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipelines.core.data.arrays import Encoded, Part
from pipelines.core.data.dataset import Dataset
from pipelines.core.evaluation.promises import Promise
from pipelines.core.report.items import Item


@dataclass(frozen=True)
class About:
    """Nothing was recognised about the data."""


def dataset(records: pd.DataFrame | Mapping[str, Any], key: Sequence[str] = ("id",), **about: Any) -> Dataset[Any]:
    """The table or columns as a dataset; without them ids are numbers, and every record is labelled."""
    records = pd.DataFrame(records)
    missing = {"id": np.arange(len(records)), "labelled": True}
    records = records.assign(**{name: values for name, values in missing.items() if name not in records})
    return Dataset(records, **{"about": About(), "key": tuple(key), **about})


def part(
    inputs: Mapping[str, Any],
    targets: Any = None,
    rows: np.ndarray | None = None,
    records: pd.DataFrame | Mapping[str, Any] | None = None,
) -> Part:
    """The rows (all by default) of as many records as the inputs have, with targets: an array, or arrays by name."""
    count = next(iter(inputs.values())).shape[0]
    named = targets if isinstance(targets, Mapping) else {} if targets is None else {"label": targets}
    columns = named if all(np.ndim(values) == 1 for values in named.values()) else {}
    data = dataset(pd.DataFrame(columns, index=range(count)) if records is None else records)
    return Part(data, np.arange(count) if rows is None else rows, Encoded(dict(inputs), dict(named)))


def contents(items):
    """What a report yields, by name."""
    return {Item(*item).name: Item(*item).content for item in items}


def without_words(items):
    """Names of figures and tables without a caption of a sentence, and of numbers that say nothing but their name."""
    found = []
    for item in (Item(*item) for item in items):
        if isinstance(item.content, pd.DataFrame | Figure):
            enough = len(item.caption.split()) >= (10 if item.shown else 4) and item.caption.endswith(".")
        else:
            enough = isinstance(item.content, bytes | Promise) or len(item.caption.split()) >= 2
        found += [] if enough else [item.name]
    return found
