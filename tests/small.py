"""Small demo data of every pipeline, the toys among them, on which a trial takes seconds."""

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from bench import shuffled
from pipelines.core.contract import Pipeline, discover
from pipelines.core.data.dataset import Dataset
from pipelines.core.data.splits import Splits
from pipelines.stocks import demo

PIPELINES = [*discover().values(), *discover("toys").values()]
TARGETS = {
    "stocks": ["label", *discover()["stocks"].data.TARGETS],
    "assays": ["solubility", "binding"],
    "documents": ["sport", "law", "food"],
    "masks": ["mask"],
}
"""Columns of the records that hold what is predicted, where these are others than `label`."""


@dataclass(frozen=True, eq=False)
class Small:
    """A pipeline with small data, their split, and settings that train in seconds."""

    pipeline: Pipeline
    settings: Any
    data: Dataset
    splits: Splits

    @property
    def targets(self) -> list[str]:
        return TARGETS.get(self.pipeline.name, ["label"])

    def labelled_as(self, rows: np.ndarray, values: pd.DataFrame) -> "Small":
        """The same with other targets of these rows."""
        records = self.data.records.copy()
        for name in self.targets:
            column = records[name].to_numpy().copy()
            column[rows] = values[name].to_numpy()
            records[name] = column
        return replace(self, data=replace(self.data, records=records))


@cache
def small(name: str, **sizes: int) -> Small:
    """The pipeline of that name; `sizes` are arguments of the domain's maker of small data."""
    pipeline = next(one for one in PIPELINES if one.name == name)
    settings = pipeline.settings(**shuffled.QUICK.get(name, {"epochs": 2}))
    if name == "fraud":
        data = shuffled.written(pipeline, shuffled.payments(**sizes or {"customers": 60}), settings)
    elif name == "stocks":
        data = shuffled.written(pipeline, prices(**sizes), settings)
    elif name == "medical_images":
        data = shuffled.radiographs(settings, **sizes or {"images": 200})
    elif name == "speech_commands":
        data = shuffled.voices(settings, **sizes or {"count": 8})
    else:
        data = pipeline.data.read(None, settings)
    return Small(pipeline, settings, data, pipeline.data.split(data, settings))


def prices(days: int = 900) -> pd.DataFrame:
    """The latest days of the demo's indices."""
    table = demo.indices()
    return table[table["Date"] >= np.unique(table["Date"])[-days]]
