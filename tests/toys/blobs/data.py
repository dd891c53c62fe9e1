"""Read, split, learn, decode."""

from dataclasses import replace

import numpy as np
import pandas as pd

from pipelines.core.contract import InputError
from pipelines.core.data.splits import Splits
from toys.blobs import demo


def read(path, settings):
    return parse(demo.make() if path is None else pd.read_csv(path), {})


def parse(table, facts):
    for missing in sorted({"subject", "a", "b"} - set(table)):
        raise InputError(f"expected the column '{missing}'. Received: {', '.join(table)}.")
    label = table.get("class", pd.Series(-1, table.index)).fillna(-1).astype(int)
    return table[["a", "b"]].assign(id=np.arange(len(table)), group=table["subject"], label=label)


def describe(records):
    return f"{len(records)} points"


def split(records, settings):
    fold = records["group"] % 5
    train, validation, test = (np.flatnonzero(side) for side in (fold > 1, fold == 1, fold == 0))
    return replace(judged(records, test), train=train, validation=validation, rule="by subject")


def judged(records, test):
    return Splits(test[:0], test[:0], test, clusters=("group",))


def learn(train, settings):
    return {"features": ["a", "b"]}


def decode(records, facts):
    return {"point": records[facts["features"]].to_numpy(np.float32)}


def columns(facts):
    return {"subject": ("long", True), "a": ("double", True), "b": ("double", True), "class": ("double", False)}


def request(records, facts):
    return records[["group", "a", "b"]].rename(columns={"group": "subject"})
