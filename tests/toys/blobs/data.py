"""Read, split, learn, encode."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from pipelines.core.contract import Capabilities, InputError
from pipelines.core.data.arrays import Encoded
from pipelines.core.data.dataset import Dataset
from pipelines.core.data.splits import Splits
from pipelines.core.evaluation.calibration import Calibration
from toys.blobs import demo


@dataclass(frozen=True)
class About:
    pass


@dataclass(frozen=True)
class Facts:
    classes: tuple[str, ...] = ("left", "right")
    features: tuple[str, ...] = ("a", "b")
    notes: tuple[str, ...] = ()
    calibration: Calibration | None = None


def read(path, settings):
    return parse(demo.make() if path is None else pd.read_csv(path), Facts())


def parse(table, facts):
    for missing in sorted({"subject", *facts.features} - set(table)):
        raise InputError(f"expected the column '{missing}'. Received: {', '.join(table)}.")
    label = table.get("class", pd.Series(np.nan, table.index))
    known = {"labelled": label.notna(), "label": label.fillna(-1).astype(int)}
    records = table[list(facts.features)].assign(id=np.arange(len(table)), group=table["subject"], **known)
    return Dataset(records, About(), key=("group", "a", "b"))


def describe(data):
    return f"{len(data)} points"


def split(data, settings):
    fold = data.records["group"] % 5
    train, validation, test = (np.flatnonzero(side & data.labelled) for side in (fold > 1, fold == 1, fold == 0))
    return replace(select_test(data, test), train=train, validation=validation, rule="by subject")


def select_test(data, test):
    return Splits(test[:0], test[:0], test, clusters=("group",))


def learn(train, settings):
    return Facts()


def encode(data, facts):
    points = data.records[list(facts.features)].to_numpy(np.float32)
    return Encoded({"point": points}, {"class": data.records["label"].to_numpy()})


def columns(facts):
    return {"subject": ("long", True), "a": ("double", True), "b": ("double", True), "class": ("double", False)}


def example(data, facts):
    return data.records[["group", *facts.features]].rename(columns={"group": "subject"})


CAPABILITIES = Capabilities(example=example)
