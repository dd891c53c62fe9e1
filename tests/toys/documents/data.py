"""Records with a target of several columns, none of which is missing alone."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from pipelines.core.contract import Capabilities, InputError
from pipelines.core.data.arrays import Encoded
from pipelines.core.data.dataset import Dataset
from pipelines.core.data.splits import Splits
from toys.documents import demo

TAGS = list(demo.TAGS)


@dataclass(frozen=True)
class About:
    pass


@dataclass(frozen=True)
class Facts:
    features: tuple[str, ...] = ("word0", "word1", "word2", "word3")
    notes: tuple[str, ...] = ()
    threshold: float = 0.5


def read(path, settings):
    return parse(demo.make() if path is None else pd.read_csv(path), Facts())


def parse(table, facts):
    for missing in sorted({"author", *facts.features} - set(table)):
        raise InputError(f"expected the column '{missing}'. Received: {', '.join(table)}.")
    records = table.reindex(columns=[*facts.features, *TAGS]).assign(id=np.arange(len(table)), group=table["author"])
    records["labelled"] = records[TAGS].notna().all(axis=1)
    return Dataset(records, About(), ("group", *facts.features))


def describe(data):
    return f"{len(data)} documents"


def split(data, settings):
    fold = data.records["group"] % 5
    train, validation, test = (np.flatnonzero(side & data.labelled) for side in (fold > 1, fold == 1, fold == 0))
    return replace(select_test(data, test), train=train, validation=validation, rule="by author")


def select_test(data, test):
    return Splits(test[:0], test[:0], test, clusters=("group",))


def learn(train, settings):
    return Facts()


def encode(data, facts):
    words = data.records[list(facts.features)].to_numpy(np.float32)
    return Encoded({"words": words}, {"tags": data.records[TAGS].to_numpy(np.float32)})


def columns(facts):
    return dict.fromkeys(("author", *facts.features), ("long", True))


def example(data, facts):
    return data.records[["group", *facts.features]].rename(columns={"group": "author"})


CAPABILITIES = Capabilities(example=example)
