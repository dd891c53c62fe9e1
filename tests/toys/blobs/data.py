"""Read, split, learn, decode."""

import numpy as np
import pandas as pd

from pipelines.core.pipeline import InputError, Splits


def read(path, settings):
    from toys.blobs import demo

    return parse(demo.make() if path is None else pd.read_csv(path), {})


def parse(table, facts):
    missing = {"subject", "a", "b"} - set(table)
    if missing:
        raise InputError(f"expected the column '{min(missing)}'. Received: {', '.join(table)}.")
    label = table["class"] if "class" in table else pd.Series(-1, table.index)
    return table[["a", "b"]].assign(
        id=np.arange(len(table)), group=table["subject"], label=label.fillna(-1).astype(int)
    )


def split(records, settings):
    fold = records["group"] % 5
    sides = (np.flatnonzero(fold > 1), np.flatnonzero(fold == 1), np.flatnonzero(fold == 0))
    return Splits(*sides, rule="by subject, three fifths to one to one", clusters=("group",))


def learn(train, settings):
    return {"features": ["a", "b"]}


def decode(records, facts):
    return {"point": records[facts["features"]].to_numpy(np.float32)}


def columns(facts):
    return {"subject": ("long", True), "a": ("double", True), "b": ("double", True), "class": ("double", False)}
