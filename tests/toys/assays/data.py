"""Records whose targets are several columns, with missing cells."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from pipelines.core.contract import Capabilities, InputError
from pipelines.core.data.arrays import Encoded
from pipelines.core.data.dataset import Dataset
from pipelines.core.data.splits import Splits
from toys.assays import demo

TARGETS = ["solubility", "binding"]


@dataclass(frozen=True)
class About:
    unit: str = "log mol/l"


@dataclass(frozen=True)
class Facts:
    means: tuple[float, ...]
    features: tuple[str, ...] = ("x0", "x1", "x2")
    notes: tuple[str, ...] = ()


def read(path, settings):
    return parse(demo.make() if path is None else pd.read_csv(path), Facts(()))


def parse(table, facts):
    for missing in sorted({"family", *facts.features} - set(table)):
        raise InputError(f"expected the column '{missing}'. Received: {', '.join(table)}.")
    records = table.reindex(columns=[*facts.features, *TARGETS]).assign(id=np.arange(len(table)), group=table["family"])
    return Dataset(records.assign(labelled=records[TARGETS].notna().any(axis=1)), About(), ("group", *facts.features))


def describe(data):
    return f"{len(data)} compounds, {data.about.unit}"


def split(data, settings):
    fold = data.records["group"] % 5
    train, validation, test = (np.flatnonzero(side & data.labelled) for side in (fold > 1, fold == 1, fold == 0))
    return replace(select_test(data, test), train=train, validation=validation, rule="by family")


def select_test(data, test):
    return Splits(test[:0], test[:0], test, clusters=("group",))


def learn(train, settings):
    return Facts(tuple(train.records[TARGETS].mean()))


def encode(data, facts):
    inputs = data.records[list(facts.features)].to_numpy(np.float32)
    return Encoded({"descriptors": inputs}, {"targets": data.records[TARGETS].to_numpy(np.float32)})


def columns(facts):
    return {"family": ("long", True)} | dict.fromkeys(facts.features, ("double", True))


def example(data, facts):
    return data.records[["group", *facts.features]].rename(columns={"group": "family"})


CAPABILITIES = Capabilities(example=example)
