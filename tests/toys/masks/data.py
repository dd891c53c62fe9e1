"""Records whose target is an image, gathered when it is asked for."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from pipelines.core.contract import Capabilities, InputError
from pipelines.core.data.arrays import Encoded
from pipelines.core.data.dataset import Dataset
from pipelines.core.data.splits import Splits
from toys.masks import demo


@dataclass(frozen=True)
class About:
    classes: tuple[str, ...] = ("background", "bright", "dark")


@dataclass(frozen=True)
class Facts:
    classes: tuple[str, ...]
    features: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read(path, settings):
    if path is not None:
        raise InputError(f"expected the demo. Received: {path}.")
    scene, images, masks = demo.make()
    columns = {"id": np.arange(len(scene)), "group": scene, "image": _rows(images), "mask": _rows(masks)}
    columns |= {"labelled": True, "digest": pd.util.hash_array(images.sum(axis=(1, 2)))}
    return Dataset(pd.DataFrame(columns), About(), ("digest",))


def _rows(arrays):
    return pd.Series(list(arrays.reshape(len(arrays), -1)), dtype=object)


def parse(table, facts):
    records = pd.DataFrame({"id": table.index, "image": table["image"], "labelled": False})
    return Dataset(records, About(facts.classes), ("id",))


def describe(data):
    return f"{len(data)} pictures"


def split(data, settings):
    fold = data.records["group"] // 2 % 5
    train, validation, test = (np.flatnonzero(side) for side in (fold > 1, fold == 1, fold == 0))
    return replace(select_test(data, test), train=train, validation=validation, rule="by scene")


def select_test(data, test):
    return Splits(test[:0], test[:0], test, clusters=("group",))


def learn(train, settings):
    return Facts(train.about.classes)


def encode(data, facts):
    images = np.stack(data.records["image"].tolist()).reshape(-1, demo.SIZE, demo.SIZE, 1).astype(np.float32)
    if "mask" not in data:
        return Encoded({"image": images})
    return Encoded({"image": images}, {"mask": np.stack(data.records["mask"].tolist()).reshape(images.shape[:3])})


def columns(facts):
    return {"image": ("binary", True)}


CAPABILITIES = Capabilities(
    example=lambda data, facts: data.records[["image"]],
    drift_summary=lambda data, facts: pd.DataFrame({"brightness": [image.mean() for image in data.records["image"]]}),
)
