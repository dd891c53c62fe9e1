"""What becomes of networks that had nothing to learn: `make bench-shuffled`.

Each pipeline is trained with many seeds on small demo data whose labels were permuted over all records, so that
nothing that feeds the network says anything about them; stocks takes random walks, another one for each seed. Every
network is judged as a first model, without a champion before it. Nothing is stored.

Expected: no champion, and at most two challengers in a pipeline; all others are refused. The exit code is 1 otherwise.
A network takes six to eighteen seconds on two shared cores, most of it to compile it and to fit the baselines.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tyro
from threadpoolctl import threadpool_limits

from pipelines.core.contract import Pipeline, Settings, discover
from pipelines.core.data import leakage
from pipelines.core.data.dataset import Dataset
from pipelines.core.review import promotion
from pipelines.core.store.registry import Version
from pipelines.core.training import device
from pipelines.core.training.trial import trial

MOST_CHALLENGERS = 2
KINDS = ("champion", "challenger", "refused")
QUICK: dict[str, dict[str, Any]] = {
    "fraud": {"epochs": 2},
    "medical_images": {"epochs": 2, "width": 8},
    "speech_commands": {"epochs": 2, "size": "tiny", "stream_minutes": 0},
    "stocks": {"epochs": 2},
}
"""Settings with which a network is trained in seconds."""
CUSTOMERS, IMAGES, VOICES, TICKERS, DAYS = 100, 400, 16, 4, 1_200
"""Sizes of the small demo data: with 12 voices shuffled words are too rare to be on every side."""


@dataclass(frozen=True)
class Options:
    """What to train."""

    seeds: int = 40
    """Networks of each pipeline."""
    pipelines: tuple[str, ...] = tuple(QUICK)
    """Pipelines to train."""


# ------------------------------------------------------------------------------------------------------ small demo data


def payments(customers: int = CUSTOMERS) -> pd.DataFrame:
    """Every payment of the demo's first customers."""
    from pipelines.fraud import demo

    table = demo.make(0)
    return table[table["customer"] < f"C{customers:04d}"]


def walks(seed: int) -> pd.DataFrame:
    """Random walks of a few tickers over a few years."""
    from pipelines.stocks import demo

    table = demo.random_walk(seed)
    return table[table["Ticker"].isin(table["Ticker"].unique()[:TICKERS]) & (table.groupby("Ticker").cumcount() < DAYS)]


def written(pipeline: Pipeline, table: pd.DataFrame, settings: Settings) -> Dataset:
    """The table as a file of a user's own would be read."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "demo.parquet"
        table.to_parquet(path, index=False)
        return pipeline.data.read(path, settings)


def radiographs(settings: Settings, images: int = IMAGES) -> Dataset:
    """So many of the demo's radiographs."""
    from pipelines.medical_images import data, demo

    whole, demo.IMAGES = demo.IMAGES, images
    try:
        return data.read(None, settings)
    finally:
        demo.IMAGES = whole


def voices(settings: Settings, count: int = VOICES) -> Dataset:
    """The clips of so many of the demo's voices, and all clips of silence."""
    from pipelines.speech_commands import data
    from pipelines.speech_commands.listing import SILENCE

    whole = data.read(None, settings)
    silent = whole.records["word"] == SILENCE
    kept = silent | whole.records["group"].isin(whole.records["group"][~silent].unique()[:count])
    return replace(whole, records=whole.records[kept].reset_index(drop=True))


# --------------------------------------------------------------------------------------------------------------- trials


def shuffled(data: Dataset, seed: int) -> Dataset:
    """The data with the labels of the labelled records permuted among them."""
    rows, label = np.flatnonzero(data.labelled), data.records["label"].to_numpy().copy()
    label[rows] = label[np.random.default_rng(seed).permutation(rows)]
    return replace(data, records=data.records.assign(label=label))


def unlearnable(pipeline: Pipeline, seeds: int) -> Iterator[tuple[Dataset, Settings]]:
    """For each seed data of which nothing can be learnt, with the settings to train on them."""
    small: dict[str, Callable[[Any], Dataset]] = {
        "fraud": lambda settings: written(pipeline, payments(), settings),
        "medical_images": radiographs,
        "speech_commands": voices,
    }
    settings = pipeline.settings(**QUICK[pipeline.name])
    data = small[pipeline.name](settings) if pipeline.name in small else None
    for seed in range(seeds):
        own = replace(settings, seed=seed)
        yield (shuffled(data, seed) if data else written(pipeline, walks(seed), own)), own


def decision(pipeline: Pipeline, data: Dataset, settings: Settings) -> str:
    """What is decided about a network that is trained on the data as a first model."""
    keras.utils.clear_session()
    machine = device.setup(settings.seed, settings.device, settings.precision)
    splits = pipeline.data.split(data, settings)
    classes = pipeline.task.classes(pipeline.data.learn(data.take(splits.train), settings))
    with threadpool_limits(1, "openmp"):  # on so few records the threads of boosted trees only wait for one another
        outcome = trial(pipeline, data, leakage.refuse_leaks(data, splits, classes), settings, machine)
    return promotion.decide(outcome, Version(pipeline.name, 1, "", {}), None).kind


def row(pipeline: Pipeline, seeds: int) -> dict[str, Any]:
    """How many networks of a pipeline became what, and in how many seconds."""
    started = time.perf_counter()
    counts = Counter(decision(pipeline, *one) for one in unlearnable(pipeline, seeds))
    return {kind: counts[kind] for kind in KINDS} | {"seconds": time.perf_counter() - started}


def faults(table: pd.DataFrame) -> list[str]:
    """A sentence for each pipeline, the table's index, that lets networks pass that have learnt nothing."""
    found = []
    for name, counts in table.iterrows():
        if counts["champion"]:
            found.append(f"{name}: expected no champion. Received: {counts['champion']:.0f}.")
        if counts["challenger"] > MOST_CHALLENGERS:
            found.append(
                f"{name}: expected at most {MOST_CHALLENGERS} challengers. Received: {counts['challenger']:.0f}."
            )
    return found


def main(options: Options) -> int:
    """Print the table, a line as soon as a pipeline is done; return 1 if networks pass that have learnt nothing."""
    known, rows = discover(), {}
    for name in options.pipelines:
        rows[name] = row(known[name], options.seeds)
        print(f"{name}: " + ", ".join(f"{what} {value:.0f}" for what, value in rows[name].items()), flush=True)
    table = pd.DataFrame(rows).T
    print(f"\nLabels shuffled, or random walks; {options.seeds} seeds\n" + table.round().astype(int).to_string())
    wrong = faults(table)
    print("\n" + ("\n".join(wrong) or f"No champion, and no pipeline with more than {MOST_CHALLENGERS} challengers."))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, description=__doc__)))
